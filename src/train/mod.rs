//! Preference pairs become an adapter version.
//!
//! | module | subject |
//! |---|---|
//! | [`dataset`] | files of preference pairs, read and checked; held-out pairs and users |

pub mod dataset;
