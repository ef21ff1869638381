//! The rounds.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, FutureExt};
use rand::Rng;

use super::report::KillsReport;
use crate::http::Http;
use crate::mix::client::{preference, write, Client, Round, Tally, PREFERRED};
use crate::mix::ledger::Ledger;
use crate::mix::operator::Operator;
use crate::mix::records;
use crate::mix::report::MixReport;
use crate::mix::scenario::Mix;
use crate::mix::server::{Process, ServerCommand};
use crate::outcome::Failure;
use crate::progress::Steps;
use crate::recorder::Recorder;
use crate::run::{now, Options};
use crate::seeds::{rng, Purpose};

/// More faults than these say nothing new.
const MAX_BROKEN: usize = 20;

/// What a run of kills needs beside the scenario.
pub struct Kills {
    /// So many.
    pub count: usize,
    /// A server lives for up to this long after it answered.
    pub longest_life: Duration,
    /// Starts the server.
    pub command: ServerCommand,
}

/// Starts and kills the server so many times, then compares once more. Ends early once too much is broken, and
/// after the round in which `stop` becomes ready.
///
/// # Errors
/// The server does not start, or ends by itself. What it lost is in the report.
pub async fn run(
    mix: &Mix,
    options: Options,
    kills: &Kills,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<KillsReport> {
    let started_at = now();
    let mut stop = pin!(stop.fuse());
    let progress = Steps::new("kills", kills.count, options.quiet);
    let mut book = Book {
        mix,
        operator: Operator::new(mix),
        ledger: RefCell::default(),
        tally: RefCell::default(),
        starts: Recorder::new(),
        sent_again: 0,
        broken: Vec::new(),
    };
    let (mut killed, mut interrupted) = (0, false);
    // One start more than kills: what the last one left is compared, too.
    for number in 0..=kills.count {
        // Connections to the server before this one are of no use.
        let http = Http::new(options.target.clone(), true)?;
        let start = Instant::now();
        let process = kills.command.start(&http).await?;
        book.starts.add(start.elapsed());
        book.compare(&http, number).await;
        interrupted = (&mut stop).now_or_never().is_some();
        if number == kills.count || interrupted || book.broken.len() > MAX_BROKEN {
            process.stop().await?;
            break;
        }
        let share = rng(mix.seed, Purpose::Kill, number, 0).random_range(0.0..1.0);
        let life = kills.longest_life.mul_f64(share);
        book.round(&http, number, life, process).await?;
        killed += 1;
        progress.add();
    }
    progress.finish();
    let (ledger, tally) = (book.ledger.into_inner(), book.tally.into_inner());
    let begun = (started_at, options.note);
    let told = MixReport::new(mix, begun, (&ledger, &tally), book.operator.changes)?;
    Ok(KillsReport {
        mix: MixReport {
            interrupted: interrupted && killed < kills.count,
            broken: book.broken,
            ..told
        },
        kills: killed,
        broke_off: tally.failed,
        sent_again: book.sent_again,
        start_ms: book.starts.summary(),
    })
}

/// What is known over all rounds.
struct Book<'a> {
    mix: &'a Mix,
    operator: Operator<'a>,
    ledger: RefCell<Ledger>,
    tally: RefCell<Tally>,
    starts: Recorder,
    sent_again: u64,
    broken: Vec<String>,
}

impl Book<'_> {
    /// Compares what a new server has with what the one before had acknowledged, and sends again what that one
    /// had not answered.
    async fn compare(&mut self, http: &Http, number: usize) {
        let versions = match number {
            0 => self.operator.prepare(http).await,
            _ => self.operator.check(http).await,
        };
        self.note(number, versions);
        let (unanswered, broken) = records::compare(http, self.mix, &self.ledger).await;
        let faults = broken
            .into_iter()
            .map(|fault| format!("start {number}: {fault}"));
        self.broken.extend(faults);
        let preferences = unanswered
            .iter()
            .filter(|(_, mark)| mark.starts_with(PREFERRED));
        for (person, mark) in preferences {
            let body = preference(self.mix, *person, mark);
            self.ledger.borrow_mut().writing(*person, mark);
            let sent = write(http, "v1/preferences", mark, &body, self.mix.timeout).await;
            if sent.is_ok() {
                self.ledger.borrow_mut().written(*person, mark);
                self.sent_again += 1;
            }
            self.note(number, sent);
        }
    }

    fn note(&mut self, number: usize, result: Result<(), Failure>) {
        let fault = result.err();
        let fault = fault.map(|f| format!("start {number}: {}: {}", f.kind, f.message));
        self.broken.extend(fault);
    }

    /// People and the operator go on until the server is killed under them.
    async fn round(
        &mut self,
        http: &Http,
        number: usize,
        life: Duration,
        process: Process,
    ) -> anyhow::Result<()> {
        let round = Round {
            mix: self.mix,
            http,
            number,
            left: Cell::new(usize::MAX),
            ledger: &self.ledger,
            tally: &self.tally,
        };
        let kill = async {
            tokio::time::sleep(life).await;
            let killed = process.kill().await;
            round.left.set(0);
            killed
        };
        let clients = join_all((0..self.mix.clients).map(|n| Client::new(&round, n).run()));
        let until_killed = async { tokio::join!(kill, clients).0 };
        tokio::select! {
            killed = until_killed => killed,
            never = self.operator.go_on(&round) => match never {},
        }
    }
}
