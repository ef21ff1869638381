//! One turn, from the snapshot to the decision.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::{json, Value};

use super::fit::fit;
use super::gate::Rule;
use super::spending::next_test;
use super::target::Target;
use super::verdict::{verdict, Verdict};
use super::work_dir::WorkDir;
use super::LoopError;
use crate::app::boot::now_unix_ms;
use attune_adapter::bundle::{self, bundle_dir};
use attune_base_model::load::locate;
use attune_ids::{AdapterVersion, Alias};
use attune_store::{DecisionRecord, TrainingSet};
use attune_train::baseline::Baseline;
use attune_train::compute::Compute;
use attune_train::error::ErrorKind;
use attune_train::run::{run, Outcome};
use attune_train::run_dir::BUNDLE_DIR;
use attune_train::settings::judge::JudgeSettings;
use attune_train::settings::Settings;
use attune_train::work::options::RunOptions;

/// What a turn is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Where.
    pub target: Target,
    /// The alias that is turned.
    pub alias: Alias,
    /// How to train; the turn's snapshot is among its data.
    pub settings: Settings,
    /// Where training computes.
    pub compute: Compute,
    /// Bytes that training may take.
    pub max_memory: usize,
    /// What a candidate has to do.
    pub rule: Rule,
    /// Who compares answers; `None`: likelihoods alone are compared.
    pub judge: Option<JudgeSettings>,
    /// Fit new people, and change nothing else.
    pub fit_users: bool,
    /// Pairs that have to be new since the last decision.
    pub min_pairs: usize,
    /// Where runs are kept; `None`: not at all.
    pub keep_runs: Option<PathBuf>,
    /// Show a progress bar.
    pub progress: bool,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TurnOutcome {
    /// There is too little new to learn from; nothing was trained or recorded.
    NothingNew {
        /// Pairs that are new since the last decision.
        new: usize,
        /// Pairs in all.
        pairs: usize,
    },
    /// The alias names what it named; the decision says why.
    Kept {
        /// The version that was made, if one was.
        candidate: Option<AdapterVersion>,
        /// Why.
        reason: String,
    },
    /// The alias names the new version.
    Promoted {
        /// The version.
        version: AdapterVersion,
        /// Why.
        reason: String,
    },
    /// No new person got a row; nothing was recorded.
    NobodyFitted(String),
    /// It was told to stop; nothing was recorded.
    Stopped,
}

impl fmt::Display for TurnOutcome {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::NothingNew { new, pairs } => {
                write!(f, "nothing to learn yet: {new} of {pairs} pairs are new")
            }
            Self::Kept {
                candidate: Some(version),
                reason,
            } => write!(f, "version {} was not promoted; {reason}", version.short()),
            Self::Kept { reason, .. } => write!(f, "no version was made; {reason}"),
            Self::Promoted { version, reason } => {
                write!(f, "promoted {version}; {reason}")
            }
            Self::NobodyFitted(why) => write!(f, "no new person was fitted; {why}"),
            Self::Stopped => write!(f, "stopped; nothing was changed"),
        }
    }
}

/// Makes one turn.
///
/// # Errors
/// What stopped it before a decision; the alias is where it was.
pub fn turn(turn: &Turn, stop: &AtomicBool) -> Result<TurnOutcome, LoopError> {
    turn.target.check()?;
    let work = WorkDir::take(&turn.target.data_dir)?;
    let learned_from = LearnedFrom::take(turn)?;
    let settings = Settings {
        split_secret: Some(work.split_secret()?),
        ..turn.settings.clone()
    };
    if turn.fit_users {
        return fit(turn, &settings, learned_from);
    }
    let Pairs { new, all, .. } = learned_from.pairs;
    if new < turn.min_pairs {
        return Ok(TurnOutcome::NothingNew { new, pairs: all });
    }
    let baseline = baseline(turn, learned_from.current.as_ref())?;
    let options = RunOptions {
        out: WorkDir::run_in(&turn.target.data_dir),
        against: vec![baseline.clone()],
        judge: turn.judge.clone(),
        resume: false,
        compute: turn.compute,
        max_memory: turn.max_memory,
        stop,
        progress: turn.progress,
    };
    let (version, evaluation) = match run(&settings, &options) {
        Ok(Outcome::Published {
            version,
            evaluation,
            ..
        }) => (version, evaluation),
        Ok(Outcome::Stopped { .. }) => return Ok(TurnOutcome::Stopped),
        // What people sent leaves nothing to train on: worth knowing, and no reason to fail for ever.
        Err(error) if error.kind() == ErrorKind::Data => {
            return learned_from.nothing(turn, error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let number = learned_from.test;
    let verdict = verdict(evaluation.as_deref(), &baseline.name(), &turn.rule, number);
    let outcome = learned_from.carry_out(turn, version.clone(), verdict, true)?;
    if let Some(kept) = &turn.keep_runs {
        work.keep_run(kept, version.as_str())?;
    }
    Ok(outcome)
}

/// What answers now: a version, or the bare model. (A version for another base model is promoted, but cannot
/// answer.)
pub(super) fn baseline(
    turn: &Turn,
    current: Option<&AdapterVersion>,
) -> Result<Baseline, LoopError> {
    let Some(version) = current else {
        return Ok(Baseline::Reference);
    };
    let dir = bundle_dir(&turn.target.data_dir.join("adapters"), version);
    let broken = |error| LoopError::Current {
        version: version.clone(),
        error,
    };
    let found = bundle::verify(&dir).map_err(broken)?;
    let files = locate(&turn.settings.base)?;
    let base = files.sha256()?;
    if found.manifest.base.sha256 != base {
        return Ok(Baseline::Reference);
    }
    bundle::read(&dir, &files.config()?, &base).map_err(broken)?;
    Ok(Baseline::Bundle(dir))
}

/// What a turn begins with, all of one moment.
pub(super) struct LearnedFrom {
    snapshot: String,
    pub(super) current: Option<AdapterVersion>,
    pairs: Pairs,
    /// The number of this turn's test, since one promoted.
    test: usize,
}

/// Of the pairs in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pairs {
    all: usize,
    new: usize,
    newest_unix_ms: u64,
}

impl Pairs {
    /// `since`: the newest pair that the last decision knew.
    fn count(set: &TrainingSet, since: Option<u64>) -> Self {
        let times = set.pairs.iter().map(|pair| pair.created_unix_ms);
        let is_new = |time: &u64| since.is_none_or(|since| *time > since);
        Self {
            all: set.pairs.len(),
            new: times.clone().filter(is_new).count(),
            newest_unix_ms: times.max().unwrap_or(0),
        }
    }
}

impl LearnedFrom {
    fn take(turn: &Turn) -> Result<Self, LoopError> {
        let path = WorkDir::snapshot_in(&turn.target.data_dir);
        turn.target.snapshot(&path)?;
        let file = File::open(&path).map_err(LoopError::io(&path))?;
        let set = TrainingSet::read(&mut BufReader::new(file))?;
        let of_alias = set.decisions.iter().rev().filter(|d| d.alias == turn.alias);
        let known = of_alias.into_iter().find_map(|decision| {
            let numbers: Value = serde_json::from_str(decision.evaluation.as_deref()?).ok()?;
            numbers["pairs"]["newest_unix_ms"].as_u64()
        });
        Ok(Self {
            pairs: Pairs::count(&set, known),
            test: next_test(&set.decisions, &turn.alias),
            current: set.aliases.get(&turn.alias).cloned(),
            snapshot: set.sha256,
        })
    }

    /// Installs what is to answer, and records the decision with it. `learned`: the next turn needs newer pairs.
    pub(super) fn carry_out(
        self,
        turn: &Turn,
        version: AdapterVersion,
        verdict: Verdict,
        learned: bool,
    ) -> Result<TurnOutcome, LoopError> {
        let reason = verdict.reason;
        let mut decision = self.decision(turn, reason.clone(), verdict.numbers, learned);
        decision.candidate = Some(version.clone());
        let kept = |reason| TurnOutcome::Kept {
            candidate: Some(version.clone()),
            reason,
        };
        if !verdict.promote {
            turn.target.decide(&decision)?;
            return Ok(kept(reason));
        }
        let run = WorkDir::run_in(&turn.target.data_dir);
        turn.target
            .install(&bundle_dir(&run.join(BUNDLE_DIR), &version))?;
        decision.promoted = true;
        match turn.target.decide(&decision) {
            Ok(()) => Ok(TurnOutcome::Promoted { version, reason }),
            Err(LoopError::Conflict(why)) => {
                let reason =
                    format!("kept because somebody moved the alias meanwhile ({why}); {reason}");
                decision.promoted = false;
                decision.reason.clone_from(&reason);
                turn.target.decide(&decision)?;
                Ok(kept(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// Records that nothing was made.
    fn nothing(self, turn: &Turn, why: String) -> Result<TurnOutcome, LoopError> {
        let decision = self.decision(turn, why.clone(), json!({}), false);
        turn.target.decide(&decision)?;
        Ok(TurnOutcome::Kept {
            candidate: None,
            reason: why,
        })
    }

    /// `learned`: the next turn needs newer pairs than these.
    fn decision(
        &self,
        turn: &Turn,
        reason: String,
        mut numbers: Value,
        learned: bool,
    ) -> DecisionRecord {
        let pairs = self.pairs;
        numbers["pairs"] = json!({"all": pairs.all, "new": pairs.new});
        if learned {
            numbers["pairs"]["newest_unix_ms"] = json!(pairs.newest_unix_ms);
        }
        let now = now_unix_ms();
        DecisionRecord {
            id: DecisionRecord::new_id(now),
            created_unix_ms: now,
            alias: turn.alias.clone(),
            current: self.current.clone(),
            candidate: None,
            promoted: false,
            reason,
            snapshot: Some(self.snapshot.clone()),
            evaluation: Some(numbers.to_string()),
        }
    }
}
