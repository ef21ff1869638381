//! Whole `learn` runs against a server that does learn.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

use loadtest::learn::report::{Group, LearnReport};
use loadtest::learn::run::run;
use loadtest::learn::scenario::{resolve, LearnScenario, RawLearn};
use loadtest::learn::{plot, table};
use serde_json::Value;

use crate::fake_learner::{BRIEF, GENERIC, LIST};
use crate::fake_server::FakeServer;
use crate::options;

fn scenario(head: &str) -> LearnScenario {
    let text = format!(
        "model = \"learner\"\nchats_per_user = 3\nconcurrency = 4\nmax_tokens = 9\n{head}\n\
         [users]\nshort = 2\nlist = 2\nquestions = 1\n[questions]\n\
         training = [\"Why?\", \"How?\"]\nheld_out = [\"Who?\", \"What?\"]\n"
    );
    resolve(&RawLearn::parse(&text, Path::new("test.toml")).unwrap()).unwrap()
}

/// A server whose version is what a file says.
async fn server(folder: &Path) -> FakeServer {
    let server = FakeServer::start().await;
    *server.seen.learner.version_file.lock().unwrap() = folder.join("version");
    server.seen.learner.listed.store(true, Ordering::SeqCst);
    server
}

fn promote(folder: &Path) -> String {
    format!("printf v2 > {}", folder.join("version").display())
}

async fn learn(server: &FakeServer, head: &str, turn: Option<&str>) -> anyhow::Result<LearnReport> {
    run(&scenario(head), options(&server.url, None), turn).await
}

fn group<'a>(report: &'a LearnReport, taste: &str) -> &'a Group {
    let mut groups = report.groups.iter();
    groups.find(|group| group.taste == taste).unwrap()
}

/// Means of before, after, and after against the first generic answers.
fn rates(group: &Group) -> [f64; 3] {
    [group.before, group.after, group.after_against_first].map(|rate| rate.unwrap().mean)
}

#[tokio::test]
async fn people_win_after_the_turn_and_the_table_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let report = learn(&server, "", Some(&promote(folder.path())))
        .await
        .unwrap();

    // Before, everybody gets the generic answer. After, the generic one is "New.", which is shorter
    // than what the short people get, but not than the generic answer of before.
    assert_eq!(rates(group(&report, "short")), [0.5, 0.0, 1.0]);
    assert_eq!(rates(group(&report, "list")), [0.5, 1.0, 1.0]);
    // Nobody's two answers ended with a question: no preference, and nothing learned.
    assert_eq!(rates(group(&report, "questions")), [0.5, 0.5, 0.5]);
    assert_eq!(rates(group(&report, "all")), [0.5, 0.5, 0.9]);
    let preferences: Vec<u64> = report
        .groups
        .iter()
        .map(|group| group.preferences)
        .collect();
    assert_eq!(preferences, [6, 6, 0, 12]);
    let lessons = &report.lessons;
    assert_eq!(
        (lessons.chats, lessons.ties, lessons.preferences),
        (15, 3, 12)
    );
    let count = group(&report, "list").count.as_ref().unwrap();
    assert_eq!((count.before, count.after), (Some(0.0), Some(2.0)));
    assert_eq!(
        (count.generic_before, count.generic_after),
        (Some(0.0), Some(0.0))
    );

    let names = |stage: &loadtest::learn::report::Stage| stage.versions.clone();
    assert_eq!(names(&report.before), [("base".to_owned(), 12)].into());
    assert_eq!(names(&report.after), [("v2".to_owned(), 12)].into());
    assert_eq!(
        report.questions[0].generic,
        [GENERIC, "New."].map(|t| Some(t.to_owned()))
    );
    let mine = &report.questions[1].answers["learner-0"];
    assert_eq!(*mine, [GENERIC, BRIEF].map(|text| Some(text.to_owned())));

    let table = table::render(&report);
    assert!(table.contains("0.50 [0.50, 0.50]"), "{table}");
    assert!(table.contains("0.00 -> 2.00 list lines"), "{table}");
    assert!(
        table.contains("before base, after v2 (turn by command"),
        "{table}"
    );
    assert!(!table.contains("did not change"), "{table}");
    let file = folder.path().join("plot.svg");
    plot::write(&report, &file).unwrap();
    assert!(std::fs::read_to_string(file).unwrap().contains("questions"));
}

#[tokio::test]
async fn chats_and_preferences_are_as_the_protocol_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    learn(&server, "", Some(&promote(folder.path())))
        .await
        .unwrap();
    let bodies = server.seen.bodies.lock().unwrap().clone();
    let (chats, exams): (Vec<Value>, Vec<Value>) =
        bodies.into_iter().partition(|body| body["n"] == 2);
    assert_eq!((chats.len(), exams.len()), (15, 24));
    let questions = |bodies: &[Value]| -> HashSet<String> {
        let text = |body: &Value| body["messages"][0]["content"].as_str().unwrap().to_owned();
        bodies.iter().map(text).collect()
    };
    assert_eq!(
        questions(&chats),
        ["Why?", "How?"].map(str::to_owned).into()
    );
    assert_eq!(
        questions(&exams),
        ["Who?", "What?"].map(str::to_owned).into()
    );
    assert!(exams
        .iter()
        .all(|body| body["temperature"] == 0.0 && body["max_tokens"] == 9));
    let nobody = exams.iter().filter(|body| body.get("user").is_none());
    assert_eq!(nobody.count(), 4, "two questions, twice");
    let seeds: HashSet<u64> = chats.iter().map(|b| b["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds.len(), 15);
    assert!(chats
        .iter()
        .all(|body| body["store"] == true && body["temperature"] == 1.0));

    let seen = &server.seen.preferences;
    let (bodies, keys) = (seen.bodies.lock().unwrap(), seen.keys.lock().unwrap());
    for (body, key) in bodies.iter().zip(keys.iter()) {
        let id = body["chosen"]["completion_id"].as_str().unwrap();
        assert_eq!(body["rejected"]["completion_id"], id);
        assert_eq!(key.as_deref(), Some(format!("learn-{id}").as_str()));
        let indices = [&body["chosen"]["index"], &body["rejected"]["index"]];
        assert!(indices == [0, 1] || indices == [1, 0], "{body}");
    }
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 12);
}

#[tokio::test]
async fn the_turn_knows_the_server_and_its_failure_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let command = format!(
        "printf %s \"$LOADTEST_URL\" > {}",
        folder.path().join("url").display()
    );
    let report = learn(&server, "", Some(&command)).await.unwrap();
    let url = std::fs::read_to_string(folder.path().join("url")).unwrap();
    assert_eq!(url, server.url);
    assert!(table::render(&report).contains("The version did not change"));

    let error = learn(&server, "", Some("exit 3"))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--turn command failed (exit status: 3)"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_command_another_version_is_waited_for() {
    for listed in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let server = server(folder.path()).await;
        server.seen.learner.listed.store(listed, Ordering::SeqCst);
        let promoted = async {
            let preferences = &server.seen.preferences.bodies;
            while preferences.lock().unwrap().len() < 12 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            std::fs::write(folder.path().join("version"), "v7").unwrap();
        };
        let (report, ()) = tokio::join!(learn(&server, "turn_timeout = \"30s\"", None), promoted);
        let report = report.unwrap();
        assert_eq!(report.turn.by, "hand");
        assert!(report.turn.seconds >= 0.5, "{}", report.turn.seconds);
        assert!(report.after.versions.contains_key("v7"), "listed {listed}");
    }
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let late = learn(&server, "turn_timeout = \"100ms\"", None).await;
    let error = late.unwrap_err().to_string();
    assert!(
        error.contains("learner still names version base after 100ms"),
        "{error}"
    );
    assert!(error.contains("--turn"), "{error}");
}

#[tokio::test]
async fn failures_are_counted_and_leave_questions_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    *server.seen.learner.stranger.lock().unwrap() = Some("learner-2".to_owned());
    let report = learn(&server, "", Some(&promote(folder.path())))
        .await
        .unwrap();
    assert_eq!(report.before.errors["http 403 stranger"].count, 2);
    assert_eq!(report.lessons.chat_errors["http 403 stranger"].count, 3);
    assert_eq!(report.lessons.chats, 12);
    let list = group(&report, "list");
    assert_eq!((list.people, list.after.unwrap().people), (2, 1));
    assert_eq!(rates(list), [0.5, 1.0, 1.0]);
    assert_eq!(report.people[2].after, None);
    let text = table::render(&report);
    assert!(
        text.contains("exam after: 2 x http 403 stranger: stranger!"),
        "{text}"
    );

    server.seen.preferences.refuse.store(true, Ordering::SeqCst);
    let error = learn(&server, "", Some("true"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("no preference came of the chats"), "{error}");
    assert!(error.contains("9 x http 503 store_unavailable"), "{error}");
}

#[tokio::test]
async fn nothing_to_prefer_and_nothing_answered_are_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    server.seen.learner.dull.store(true, Ordering::SeqCst);
    let error = learn(&server, "", Some("true"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("15 with two answers, 15 ties"), "{error}");

    let mut overloaded = scenario("");
    overloaded.model = "overloaded".to_owned();
    let refused = run(&overloaded, options(&server.url, None), Some("true")).await;
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("exam before: no question was answered"),
        "{error}"
    );
    assert!(error.contains("http 503 engine_overloaded"), "{error}");
}

#[test]
fn the_texts_of_the_fake_are_what_the_tests_take_them_for() {
    let words = |text: &str| text.split_whitespace().count();
    assert!(words("New.") < words(BRIEF) && words(BRIEF) < words(GENERIC));
    assert!(words(GENERIC) < words(LIST));
}

/// An app that asks in two ways: the preference is told as texts, and the style is not part of it.
#[tokio::test]
async fn styles_are_the_apps_and_not_the_persons() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let style = |text: &str| {
        format!("[[styles]]\nmessages = [{{ role = \"system\", content = \"{text}\" }}]\n")
    };
    let styles = style("Be short.") + &style("Make a list.");
    let report = learn(&server, &styles, Some(&promote(folder.path())))
        .await
        .unwrap();
    let lessons = &report.lessons;
    assert_eq!((lessons.preferences, lessons.ties), (12, 3), "{lessons:?}");
    assert!(lessons.preference_errors.is_empty(), "{lessons:?}");
    assert_eq!(rates(group(&report, "list")), [0.5, 1.0, 1.0]);
    assert_eq!(rates(group(&report, "short")), [0.5, 0.0, 1.0]);
}

#[test]
fn one_style_is_no_choice() {
    let one = "[[styles]]\nmessages = [{ role = \"system\", content = \"x\" }]\n";
    let head = |styles: &str| {
        let text = format!(
            "{styles}[users]\nshort = 1\n[questions]\ntraining = [\"a?\"]\nheld_out = [\"b?\"]"
        );
        resolve(&RawLearn::parse(&text, Path::new("test.toml")).unwrap())
    };
    assert!(head("").is_ok() && head(&[one, one].concat()).is_ok());
    let error = head(one).unwrap_err().to_string();
    assert!(
        error.contains("styles") && error.contains("give two"),
        "{error}"
    );
    let error = head(&[one, &one.replace("system", "narrator")].concat()).unwrap_err();
    assert!(error.to_string().contains("narrator"), "{error}");
}
