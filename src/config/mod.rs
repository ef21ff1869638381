//! Configuration in two stages: what was typed ([`raw`]), and what it means ([`resolved`]).

pub mod raw;
pub mod resolved;
