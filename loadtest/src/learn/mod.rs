//! Simulated people with hidden tastes: does the server learn what they prefer?
//!
//! A run reads from top to bottom as
//! `scenario` (who, which questions) -> `exam` (before) -> `lessons` (chats with two answers, the
//! better one goes back as a preference) -> `turn` (somebody trains and promotes) -> `exam`
//! (after) -> `report` (JSON) -> `table`, `plot`.
//!
//! | module | subject |
//! |---|---|
//! | [`taste`] | the judge: of two texts, the one that a taste prefers |
//! | [`scenario`] | the TOML file, as typed and checked |
//! | [`ask`] | one chat request, one preference |
//! | [`exam`] | held-out questions, asked by everybody and by nobody |
//! | [`lessons`] | training questions, and the preferences that come of them |
//! | [`turn`] | the command that trains and promotes, or the wait for it |
//! | [`rates`] | win rates and their intervals |
//! | [`report`], [`table`], [`plot`] | what is said at the end |
//! | [`run`] | all of it in order |

pub mod ask;
pub mod exam;
pub mod lessons;
pub mod plot;
pub mod rates;
pub mod report;
pub mod run;
pub mod scenario;
pub mod table;
pub mod taste;
pub mod turn;
