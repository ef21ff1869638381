//! What apps do to a server all day, told as a scenario: short chats, readers that go away or are slow, kept
//! answers, ratings, preferences, deletions, and an operator who changes versions meanwhile. `soak` asks what that
//! does to the server, `kills` what is left of it after a kill.
//!
//! | module | subject |
//! |---|---|
//! | [`scenario`] | who does what how often |
//! | [`client`] | one client: picks a deed, does it, tells the ledger |
//! | [`slow`] | a reader that hardly reads, on a socket with a small buffer |
//! | [`operator`] | versions are installed, promoted and rolled back |
//! | [`ledger`] | what the server has acknowledged, and what may be there beside it |
//! | [`records`] | what the server has of a person |
//! | [`server`] | the server's process |
//! | [`report`] | what both say of it |

pub mod client;
pub mod ledger;
pub mod operator;
pub mod records;
pub mod report;
pub mod scenario;
pub mod server;
pub mod slow;
