//! Preference pairs become an adapter version.
//!
//! | module | subject |
//! |---|---|
//! | [`loss`] | one loss a file: the log-probabilities of a pair in, value and derivatives out |

pub mod loss;
