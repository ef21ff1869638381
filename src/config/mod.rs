//! Configuration in two stages: what was typed, and what it means.
