//! What an operator does with a running server. Every route needs the role `admin`, which is not
//! bounded by a tenant; it is asked for before anything of a request is read.
//!
//! | file | subject |
//! |---|---|
//! | `adapters` | versions: install, list, retire |
//! | `aliases` | which version an alias names, and which it tries |
//! | `records` | the store's snapshot, and the decisions in it |

pub mod adapters;
pub mod aliases;
pub mod records;
