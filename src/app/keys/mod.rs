//! API keys: who calls, what they may do, and for whom they may act.
//!
//! Only hashes of keys stay in memory, and nothing of a key is ever logged.
//!
//! | file | subject |
//! |---|---|
//! | [`caller`] | what a key may do, and for whom |
//! | [`mod@file`] | the file that names the keys |
//! | [`ring`] | the keys that are accepted now |
//! | [`watch`] | a file that changes is read again |
//! | [`edit`] | keys are made and revoked in the file |
//! | [`list`] | the keys of the file, for people |

pub mod caller;
pub mod edit;
pub mod file;
pub mod list;
pub mod ring;
pub mod watch;

pub use caller::{AllowedUsers, Caller, Reach, Role};
pub use file::KeyFileError;
pub use ring::{KeyRefused, KeyRing};
