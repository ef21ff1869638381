//! The secret that draws what is set aside, `loop/split-secret` in the data directory.
//!
//! It is made once and stays, so that a pair is on the same side in every turn. Nobody who sends preferences
//! can tell from them which ones judge.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rand::rngs::OsRng;
use rand::TryRngCore;

use super::LoopError;
use attune_files::replace::{replace, Readers};
use attune_train::dataset::split::SplitSecret;

const FILE: &str = "split-secret";

/// The secret of the loop in `dir`, made if there is none. One process at a time.
///
/// # Errors
/// A disk that fails; a file that holds something else.
pub fn split_secret(dir: &Path) -> Result<SplitSecret, LoopError> {
    let path = dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut secret = [0; 32];
            match hex::decode_to_slice(text.trim(), &mut secret) {
                Ok(()) => Ok(SplitSecret(secret)),
                Err(_) => Err(LoopError::NoSecret(path)),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
        Err(error) => Err(LoopError::io(&path)(error)),
    }
}

fn make(path: &Path) -> Result<SplitSecret, LoopError> {
    let mut secret = [0; 32];
    OsRng
        .try_fill_bytes(&mut secret)
        .map_err(|error| LoopError::io(path)(io::Error::other(error)))?;
    // Whole or not at all: half a secret would stop every turn.
    let text = hex::encode(secret);
    replace(path, Readers::Owner, text.as_bytes()).map_err(LoopError::io(path))?;
    Ok(SplitSecret(secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_its_owner() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let first = split_secret(one.path()).unwrap();
        assert_eq!(first, split_secret(one.path()).unwrap());
        assert_ne!(first, split_secret(other.path()).unwrap());
        let file = one.path().join(FILE);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names = fs::read_dir(one.path()).unwrap();
        assert_eq!(names.count(), 1);
        for wrong in ["", "12", &"g".repeat(64), &"a".repeat(66)] {
            fs::write(&file, wrong).unwrap();
            let error = split_secret(one.path()).unwrap_err().to_string();
            assert!(
                error.contains("split-secret") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
