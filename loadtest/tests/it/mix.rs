//! Soaks and kills of a server that does one thing wrong, or none.

use std::future::{pending, ready, Future};
use std::path::Path;
use std::time::Duration;

use loadtest::kills::report::KillsReport;
use loadtest::kills::run::Kills;
use loadtest::mix::scenario::{resolve, Mix, RawMix};
use loadtest::mix::server::ServerCommand;
use loadtest::run::Options;
use loadtest::soak::report::SoakReport;
use loadtest::{kills, soak};

use crate::fake_app::command;

fn mix(requests: usize) -> Mix {
    let text = format!(
        "clients = 4\npeople = 16\nrequests = {requests}\nsample_every = \"10ms\"\n[weights]\nchat = 4\nkeep = 3\n\
         feedback = 2\npreference = 3\ndelete = 1\n"
    );
    let mut raw: RawMix = toml::from_str(&text).unwrap();
    raw.file = "mix.toml".into();
    resolve(&raw).unwrap()
}

fn options(command: &ServerCommand) -> Options {
    Options {
        target: command.target(None).unwrap(),
        note: None,
        quiet: true,
    }
}

async fn killed(state: &Path, fault: &str) -> KillsReport {
    killed_until(state, fault, pending()).await
}

async fn killed_until(state: &Path, fault: &str, stop: impl Future<Output = ()>) -> KillsReport {
    let command = ServerCommand::new(&command(&state.join("records"), fault)).unwrap();
    let options = options(&command);
    let plan = Kills {
        count: 3,
        longest_life: Duration::from_millis(400),
        command,
    };
    kills::run::run(&mix(1), options, &plan, stop)
        .await
        .unwrap()
}

async fn soaked(state: &Path, fault: &str) -> SoakReport {
    let command = ServerCommand::new(&command(&state.join("records"), fault)).unwrap();
    soak::run::run(&mix(6000), options(&command), &command, pending())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_server_that_keeps_its_word_loses_nothing_by_kills() {
    let state = tempfile::tempdir().unwrap();
    let report = killed(state.path(), "none").await;
    assert_eq!(report.mix.broken, Vec::<String>::new());
    assert_eq!(report.kills, 3);
    assert!(report.mix.acknowledged > 20, "{report:?}");
    let text = kills::report::render(&report);
    assert!(
        text.contains("Nothing that was acknowledged is lost"),
        "{text}"
    );
}

#[tokio::test]
async fn who_stops_a_run_gets_the_report_of_what_was_done() {
    let state = tempfile::tempdir().unwrap();
    let report = killed_until(state.path(), "none", ready(())).await;
    assert_eq!((report.kills, report.mix.interrupted), (0, true));
    assert_eq!(report.mix.broken, Vec::<String>::new());

    let state = tempfile::tempdir().unwrap();
    let command = ServerCommand::new(&command(&state.path().join("records"), "none")).unwrap();
    let mix = mix(1_000_000);
    let soaked = soak::run::run(&mix, options(&command), &command, ready(()));
    let report = soaked.await.unwrap();
    assert!(report.mix.interrupted, "{report:?}");
    assert_eq!(report.mix.broken, Vec::<String>::new());
}

#[tokio::test]
async fn each_way_of_breaking_it_is_found() {
    for (fault, expected) in [
        ("loses", "was acknowledged and is not there"),
        ("doubles", "is there twice"),
        ("revives", "is there, which was deleted"),
    ] {
        let state = tempfile::tempdir().unwrap();
        let report = killed(state.path(), fault).await;
        let found = report
            .mix
            .broken
            .iter()
            .any(|broken| broken.contains(expected));
        assert!(found, "{fault}: {:?}", report.mix.broken);
    }
}

#[tokio::test]
async fn a_soak_sees_whether_memory_grows() {
    let state = tempfile::tempdir().unwrap();
    let report = soaked(state.path(), "none").await;
    assert_eq!(report.faults(), Vec::<String>::new());
    assert!(report.mix.acknowledged > 200, "{report:?}");
    assert!(soak::report::render(&report).contains("flat"));

    let state = tempfile::tempdir().unwrap();
    let report = soaked(state.path(), "leaks").await;
    let faults = report.faults();
    assert!(
        faults.len() == 1 && faults[0].starts_with("memory MiB grows"),
        "{faults:?}"
    );
}
