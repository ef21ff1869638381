//! What was typed to `attune loop`, checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::raw::Loop;
use super::resolved::{data_dir, ConfigError};
use super::training::{count, problem, share, with_file, within, TrainConfig};
use attune_ids::Alias;
use attune_train::settings::judge::JudgeSettings;

/// Of a loop's runs where nothing says more: neither a person nor many accounts
/// that say the same outvote the others; a tenth of the pairs chooses
/// the state, another fifth compares it.
const MAX_USER_PAIRS: usize = 500;
const CLIP_USER_PAIRS: f64 = 50.0;
const CLIP_EQUAL_PAIRS: f64 = 20.0;
const HOLDOUT: f64 = 0.1;
const TEST: f64 = 0.2;

/// What `attune loop` needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct LoopConfig {
    /// What decides how versions are trained. The snapshot is added for each turn.
    pub train: TrainConfig,
    /// The alias.
    pub alias: Alias,
    /// The smallest difference that promotes.
    pub margin: f64,
    /// The probability with which a version that is no better may ever be promoted.
    pub chance: f64,
    /// The share of people whose votes may be bought.
    pub coalition: f64,
    /// The share of people who may lose.
    pub max_losers: f64,
    /// Who compares answers.
    pub judge: Option<JudgeSettings>,
    /// Time from the end of a turn to the next; `None`: there is one turn.
    pub every: Option<Duration>,
}

impl LoopConfig {
    /// Checks what was typed. `places`: where a turn in a data directory has its snapshot and its run.
    ///
    /// # Errors
    /// The first setting that cannot be used, by its flag.
    pub fn new(
        raw: &Loop,
        places: impl FnOnce(&Path) -> [PathBuf; 2],
    ) -> Result<Self, ConfigError> {
        let typed = &raw.train;
        let taken = [
            ("--out", typed.out.is_some()),
            ("--snapshot", typed.snapshot.is_some()),
            ("--resume", typed.resume),
            ("--against", !typed.against.is_empty()),
        ];
        if let Some((flag, _)) = taken.into_iter().find(|(_, given)| *given) {
            return Err(problem(flag, "a loop sets this by itself; leave it out"));
        }
        let alias = Alias::new(raw.alias.clone());
        let [snapshot, run] = places(&data_dir(&raw.data)?);
        let mut train = with_file(typed)?;
        train.config = None;
        train.out = Some(run);
        train.snapshot = Some(snapshot);
        train.max_user_pairs.get_or_insert(MAX_USER_PAIRS);
        train.clip_user_pairs.get_or_insert(CLIP_USER_PAIRS);
        train.clip_equal_pairs.get_or_insert(CLIP_EQUAL_PAIRS);
        train.holdout.get_or_insert(HOLDOUT);
        train.test.get_or_insert(TEST);
        let train = TrainConfig::new(&train)?;
        if train.settings.test == 0.0 {
            let text = "a loop compares versions on pairs that it sets aside: give a share above 0, such as 0.2";
            return Err(problem("--test", text));
        }
        Ok(Self {
            train,
            alias: alias.map_err(|e| problem("--alias", e.to_string()))?,
            margin: share("--margin", raw.margin)?,
            chance: within("--chance", raw.chance, 1e-9..=1.0)?,
            coalition: within("--coalition", raw.coalition, 0.0..=0.4)?,
            max_losers: within("--max-losers", raw.max_losers, 0.0..=1.0)?,
            judge: judge(raw)?,
            every: (!raw.once).then(|| Duration::from_secs(raw.every.clamp(1, 366 * 86_400))),
        })
    }
}

fn judge(raw: &Loop) -> Result<Option<JudgeSettings>, ConfigError> {
    let seconds = raw.judge_timeout;
    if !(1..=3600).contains(&seconds) {
        let text = format!("{seconds} is not in 1..=3600 seconds");
        return Err(problem("--judge-timeout", text));
    }
    let prompts = count("--judge-prompts", raw.judge_prompts)?;
    let max_tokens = count("--judge-tokens", raw.judge_tokens)?;
    let settings = |command: &String| {
        let command = match command.trim() {
            "" => return Err(problem("--judge", "name a command, or leave it out")),
            command => command.to_owned(),
        };
        Ok(JudgeSettings {
            command,
            timeout: Duration::from_secs(seconds),
            prompts,
            max_tokens,
        })
    };
    raw.judge.as_ref().map(settings).transpose()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        raw: Loop,
    }

    /// What a loop compares on must be there, and not what chose the candidate.
    #[test]
    fn a_loop_sets_pairs_aside() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let config = |more: &[&str]| {
            let arguments = ["loop", "--once", "--data-dir", data];
            let typed = Typed::parse_from(arguments.iter().chain(more));
            LoopConfig::new(&typed.raw, |dir| [dir.join("snapshot"), dir.join("run")])
        };
        assert_eq!(config(&[]).unwrap().train.settings.test, TEST);
        let some = config(&["--test", "0.01"]).unwrap();
        assert_eq!(some.train.settings.test, 0.01);
        let file = dir.path().join("loop.toml");
        std::fs::write(&file, "test = 0.0").unwrap();
        let file = file.to_str().unwrap();
        for none in [["--test", "0"], ["--config", file]] {
            let error = config(&none).unwrap_err().to_string();
            assert!(
                error.starts_with("--test") && error.contains("0.2"),
                "{error}"
            );
        }
    }
}
