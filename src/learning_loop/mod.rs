//! `attune loop`: what people preferred becomes a version, and the version answers if it is better.
//!
//! One turn: export, train, evaluate on pairs that were set aside, install, promote or keep,
//! record why.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@turn`] | one turn, from the snapshot to the decision |
//! | [`repeat`] | turn after turn; the command line's side |
//! | [`fit`] | a turn that fits new people, and changes nothing else |
//! | [`gate`] | what a candidate has to do |
//! | [`spending`] | how often chance may be right, over all turns |
//! | [`verdict`] | whether a candidate answers, with the words and numbers for it |
//! | [`secret`] | what draws the pairs that are set aside |
//! | [`target`] | the data directory that is turned: of a server that runs, or of none |
//! | [`client`] | the admin routes of a server that runs |
//! | [`work_dir`] | what a turn leaves on disk, and for how long |

pub mod client;
pub mod error;
pub mod fit;
pub mod gate;
pub mod repeat;
pub mod secret;
pub mod spending;
pub mod target;
pub mod turn;
pub mod verdict;
pub mod work_dir;

#[cfg(test)]
mod simulation;

pub use error::LoopError;
pub use turn::{turn, Turn, TurnOutcome};
