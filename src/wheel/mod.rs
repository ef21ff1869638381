//! `attune loop`: what people preferred becomes a version, and the version answers if it is better.
//!
//! One turn of the wheel: export, train, evaluate on pairs that were set aside, install, promote or keep,
//! record why.
//!
//! | file | subject |
//! |---|---|
//! | [`mod@turn`] | one turn, from the snapshot to the decision |
//! | [`repeat`] | turn after turn; the command line's side |
//! | [`verdict`] | whether a candidate is better, and the words and numbers for it |
//! | [`target`] | the data directory that is turned: of a server that runs, or of none |
//! | [`client`] | the admin routes of a server that runs |
//! | [`work_dir`] | what a turn leaves on disk, and for how long |

pub mod client;
pub mod error;
pub mod repeat;
pub mod target;
pub mod turn;
pub mod verdict;
pub mod work_dir;

pub use error::WheelError;
pub use turn::{turn, Turn, TurnOutcome};
