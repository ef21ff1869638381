//! Names in the folder from which bundles are installed. A caller names what lies in it and nothing
//! else: no path, and no link that leads out.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::app::error::AppError;
use attune_adapter::bundle;
use attune_adapter::AdapterError;

/// The field that holds the name.
const FIELD: &str = "path";

/// The bundle that `name` is in `folder`, or the only one that the directory of that name holds.
///
/// # Errors
/// Not a plain name, nothing of that name, or something outside of `folder`.
pub fn locate(folder: &Path, name: &str) -> Result<PathBuf, AppError> {
    if !is_plain(name) {
        return Err(refused(
            "'path' must be the plain name of a directory in the server's bundle folder",
        ));
    }
    let missing = |_| AppError::NotFound {
        what: "bundle",
        id: name.to_owned(),
    };
    let folder = fs::canonicalize(folder).map_err(missing)?;
    let named = fs::canonicalize(folder.join(name)).map_err(missing)?;
    inside(&folder, &named)?;
    // What it holds may be a link again.
    let bundle = bundle::locate(&named).map_err(unusable)?;
    let bundle = fs::canonicalize(bundle).map_err(missing)?;
    inside(&folder, &bundle)?;
    Ok(bundle)
}

/// What is told about a bundle that cannot be used; where it lies is not.
pub fn unusable(error: AdapterError) -> AppError {
    let reason = error.without_paths();
    refused(format!("the bundle cannot be used: {reason}"))
}

fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(part)), None) if part == name
    );
    // What begins with a dot is half written, or not meant to be seen.
    one && !name.starts_with('.') && !name.contains(['\\', '\0'])
}

fn inside(folder: &Path, path: &Path) -> Result<(), AppError> {
    if path.starts_with(folder) && path != folder {
        return Ok(());
    }
    Err(refused(
        "'path' names a link that leads out of the server's bundle folder",
    ))
}

fn refused(message: impl Into<String>) -> AppError {
    AppError::Invalid {
        field: FIELD,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_taken() {
        for good in ["a", "run-7", "r\u{e4}tsel", "a b", "a..b", "x.d"] {
            assert!(is_plain(good), "{good:?}");
        }
        for bad in [
            "", ".", "..", "/", "/etc", "a/", "a/b", "../a", "a/..", "./a", ".hidden", "a\\b",
            "..\\a", "a\0b", "//a",
        ] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_may_not_lead_out() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        let version = "ab".repeat(32);
        fs::create_dir(outside.path().join(&version)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink(outside.path().join(&version), at("out")).unwrap();
        symlink(".", at("self")).unwrap();
        symlink("..", at("up")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        // A directory that is inside, whose only bundle is not.
        fs::create_dir(at("run")).unwrap();
        symlink(outside.path().join(&version), at("run").join(&version)).unwrap();
        fs::create_dir_all(at("good").join(&version)).unwrap();
        symlink("good", at("alias")).unwrap();
        for name in ["out", "self", "up", "run"] {
            let error = locate(folder.path(), name).unwrap_err();
            assert!(error.to_string().contains("leads out"), "{name}: {error}");
        }
        let missing = locate(folder.path(), "dangling").unwrap_err();
        assert!(matches!(missing, AppError::NotFound { .. }), "{missing}");
        for name in ["good", "alias"] {
            let found = locate(folder.path(), name).unwrap();
            assert!(found.ends_with(Path::new("good").join(&version)), "{name}");
        }
    }
}
