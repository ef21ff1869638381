//! Whole runs against a fake server whose delays, tokens and errors are known.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod binary;
mod fake_app;
mod fake_learner;
mod fake_preferences;
mod fake_server;
mod learn;
mod mix;
mod preferences;

use std::future::{pending, ready};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::Mutex;

use loadtest::report::{LevelReport, Report};
use loadtest::run::{run, Options};
use loadtest::scenario::{resolve, RawScenario, Scenario};
use loadtest::table;
use loadtest::target::Target;

use fake_server::{FakeServer, GAP, KEY, PROMPT_TOKENS, TTFT};

/// A scenario: `[load]` lines, `[request]` lines, three users in turn.
fn scenario(load: &str, request: &str) -> Scenario {
    let text = format!(
        "[load]\n{load}\n[request]\n{request}\n[prompts]\nsource = \"synthetic\"\ntokens = 5\n\
         [[users]]\ncount = 3\npopularity = \"distinct\"\n"
    );
    resolve(&RawScenario::parse(&text, Path::new("test.toml")).unwrap()).unwrap()
}

fn options(url: &str, key: Option<&str>) -> Options {
    let target = Target::new(url, key.map(str::to_owned)).unwrap();
    Options {
        target,
        note: None,
        quiet: true,
    }
}

async fn run_on(server: &FakeServer, scenario: &Scenario) -> Report {
    run(scenario, options(&server.url, None), pending())
        .await
        .unwrap()
}

fn only(report: &Report) -> &LevelReport {
    assert_eq!(report.levels.len(), 1);
    &report.levels[0]
}

const CLOSED: &str = "kind = \"closed\"\nconcurrency = [2]\nrequests = 6\nwarmup = 2";

#[tokio::test]
async fn a_streamed_run_counts_tokens_times_and_users() {
    let server = FakeServer::start().await;
    let report = run_on(&server, &scenario(CLOSED, "max_tokens = 4")).await;
    let level = &only(&report).numbers;

    assert_eq!((level.ok, level.failed, level.not_sent), (6, 0, 0));
    assert_eq!(
        (level.output_tokens, level.prompt_tokens),
        (24, 6 * PROMPT_TOKENS)
    );
    assert_eq!(level.counted_by_server, 6);
    assert_eq!(level.distinct_users, 3);
    assert_eq!(level.adapter_versions["v-abc"], 6);
    assert_eq!(level.system_fingerprints["fp_1"], 6);
    assert_eq!(report.server.models, ["attune", "base", "learner"]);

    // The server sleeps at least so long; the first, empty chunk must not count as a token.
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    let (ttft, e2e) = (level.ttft_ms.unwrap(), level.e2e_ms.unwrap());
    assert!(ttft.p50 >= millis(TTFT), "{ttft:?}");
    assert!(e2e.p50 >= millis(TTFT + 3 * GAP), "{e2e:?}");
    assert_eq!((ttft.count, e2e.count), (6, 6));
    assert_eq!(level.itl_ms.unwrap().count, 6 * 3);
    assert_eq!(level.tpot_ms.unwrap().count, 6);
    let three_rounds = (3 * (TTFT + 3 * GAP)).as_secs_f64();
    assert!(level.wall_s >= three_rounds, "{}", level.wall_s);
    assert!(level.requests_per_s <= 6.0 / three_rounds);

    // Two of warm-up, then six.
    let bodies = server.seen.bodies.lock().unwrap();
    assert_eq!(bodies.len(), 8);
    let mut users: Vec<&str> = bodies[2..]
        .iter()
        .map(|body| body["user"].as_str().unwrap())
        .collect();
    users.sort_unstable();
    assert_eq!(
        users,
        ["user-0", "user-0", "user-1", "user-1", "user-2", "user-2"]
    );
    assert_eq!(bodies[2]["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn connections_are_reused_only_when_asked() {
    for (keep_alive, expected) in [(false, 8..=8), (true, 1..=2)] {
        let server = FakeServer::start().await;
        let request = format!("max_tokens = 2\nkeep_alive = {keep_alive}");
        run_on(&server, &scenario(CLOSED, &request)).await;
        let connections = server.seen.peers.lock().unwrap().len();
        assert!(
            expected.contains(&connections),
            "{connections}, keep_alive {keep_alive}"
        );
    }
}

#[tokio::test]
async fn every_failure_is_counted_under_its_kind() {
    let cases = [
        (
            "overloaded",
            "http 503 engine_overloaded",
            "engine_overloaded!",
        ),
        ("html", "http 502 -", "bad gateway"),
        ("never", "timeout", "no end after 100ms"),
        ("garbage", "body", "chunk is not what it should be"),
        ("breaks", "body", ""),
        ("stream-error", "stream_error engine_failed", "m"),
        ("no-done", "no_done", "stream ended after 2 chunks"),
    ];
    let server = FakeServer::start().await;
    for (model, kind, example) in cases {
        let timeout = if model == "never" { "100ms" } else { "60s" };
        let request = format!("model = {model:?}\nmax_tokens = 2\ntimeout = {timeout:?}");
        let report = run_on(&server, &scenario(CLOSED, &request)).await;
        let level = only(&report);
        assert_eq!((level.numbers.ok, level.numbers.failed), (0, 6), "{model}");
        assert_eq!(level.warmup_failed, 2, "{model}");
        let kinds: Vec<&String> = level.numbers.errors.keys().collect();
        assert_eq!(kinds, [kind], "{model}");
        let errors = &level.numbers.errors[kind];
        assert_eq!(errors.count, 6);
        assert!(
            errors.example.contains(example),
            "{model}: {}",
            errors.example
        );
        assert_eq!(
            level.numbers.output_tokens, 0,
            "failed answers add no tokens"
        );
        assert_eq!(report.unanswered(), 6);
        assert!(table::render(&report).contains(&format!("6 x {kind}")));
    }
}

#[tokio::test]
async fn errors_and_answers_are_kept_apart() {
    let server = FakeServer::start().await;
    let load = "kind = \"closed\"\nrequests = 9";
    let report = run_on(
        &server,
        &scenario(load, "model = \"every-third-fails\"\nmax_tokens = 2"),
    )
    .await;
    let level = &only(&report).numbers;
    assert_eq!((level.ok, level.failed, level.output_tokens), (6, 3, 12));
    assert_eq!(level.errors["http 429 rate"].count, 3);
    assert_eq!(level.e2e_ms.unwrap().count, 6);
}

#[tokio::test]
async fn other_routes_and_servers() {
    let server = FakeServer::start().await;
    let cases = [
        ("endpoint = \"completions\"", 6, true),
        ("stream = false", 6, false),
        ("endpoint = \"completions\"\nstream = false", 6, false),
        ("model = \"no-usage\"", 0, true),
    ];
    for (request, counted_by_server, streamed) in cases {
        let request = format!("{request}\nmax_tokens = 3");
        let report = run_on(&server, &scenario(CLOSED, &request)).await;
        let level = &only(&report).numbers;
        assert_eq!((level.ok, level.output_tokens), (6, 18), "{request}");
        assert_eq!(level.counted_by_server, counted_by_server, "{request}");
        assert_eq!(level.ttft_ms.is_some(), streamed, "{request}");
        assert_eq!(
            level.prompt_tokens_per_s.is_some(),
            counted_by_server > 0,
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_closed_loop_keeps_so_many_requests_in_flight() {
    // No answer begins before five requests are there: fewer clients would hang, and time out.
    let server = FakeServer::with(5, false, |_| {}).await;
    let load = "kind = \"closed\"\nconcurrency = [5]\nrequests = 15";
    let report = run_on(
        &server,
        &scenario(load, "stream = false\ntimeout = \"20s\""),
    )
    .await;
    assert_eq!(only(&report).numbers.ok, 15);
    assert_eq!(server.seen.max_in_flight.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn an_open_loop_counts_from_the_scheduled_start() {
    // One at a time takes at least 30 ms each, but one is due every 10 ms.
    let server = FakeServer::start().await;
    let load = "kind = \"rate\"\nrates = [100.0]\narrivals = \"constant\"\nmax_in_flight = 1\n\
                requests = 4";
    let report = run_on(&server, &scenario(load, "max_tokens = 1")).await;
    let level = &only(&report).numbers;
    assert_eq!((level.ok, level.not_sent), (4, 0));
    // The fourth is due at 30 ms, sent at 90 ms or later, answered at 120 ms or later.
    assert!(
        level.send_lag_ms.unwrap().max >= 60.0,
        "{:?}",
        level.send_lag_ms
    );
    assert!(level.e2e_ms.unwrap().max >= 90.0, "{:?}", level.e2e_ms);
    assert!(level.ttft_ms.unwrap().max >= 90.0, "{:?}", level.ttft_ms);
}

#[tokio::test]
async fn an_open_loop_does_not_wait_for_answers() {
    // All four must be in flight before the first is answered.
    let server = FakeServer::with(4, false, |_| {}).await;
    let load = "kind = \"rate\"\nrates = [1000.0]\nrequests = 4";
    let report = run_on(
        &server,
        &scenario(load, "stream = false\ntimeout = \"20s\""),
    )
    .await;
    assert_eq!(only(&report).numbers.ok, 4);
}

#[tokio::test]
async fn duration_ends_a_level_before_its_requests_do() {
    let server = FakeServer::start().await;
    let load = "kind = \"closed\"\nrequests = 1000000\nduration = \"300ms\"";
    let report = run_on(&server, &scenario(load, "max_tokens = 1")).await;
    let level = &only(&report).numbers;
    // Each takes at least 30 ms; the last one starts before 300 ms.
    assert!((1..=10).contains(&level.ok), "{}", level.ok);
    assert_eq!((level.failed, level.not_sent), (0, 0));
    assert!(!report.interrupted);
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_finish_and_reports_them() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let server = FakeServer::with(1, false, move |number| {
        if number == 3 {
            sender.lock().unwrap().take().unwrap().send(()).unwrap();
        }
    })
    .await;
    let scenario = scenario("kind = \"closed\"\nconcurrency = [1, 2]\nrequests = 50", "");
    let stop = async { receiver.await.unwrap() };
    let report = run(&scenario, options(&server.url, None), stop)
        .await
        .unwrap();
    assert!(report.interrupted);
    let level = &only(&report).numbers;
    assert_eq!((level.ok, level.failed), (3, 0));
    assert!(table::render(&report).contains("Interrupted"));

    let open = crate::scenario("kind = \"rate\"\nrates = [1.0]\nrequests = 5", "");
    let report = run(&open, options(&server.url, None), ready(()))
        .await
        .unwrap();
    assert_eq!(only(&report).numbers.not_sent, 5);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_locked_is_said_plainly() {
    let scenario = scenario(CLOSED, "max_tokens = 1");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = run(&scenario, options(&url, None), pending())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nothing answers at") && error.contains("--url"),
        "{error}"
    );

    let server = FakeServer::with(1, true, |_| {}).await;
    let refused = run(&scenario, options(&server.url, Some("wrong")), pending()).await;
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("401") && error.contains("--api-key"),
        "{error}"
    );
    let report = run(&scenario, options(&server.url, Some(KEY)), pending())
        .await
        .unwrap();
    assert_eq!(report.unanswered(), 0);
}
