//! Preference losses: the log-probabilities of one pair in, value and derivatives out, in f64.
//!
//! A loss, with its near relations, is one file with paper, equation and (d_w, d_l), plus one line in
//! [`objective`] and one in docs/papers.md. Notation, as in the gradient-entanglement paper (2410.13828):
//!
//! | here | paper | meaning |
//! |---|---|---|
//! | a_w, a_l | log pi(y_w given x), log pi(y_l given x) | sums over the tokens of a response, EOS included |
//! | ref_w, ref_l | log pi_ref(...) | the same under the reference |
//! | D_w, D_l | a - ref | log-ratios |
//! | n_w, n_l | number of tokens | EOS included |
//! | m_w, m_l | a / n | log-probability per token |
//! | s | | what the log-sigmoid is taken of |
//! | d_w, d_l | -dL/da_w, dL/da_l | how hard a step pushes chosen up and rejected down |
//!
//! [`PairLoss`] holds dL/da of both sides: `d_chosen` = -d_w and `d_rejected` = d_l. Not here: TRL's
//! `kto_pair`, whose two KL terms are means over a batch, so that it is no function of one pair.

pub mod apo_down;
pub mod apo_zero;
pub mod cpo;
pub mod dpo;
pub mod dpop;
pub mod exo_pair;
pub mod grpo;
pub mod hinge;
pub mod ipo;
pub mod ipo_avg;
pub mod math;
pub mod nca_pair;
pub mod nll;
pub mod objective;
pub mod orpo;
pub mod pair;
pub mod params;
pub mod rdpo;
pub mod robust;
pub mod rrhf;
pub mod sft;
pub mod simpo;
pub mod slic_hf;
pub mod sppo;
#[cfg(test)]
mod tests;

pub use objective::Objective;
pub use pair::{PairLogps, PairLoss};
