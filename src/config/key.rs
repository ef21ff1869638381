//! `attune key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `attune key`.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key and print it. That happens once: the file keeps a hash.
    New(KeyNew),
    /// Show what the file says of its keys, without the keys.
    List {
        /// Where.
        #[command(flatten)]
        file: KeyFile,
    },
    /// Remove a key.
    Revoke {
        /// Its name, or its prefix as `attune key list` shows it.
        key: String,
        /// Where.
        #[command(flatten)]
        file: KeyFile,
    },
}

/// `attune key new`.
#[derive(Debug, Args)]
pub struct KeyNew {
    /// A name, for logs and for `attune key revoke`.
    #[arg(long)]
    pub name: String,
    /// Owner of its user ids [default: default]. With the role admin: the tenant that it manages, or * for the
    /// whole server.
    #[arg(long)]
    pub tenant: Option<String>,
    /// What it may do; may be given several times.
    #[arg(long = "role", value_delimiter = ',', default_value = "inference",
        value_parser = ["inference", "feedback", "users", "admin"])]
    pub roles: Vec<String>,
    /// Ids of the people it may act for [default: everybody in the tenant].
    #[arg(long, value_delimiter = ',')]
    pub users: Vec<String>,
    /// The person for whom requests act that name nobody.
    #[arg(long)]
    pub user: Option<String>,
    /// When it expires: a date (2027-01-31), a time (2027-01-31T12:00:00Z), or days from now (90d).
    #[arg(long)]
    pub expires: Option<String>,
    /// Where.
    #[command(flatten)]
    pub file: KeyFile,
}

/// The file with API keys.
#[derive(Debug, Args)]
pub struct KeyFile {
    /// File with API keys, that of `attune serve`; `attune key new` makes it if it is not there.
    #[arg(long, env = "ATTUNE_API_KEYS")]
    pub api_keys: PathBuf,
}
