//! A whole `learn` run.

use anyhow::Context;

use super::ask::Asker;
use super::report::{self, LearnReport, Stage};
use super::scenario::LearnScenario;
use super::{exam, lessons, turn};
use crate::http::Http;
use crate::report::{environment, Server, SCHEMA};
use crate::run::{check_server, now, Options};

/// Exam, lessons, turn, exam. `turn` is the command that trains and promotes; without one, a
/// person does.
///
/// # Errors
/// Nothing listens at the URL, the server refuses the key, nothing was answered, no preference came
/// of the lessons, or the turn failed. Single failed requests are counted in the report.
pub async fn run(
    scenario: &LearnScenario,
    options: Options,
    turn: Option<&str>,
) -> anyhow::Result<LearnReport> {
    let url = options.target.url().to_owned();
    // A connection per request: after a long turn, a kept one would be stale.
    let http = Http::new(options.target, false)?;
    let models = check_server(&http, &url).await?;
    let started_at = now();
    let asker = Asker {
        http: &http,
        scenario,
    };
    let before = exam::take(&asker, "before", options.quiet).await?;
    let lessons = lessons::teach(&asker, options.quiet).await?;
    let turn = turn::take(&asker, &url, turn).await?;
    let after = exam::take(&asker, "after", options.quiet).await?;

    let people = report::people(scenario, &before, &after, &lessons);
    Ok(LearnReport {
        schema: SCHEMA,
        kind: "learn".to_owned(),
        started_at,
        finished_at: now(),
        note: options.note,
        scenario: serde_json::to_value(scenario).context("scenario to JSON")?,
        server: Server { url, models },
        environment: environment(),
        before: Stage::from(&before),
        lessons,
        turn,
        after: Stage::from(&after),
        groups: report::groups(scenario, &people, &before, &after),
        people,
        questions: report::questions(scenario, &before, &after),
    })
}
