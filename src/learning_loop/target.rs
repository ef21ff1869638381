//! The data directory that is turned: of a server that runs, or of none.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::client::Client;
use super::LoopError;
use crate::app::address;
use crate::app::boot::now_unix_ms;
use crate::app::versions::{Versions, VersionsError};
use attune_adapter::publish;
use attune_store::{AdapterSource, CasError, DecisionRecord, StoreError};

/// A data directory, and how its server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The folder from which its server installs.
    pub bundles: PathBuf,
    /// The server's URL; `None`: the server's own word, if one runs.
    pub url: Option<String>,
    /// A key with the role `admin`, if the server has keys.
    pub key: Option<String>,
}

/// Who has the store. Asked anew for each step: a server may start or stop while a version is trained.
enum Holder {
    Server(Client),
    Nobody(Box<Versions>),
}

impl Target {
    /// Looks whether there is something to turn, before anything is written.
    ///
    /// # Errors
    /// [`LoopError::NoStore`].
    pub fn check(&self) -> Result<(), LoopError> {
        if self.url.is_none() && !self.data_dir.join("store").is_dir() {
            return Err(LoopError::NoStore(self.data_dir.clone()));
        }
        Ok(())
    }

    /// Writes a snapshot of the store to `out`.
    ///
    /// # Errors
    /// A server or a store that cannot be used; a disk that fails.
    pub fn snapshot(&self, out: &Path) -> Result<(), LoopError> {
        match self.holder()? {
            Holder::Server(client) => client.snapshot(out),
            Holder::Nobody(versions) => {
                let file = File::create(out).map_err(LoopError::io(out))?;
                let mut file = BufWriter::new(file);
                versions.store().export(&mut file)?;
                file.flush().map_err(LoopError::io(out))
            }
        }
    }

    /// Installs the bundle in `dir`.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot); a bundle that cannot be used.
    pub fn install(&self, dir: &Path) -> Result<(), LoopError> {
        match self.holder()? {
            Holder::Server(client) => {
                fs::create_dir_all(&self.bundles).map_err(LoopError::io(&self.bundles))?;
                let version = publish::copy(dir, &self.bundles)?;
                let installed = client.install(version.as_str());
                // The server has a copy of its own, or refused this one.
                let removed = publish::remove(&self.bundles, &version);
                installed.map_err(|error| self.elsewhere(error))?;
                Ok(removed?)
            }
            Holder::Nobody(versions) => {
                // It was just trained on the model that it is for.
                let offered = versions.offered(dir)?;
                versions.install_offered(offered, None, AdapterSource::Trained, now_unix_ms())?;
                Ok(())
            }
        }
    }

    /// Records a decision, and carries it out: both or neither. A server gives it a name and a time of its
    /// own.
    ///
    /// # Errors
    /// [`LoopError::Conflict`]: the alias is not where the decision says; as above.
    pub fn decide(&self, decision: &DecisionRecord) -> Result<(), LoopError> {
        match self.holder()? {
            Holder::Server(client) => client.decide(decision),
            Holder::Nobody(versions) => match versions.store().decide(decision) {
                Ok(_) => Ok(()),
                Err(error @ CasError::Conflict { .. }) => {
                    Err(LoopError::Conflict(error.to_string()))
                }
                Err(error) => Err(VersionsError::from(error).into()),
            },
        }
    }

    /// A server that does not find what was just put into the folder looks into another one.
    fn elsewhere(&self, error: LoopError) -> LoopError {
        match error {
            LoopError::Refused {
                url,
                status: 404,
                message,
            } => LoopError::Refused {
                url,
                status: 404,
                message: format!(
                    "{message}; is {} the server's bundle folder? --bundles names it",
                    self.bundles.display()
                ),
            },
            error => error,
        }
    }

    fn holder(&self) -> Result<Holder, LoopError> {
        if let Some(url) = &self.url {
            return Ok(Holder::Server(Client::new(url, self.key.clone())));
        }
        self.check()?;
        match Versions::open(&self.data_dir, now_unix_ms()) {
            Ok(versions) => Ok(Holder::Nobody(Box::new(versions))),
            Err(StoreError::Locked { .. }) => {
                // One that never left word is not waited for, unlike one that is just starting again.
                address::last(&self.data_dir).map_err(|source| LoopError::Unreachable {
                    data_dir: self.data_dir.clone(),
                    source,
                })?;
                let client = Client::of_data_dir(&self.data_dir, self.key.clone());
                Ok(Holder::Server(client))
            }
            Err(error) => Err(error.into()),
        }
    }
}
