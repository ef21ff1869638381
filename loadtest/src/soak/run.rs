//! The run of a soak.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::flat;
use super::report::SoakReport;
use super::sample::{self, Sample};
use crate::http::Http;
use crate::mix::client::{Client, Round, Tally};
use crate::mix::ledger::Ledger;
use crate::mix::operator::Operator;
use crate::mix::records;
use crate::mix::report::MixReport;
use crate::mix::scenario::Mix;
use crate::mix::server::{Process, ServerCommand};
use crate::run::{now, Options};

/// Sequences of readers that went away must be gone by then.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// From one look to the next meanwhile.
const SETTLE_POLL: Duration = Duration::from_millis(200);
/// Looks at the process that there are at least, however fast the server is.
const LOOKS: usize = 50;
/// From one count of the deeds to the next.
const PEEK: Duration = Duration::from_millis(1);

/// Starts the server, does all deeds of the scenario, or those until `stop` becomes ready, looks at the process
/// meanwhile, and tells the server to end.
///
/// # Errors
/// The server does not start, goes away, or does not end well. What it does wrong meanwhile is in the report.
pub async fn run(
    mix: &Mix,
    options: Options,
    command: &ServerCommand,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<SoakReport> {
    let http = Http::new(options.target, true)?;
    let started_at = now();
    let process = command.start(&http).await?;
    let mut operator = Operator::new(mix);
    let prepared = operator.prepare(&http).await;
    prepared.map_err(|f| anyhow::anyhow!("the bundles: {}: {}", f.kind, f.message))?;
    let (ledger, tally) = (
        RefCell::new(Ledger::default()),
        RefCell::new(Tally::default()),
    );
    let round = Round {
        mix,
        http: &http,
        number: 0,
        left: Cell::new(mix.requests),
        ledger: &ledger,
        tally: &tally,
    };
    let start = Instant::now();
    let samples = RefCell::new(Vec::new());
    let interrupted = Cell::new(false);
    let clients = async {
        let mut all = pin!(join_all(
            (0..mix.clients).map(|number| Client::new(&round, number).run())
        ));
        tokio::select! {
            _ = &mut all => return,
            () = stop => interrupted.set(true),
        }
        round.left.set(0);
        all.await;
    };
    tokio::select! {
        () = clients => {}
        gone = watch(&process, &round, start, &samples) => match gone? {},
        never = operator.go_on(&round) => match never {},
    }
    let wall_s = start.elapsed().as_secs_f64();
    let settled = settle(&process, &http, start).await?;
    let (_, mut broken) = records::compare(&http, mix, &ledger).await;
    if let Err(failure) = operator.check(&http).await {
        broken.push(format!("{}: {}", failure.kind, failure.message));
    }
    process.stop().await?;
    let samples = samples.into_inner();
    let (ledger, tally) = (ledger.into_inner(), tally.into_inner());
    let begun = (started_at, options.note);
    let told = MixReport::new(mix, begun, (&ledger, &tally), operator.changes)?;
    Ok(SoakReport {
        mix: MixReport {
            interrupted: interrupted.get(),
            broken,
            ..told
        },
        wall_s,
        failed: tally.failed,
        trends: flat::trends(&samples),
        samples,
        settled,
    })
}

/// Looks at the process until it is gone: after each fiftieth of the deeds, or sooner if the scenario says so.
async fn watch(
    process: &Process,
    round: &Round<'_>,
    start: Instant,
    samples: &RefCell<Vec<Sample>>,
) -> anyhow::Result<Infallible> {
    loop {
        let (from, before) = (Instant::now(), round.tally.borrow().total());
        let share = (round.mix.requests / LOOKS).max(1) as _;
        while from.elapsed() < round.mix.sample_every
            && round.tally.borrow().total() - before < share
        {
            tokio::time::sleep(PEEK).await;
        }
        let done = round.tally.borrow().total();
        let sample = sample::take(process.pid(), round.http, start.elapsed(), done).await?;
        samples.borrow_mut().push(sample);
    }
}

/// Waits until no sequence is left; the last look is returned, whatever it shows.
async fn settle(process: &Process, http: &Http, start: Instant) -> anyhow::Result<Sample> {
    let end = Instant::now() + SETTLE_LIMIT;
    loop {
        let last = sample::take(process.pid(), http, start.elapsed(), 0).await?;
        if last.is_idle() || Instant::now() > end {
            return Ok(last);
        }
        tokio::time::sleep(SETTLE_POLL).await;
    }
}
