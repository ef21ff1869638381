//! Files in each form, and files that are wrong.

mod bounds;
mod cleaning;
mod layouts;
mod prism;
mod snapshot;
mod wrong;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A folder with files that tests write.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

pub(super) fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../../tests/fixtures/preferences").join(name)
}

/// Reads one file with this name and content.
pub(super) fn read_as(name: &str, content: impl AsRef<[u8]>) -> Result<Dataset, DatasetError> {
    let folder = Folder::new();
    read(&[folder.write(name, content)])
}

/// What the error for a file says, without the folder.
pub(super) fn error_of(name: &str, content: impl AsRef<[u8]>) -> String {
    let message = read_as(name, content).unwrap_err().to_string();
    let at = message
        .find(name)
        .unwrap_or_else(|| panic!("does not name the file: {message}"));
    message[at..].to_owned()
}

/// User, prompt, chosen and rejected of each pair; a conversation as `role: content` lines.
pub(super) fn shown(dataset: &Dataset) -> Vec<[String; 4]> {
    let row = |pair: &Pair| {
        let user = pair
            .user
            .as_ref()
            .map(|key| format!("{}/{}", key.tenant, key.user));
        let prompt = match &pair.prompt {
            PairPrompt::Text(text) => text.clone(),
            PairPrompt::Messages(messages) => {
                let lines = messages
                    .iter()
                    .map(|m| format!("{}: {}", m.role, m.content));
                lines.collect::<Vec<_>>().join("\n")
            }
        };
        let user = user.unwrap_or("-".to_owned());
        [user, prompt, pair.chosen.clone(), pair.rejected.clone()]
    };
    dataset.pairs.iter().map(row).collect()
}
