//! Preference pairs become an adapter version.
//!
//! | module | subject |
//! |---|---|
//! | [`dataset`] | files of preference pairs, read and checked; held-out pairs and users |
//! | [`encode`] | text to token ids, exactly those that serving gives |

pub mod dataset;
pub mod encode;
