//! Adapter versions: what is installed, what the aliases name, what is in memory.
//!
//! | file | subject |
//! |---|---|
//! | [`data_dir`] | the records and bundles of a data directory, which are the truth |
//! | [`projection`] | what requests see of it: one moment, immutable |
//! | `project` | the store becomes the next projection |
//! | [`live`] | versions change while the server runs: a commit, then the next projection |
//! | [`first_use`] | a version that a request names is loaded then |
//! | [`forgetting`], `live_forgetting` | people who were deleted leave the versions |
//! | `retention` | old versions go |
//! | [`bundle_folder`] | names in the folder from which bundles are installed |
//! | [`describe`] | versions as lines for people |
//! | [`error`] | what goes wrong |

pub mod bundle_folder;
pub mod data_dir;
pub mod describe;
pub mod error;
pub mod first_use;
pub mod forgetting;
pub mod live;
mod live_forgetting;
mod project;
pub mod projection;
mod retention;

pub use data_dir::{Expected, LoadedBase, Versions};
pub use error::VersionsError;
pub use live::LiveVersions;
