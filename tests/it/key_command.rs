//! `attune key`, as it is typed.

use std::path::Path;

use attune::app::commands;
use attune::app::keys::{KeyRing, Reach, Role};
use attune::config::attune::{Cli, Command};
use clap::Parser;

/// What the command prints, or says where it fails.
fn key(path: &Path, arguments: &[&str]) -> Result<String, String> {
    let file = ["--api-keys", path.to_str().unwrap()];
    let typed = [&["attune", "key"], arguments, &file].concat();
    let cli = Cli::try_parse_from(typed).map_err(|error| error.to_string())?;
    let Command::Key(command) = cli.command else {
        panic!("not a key command")
    };
    commands::key(command).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_key_is_made_for_an_app_and_one_for_the_operator() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let new = |arguments: &[&str]| key(&path, &[&["new"], arguments].concat());
    let app = new(&[
        "--name",
        "app",
        "--role",
        "inference,users",
        "--expires",
        "90d",
    ])
    .unwrap();
    let operator = new(&["--name", "ops", "--role", "admin", "--tenant", "*"]).unwrap();
    let plain = new(&["--name", "plain"]).unwrap();
    let ring = KeyRing::from_file(&path).unwrap();
    let caller = |secret: &str, now| ring.authenticate(secret.trim(), now);
    let now = attune::app::boot::now_unix_ms();
    let day = 86_400_000;
    let found = caller(&app, now + 89 * day).unwrap();
    assert_eq!(found.roles, [Role::Inference, Role::Users].into());
    assert_eq!(
        (found.tenant.as_str(), found.reach),
        ("default", Reach::Tenant)
    );
    assert!(caller(&app, now + 91 * day).is_err());
    assert_eq!(caller(&operator, now).unwrap().reach, Reach::Server);
    assert_eq!(caller(&plain, now).unwrap().roles, [Role::Inference].into());

    let table = key(&path, &["list"]).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert_eq!(key(&path, &["revoke", "app"]).unwrap(), "app is revoked\n");
    ring.reload().unwrap();
    assert!(caller(&app, now).is_err() && caller(&plain, now).is_ok());
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    for (arguments, expected) in [
        (&["new", "--name", "a", "--role", "admin"][..], "--tenant"),
        (
            &["new", "--name", "a", "--role", "root"],
            "inference, feedback, users, admin",
        ),
        (&["new", "--name", "a", "--tenant", "*"], "role admin"),
        (&["new", "--name", "a", "--expires", "40000d"], "2027-01-31"),
        (&["new", "--name", "a", "--expires", "1.5d"], "2027-01-31"),
        (&["new"], "--name"),
        (&["revoke", "a"], "attune key list"),
        (&["list"], "keys.json"),
    ] {
        let said = key(&path, arguments).unwrap_err();
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(!path.exists());
}
