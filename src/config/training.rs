//! What was typed to `attune-train pdpo` and written in its TOML file, as checked settings.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::compute::compute;
use super::moment::data_until;
use super::resolved::{available_threads, parse_bytes, ConfigError};
use super::train::{Entangle, FitUsers, MaskName, Pdpo, Sample, UserModelName};
use attune_model::lora::Projection;
use attune_model::user_model::model::UserModelKind;
use attune_train::baseline::Baseline;
use attune_train::commands::entangle::EntangleRequest;
use attune_train::commands::sample::SampleRequest;
use attune_train::compute::Compute;
use attune_train::dataset::split::SplitConfig;
use attune_train::entangle::mask::Mask;
use attune_train::fit_users::FitRequest;
use attune_train::init::{Init, LoraShape};
use attune_train::loss::Objective;
use attune_train::mixture::Mixture;
use attune_train::schedule::Schedule;
use attune_train::settings::expo::ExpoSettings;
use attune_train::settings::{Settings, UserModelSettings};

/// Bound of counts: beyond it a mistake is likelier than a wish.
const MAX_COUNT: usize = 1 << 20;

/// What a run needs to know.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// What decides its result.
    pub settings: Settings,
    /// Directory of the run.
    pub out: PathBuf,
    /// Bundles that the version is compared with.
    pub against: Vec<Baseline>,
    /// Whether it goes on from a checkpoint.
    pub resume: bool,
    /// CPU threads.
    pub threads: usize,
    /// Where it computes.
    pub compute: Compute,
    /// Memory that it may take, in bytes.
    pub max_memory: usize,
}

impl TrainConfig {
    /// Reads the TOML file, if one is named, and checks everything.
    ///
    /// # Errors
    /// The first setting that cannot be used, by its flag.
    pub fn new(typed: &Pdpo) -> Result<Self, ConfigError> {
        run_config(typed, None)
    }
}

/// A run over pairs, or with `expo` over tasks.
pub(super) fn run_config(
    typed: &Pdpo,
    expo: Option<ExpoSettings>,
) -> Result<TrainConfig, ConfigError> {
    let raw = with_file(typed)?;
    let out = typed.out.clone();
    let out = out.ok_or_else(|| problem("--out", "name the directory of the run"))?;
    let max_memory = raw.max_memory.as_deref().unwrap_or("8GiB");
    Ok(TrainConfig {
        settings: settings(&raw, expo)?,
        out,
        against: typed
            .against
            .iter()
            .cloned()
            .map(Baseline::Bundle)
            .collect(),
        resume: typed.resume,
        threads: threads(raw.threads.unwrap_or(0)),
        compute: compute(raw.device.as_deref(), raw.dtype.as_deref())?,
        max_memory: parse_bytes("--max-memory", max_memory)?,
    })
}

/// Checks what was typed. The error is about a device or a moment that cannot be named so.
impl TryFrom<FitUsers> for FitRequest {
    type Error = ConfigError;

    fn try_from(raw: FitUsers) -> Result<Self, ConfigError> {
        let judged = match raw.holdout {
            0.0 => None,
            share => Some(
                SplitConfig::new(share, 0.0, raw.seed)
                    .map_err(|error| problem("--holdout", error.to_string()))?,
            ),
        };
        Ok(Self {
            compute: raw.compute.resolve()?,
            bundle: raw.bundle,
            data: raw.data,
            data_until: data_until(raw.data_until.as_deref())?,
            out: raw.out,
            base: raw.base,
            epochs: raw.epochs,
            lr: raw.lr,
            beta: raw.beta,
            batch_size: raw.batch_size,
            max_prompt: raw.max_prompt,
            max_length: raw.max_length,
            seed: raw.seed,
            judged,
        })
    }
}

impl From<MaskName> for Mask {
    fn from(name: MaskName) -> Self {
        match name {
            MaskName::None => Self::None,
            MaskName::Lcs => Self::Lcs,
            MaskName::Learned => Self::Learned,
        }
    }
}

/// Checks what was typed. The error is about a loss or a device that there is not.
impl TryFrom<Entangle> for EntangleRequest {
    type Error = ConfigError;

    fn try_from(raw: Entangle) -> Result<Self, ConfigError> {
        let usual = ["dpo", "simpo", "cpo", "dpop", "orpo"].map(str::to_owned);
        let losses = if raw.loss.is_empty() {
            usual.to_vec()
        } else {
            raw.loss
        };
        let parsed = losses.iter().map(|text| text.parse());
        let losses: Result<Vec<Objective>, _> = parsed.collect();
        Ok(Self {
            losses: losses.map_err(|e| problem("--loss", e.to_string()))?,
            base: raw.base,
            compute: raw.compute.resolve()?,
            bundle: raw.bundle,
            lora: lora(&Pdpo::default())?,
            data: raw.data,
            pairs: count("--pairs", raw.pairs)?,
            mask: raw.mask.into(),
            heat_maps: raw.heat_maps,
            out: raw.out,
            max_prompt: raw.max_prompt,
            max_length: raw.max_length,
            seed: raw.seed,
        })
    }
}

/// Checks what was typed. The error is about a device that cannot be named so.
impl TryFrom<Sample> for SampleRequest {
    type Error = ConfigError;

    fn try_from(raw: Sample) -> Result<Self, ConfigError> {
        Ok(Self {
            compute: raw.compute.resolve()?,
            base: raw.base,
            bundle: raw.bundle,
            prompt: raw.prompt,
            users: raw.users,
            max_tokens: raw.max_tokens,
            temperature: raw.temperature,
            seed: raw.seed,
        })
    }
}

/// 0 is one a core.
pub fn threads(typed: usize) -> usize {
    match typed {
        0 => available_threads(),
        n => n.min(1024),
    }
}

/// What was typed, with the settings of the TOML file where one is named and nothing was typed.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn with_file(typed: &Pdpo) -> Result<Pdpo, ConfigError> {
    match &typed.config {
        Some(path) => overlay(read_toml(path)?, typed),
        None => Ok(typed.clone()),
    }
}

fn read_toml(path: &Path) -> Result<Pdpo, ConfigError> {
    let shown = path.display();
    let text =
        fs::read_to_string(path).map_err(|e| problem("--config", format!("{shown}: {e}")))?;
    toml::from_str(&text).map_err(|e| problem("--config", format!("{shown}: {e}")))
}

/// What was typed, and from the file what was not.
fn overlay(file: Pdpo, typed: &Pdpo) -> Result<Pdpo, ConfigError> {
    let fields = |raw: &Pdpo| -> Result<Map<String, Value>, ConfigError> {
        match serde_json::to_value(raw) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Ok(Map::new()),
            Err(e) => Err(problem("--config", e.to_string())),
        }
    };
    let mut fields_of_both = fields(&file)?;
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let given = fields(typed)?.into_iter().filter(|(_, v)| !empty(v));
    fields_of_both.extend(given);
    serde_json::from_value(Value::Object(fields_of_both))
        .map_err(|e| problem("--config", e.to_string()))
}

fn settings(raw: &Pdpo, expo: Option<ExpoSettings>) -> Result<Settings, ConfigError> {
    let data: Vec<PathBuf> = raw.data.iter().chain(&raw.snapshot).cloned().collect();
    if data.is_empty() && expo.is_none() {
        let text = "name a file of preference pairs, or a --snapshot";
        return Err(problem("--data", text));
    }
    let alpha = within("--alpha", raw.alpha.unwrap_or(0.5), 0.0..=1.0)?;
    Mixture::new(alpha).map_err(|e| problem("--alpha", e.to_string()))?;
    let max_length = count("--max-length", raw.max_length.unwrap_or(1024))?;
    let lr = within("--lr", raw.lr.unwrap_or(5e-5), 0.0..=10.0)?;
    Ok(Settings {
        base: raw
            .base
            .clone()
            .unwrap_or_else(|| "smollm2-135m-instruct".into()),
        data,
        data_until: data_until(raw.data_until.as_deref())?,
        objective: objective(raw)?,
        mask: raw.mask.map_or(Mask::None, Mask::from),
        mask_cost: mask_cost(raw)?,
        normalized: normalized(raw)?,
        alpha,
        user_model: user_model(raw, alpha)?,
        lora: lora(raw)?,
        lora_dropout: within(
            "--lora-dropout",
            raw.lora_dropout.unwrap_or(0.0),
            0.0..=0.95,
        )? as f32,
        lr,
        user_lr: within("--user-lr", raw.user_lr.unwrap_or(lr), 0.0..=10.0)?,
        user_weight_lr: raw
            .user_weight_lr
            .map(|lr| within("--user-weight-lr", lr, 0.0..=100.0))
            .transpose()?,
        weight_decay: within(
            "--weight-decay",
            raw.weight_decay.unwrap_or(0.0),
            0.0..=100.0,
        )?,
        user_decay: within("--user-decay", raw.user_decay.unwrap_or(0.0), 0.0..=1e4)?,
        schedule: raw.schedule.unwrap_or(Schedule::Cosine),
        warmup: raw.warmup,
        epochs: within("--epochs", raw.epochs.unwrap_or(1.0), 1e-6..=1e6)?,
        max_steps: raw.max_steps.map(|n| count("--max-steps", n)).transpose()?,
        batch_size: count("--batch-size", raw.batch_size.unwrap_or(32))?,
        user_pairs: count("--user-pairs", raw.user_pairs.unwrap_or(1))?,
        holdout: share("--holdout", raw.holdout.unwrap_or(0.2))?,
        test: share("--test", raw.test.unwrap_or(0.0))?,
        unseen_users: share("--unseen-users", raw.unseen_users.unwrap_or(0.0))?,
        max_users: raw.max_users.map(|n| count("--max-users", n)).transpose()?,
        split_secret: None,
        max_user_pairs: raw
            .max_user_pairs
            .map(|n| count("--max-user-pairs", n))
            .transpose()?,
        clip_user_pairs: clip("--clip-user-pairs", raw.clip_user_pairs)?,
        clip_equal_pairs: clip("--clip-equal-pairs", raw.clip_equal_pairs)?,
        clip_tenant_pairs: clip("--clip-tenant-pairs", raw.clip_tenant_pairs)?,
        max_prompt: count("--max-prompt", raw.max_prompt.unwrap_or(max_length / 2))?,
        max_length,
        log_every: count("--log-every", raw.log_every.unwrap_or(10))?,
        eval_every: count("--eval-every", raw.eval_every.unwrap_or(100))?,
        diagnose_gradients: raw.diagnose_gradients.unwrap_or(0).min(MAX_COUNT),
        patience: raw.patience.map(|n| count("--patience", n)).transpose()?,
        seed: raw.seed.unwrap_or(123),
        name: raw.name.clone(),
        expo,
    })
}

/// The normalized update measures whole gradients, which a gate would change from step to step.
fn mask_cost(raw: &Pdpo) -> Result<f64, ConfigError> {
    let learned = raw.mask == Some(MaskName::Learned);
    if raw.mask_cost.is_some() && !learned {
        let text = "is of --mask learned: give both, or leave it out";
        return Err(problem("--mask-cost", text));
    }
    if learned && raw.normalized == Some(true) {
        let text = "learned does not go with --normalized; give one of them, or --mask lcs";
        return Err(problem("--mask", text));
    }
    within("--mask-cost", raw.mask_cost.unwrap_or(0.01), 0.0..=1e3)
}

/// The gradients that are measured first must be those of the step.
fn normalized(raw: &Pdpo) -> Result<bool, ConfigError> {
    let normalized = raw.normalized.unwrap_or(false);
    if normalized && raw.lora_dropout.unwrap_or(0.0) > 0.0 {
        let text = "has no effect that can be relied on with --lora-dropout; give one of them";
        return Err(problem("--normalized", text));
    }
    Ok(normalized)
}

/// The loss of `--loss`, with `--beta` where it is given; DPO's beta is 0.5 where nothing says more,
/// as in the authors' scripts.
fn objective(raw: &Pdpo) -> Result<Objective, ConfigError> {
    let text = raw.loss.as_deref().unwrap_or("dpo");
    let says_beta = text.contains("beta=");
    let beta = match raw.beta {
        Some(_) if says_beta => {
            return Err(problem("--beta", "the text of --loss has a beta already"))
        }
        Some(beta) => Some(within("--beta", beta, 1e-9..=1e6)?),
        None if text == "dpo" => Some(0.5),
        None => None,
    };
    let text = match beta {
        Some(beta) if text.contains(':') => format!("{text},beta={beta}"),
        Some(beta) => format!("{text}:beta={beta}"),
        None => text.to_owned(),
    };
    text.parse()
        .map_err(|e: attune_train::loss::objective::ObjectiveError| {
            problem("--loss", e.to_string())
        })
}

/// alpha = 0 trains no user model: the plain form of a loss has no soft prompts (the authors'
/// baseline).
fn user_model(raw: &Pdpo, alpha: f64) -> Result<Option<UserModelSettings>, ConfigError> {
    let kind = match raw.user_model.unwrap_or(UserModelName::Individual) {
        UserModelName::None if raw.alpha.is_some_and(|a| a > 0.0) => {
            return Err(problem(
                "--user-model",
                "none has no individual rows: give --alpha 0",
            ))
        }
        UserModelName::None => return Ok(None),
        _ if alpha == 0.0 => return Ok(None),
        UserModelName::Individual => UserModelKind::Individual,
        UserModelName::IndividualNoGeneric => UserModelKind::IndividualNoGeneric,
        UserModelName::Cluster => UserModelKind::Cluster,
    };
    let n_user_tokens = raw.n_user_tokens.unwrap_or(10);
    if !(1..=512).contains(&n_user_tokens) {
        let text =
            format!("{n_user_tokens} is not in 1..=512; --alpha 0 trains without soft prompts");
        return Err(problem("--n-user-tokens", text));
    }
    Ok(Some(UserModelSettings {
        kind,
        n_user_tokens,
        clusters: count("--clusters", raw.clusters.unwrap_or(10))?,
        init: raw.init.unwrap_or(Init::Zero),
    }))
}

fn lora(raw: &Pdpo) -> Result<LoraShape, ConfigError> {
    let usual = ["q", "k", "v"].map(str::to_owned);
    let names: &[String] = match &raw.lora_targets[..] {
        [] => &usual,
        named => named,
    };
    let mut targets = Vec::new();
    for name in names {
        match name.as_str() {
            "all-linear" => targets.extend(Projection::ALL),
            name => targets.push(projection(name)?),
        }
    }
    targets.sort_unstable();
    targets.dedup();
    let rank = raw.lora_rank.unwrap_or(8);
    if !(1..=1024).contains(&rank) {
        return Err(problem("--lora-rank", format!("{rank} is not in 1..=1024")));
    }
    Ok(LoraShape {
        rank,
        alpha: within("--lora-alpha", raw.lora_alpha.unwrap_or(16.0), 1e-6..=1e6)?,
        targets,
    })
}

/// `q`, `q_proj` and `self_attn.q_proj` are one.
fn projection(name: &str) -> Result<Projection, ConfigError> {
    let found = Projection::ALL.into_iter().find(|p| {
        let path = p.path();
        let last = path.rsplit('.').next().unwrap_or(path);
        [path, last, last.trim_end_matches("_proj")].contains(&name)
    });
    found.ok_or_else(|| {
        let text = format!("{name:?} is none of q, k, v, o, gate, up, down, all-linear");
        problem("--lora-targets", text)
    })
}

pub(super) fn count(setting: &'static str, value: usize) -> Result<usize, ConfigError> {
    if (1..=MAX_COUNT).contains(&value) {
        Ok(value)
    } else {
        Err(problem(
            setting,
            format!("{value} is not in 1..={MAX_COUNT}"),
        ))
    }
}

pub(super) fn share(setting: &'static str, value: f64) -> Result<f64, ConfigError> {
    if (0.0..1.0).contains(&value) {
        Ok(value)
    } else {
        Err(problem(
            setting,
            format!("{value} is not at least 0 and below 1"),
        ))
    }
}

fn clip(setting: &'static str, value: Option<f64>) -> Result<Option<f64>, ConfigError> {
    value.map(|n| within(setting, n, 1e-6..=1e9)).transpose()
}

pub(super) fn within(
    setting: &'static str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
) -> Result<f64, ConfigError> {
    if range.contains(&value) {
        Ok(value)
    } else {
        let text = format!("{value} is not in {}..={}", range.start(), range.end());
        Err(problem(setting, text))
    }
}

pub(super) fn problem(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::train::{TrainCli, TrainCommand};
    use super::*;

    fn config(arguments: &[&str]) -> Result<TrainConfig, ConfigError> {
        let typed = ["attune-train", "pdpo"].iter().chain(arguments);
        let TrainCommand::Pdpo(raw) = TrainCli::parse_from(typed).command else {
            panic!("not pdpo")
        };
        TrainConfig::new(&raw)
    }

    #[test]
    fn the_command_line_is_sound() {
        TrainCli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_authors_scripts() {
        let config = config(&["--data", "a,b", "--out", "o"]).unwrap();
        let settings = &config.settings;
        assert_eq!(settings.data, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(settings.objective, "dpo:beta=0.5".parse().unwrap());
        assert_eq!(
            (settings.alpha, settings.lr, settings.user_lr),
            (0.5, 5e-5, 5e-5)
        );
        assert_eq!(
            settings.lora.targets,
            [Projection::Q, Projection::K, Projection::V]
        );
        assert_eq!((settings.lora.rank, settings.lora.alpha), (8, 16.0));
        let users = settings.user_model.unwrap();
        assert_eq!(
            (users.kind, users.n_user_tokens),
            (UserModelKind::Individual, 10)
        );
        assert_eq!(users.init, Init::Zero);
        assert_eq!(config.max_memory, 8 << 30);
        assert_eq!(settings.warmup_steps(10_000), 150);
        assert_eq!(settings.warmup_steps(200), 20);
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.toml");
        fs::write(
            &path,
            "lr = 0.5\nalpha = 0.25\ndata = [\"x\"]\nlora-rank = 3\n",
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let settings = config(&["--config", path, "--out", "o", "--lr", "0.125"]);
        let settings = settings.unwrap().settings;
        assert_eq!(
            (settings.lr, settings.alpha, settings.lora.rank),
            (0.125, 0.25, 3)
        );
        fs::write(path, "learning-rate = 1\n").unwrap();
        let problem = config(&["--config", path, "--out", "o"])
            .unwrap_err()
            .to_string();
        assert!(problem.contains("learning-rate"), "{problem}");
    }

    #[test]
    fn plain_training_has_no_user_model() {
        let of = |arguments: &[&str]| {
            config(&[&["--data", "d", "--out", "o"], arguments].concat()).map(|c| c.settings)
        };
        assert_eq!(of(&["--alpha", "0"]).unwrap().user_model, None);
        assert_eq!(of(&["--user-model", "none"]).unwrap().user_model, None);
        assert!(of(&["--user-model", "none", "--alpha", "0.5"]).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (arguments, named) in [
            (["--alpha", "1.5"], "--alpha"),
            (["--alpha", "NaN"], "--alpha"),
            (["--loss", "no-such"], "--loss"),
            (["--loss", "dpo:gamma=1"], "--loss"),
            (["--beta", "0"], "--beta"),
            (["--lr", "inf"], "--lr"),
            (["--lora-targets", "q,wte"], "--lora-targets"),
            (["--lora-rank", "0"], "--lora-rank"),
            (["--batch-size", "0"], "--batch-size"),
            (["--holdout", "1"], "--holdout"),
            (["--test", "1"], "--test"),
            (["--clip-user-pairs", "0"], "--clip-user-pairs"),
            (["--clip-equal-pairs", "NaN"], "--clip-equal-pairs"),
            (["--clip-tenant-pairs", "inf"], "--clip-tenant-pairs"),
            (["--n-user-tokens", "0"], "--n-user-tokens"),
            (["--max-memory", "plenty"], "--max-memory"),
        ] {
            let typed = [&["--data", "d", "--out", "o"], &arguments[..]].concat();
            let problem = config(&typed).unwrap_err().to_string();
            assert!(problem.starts_with(named), "{problem}");
        }
        assert!(config(&["--out", "o"])
            .unwrap_err()
            .to_string()
            .starts_with("--data"));
        assert!(config(&["--data", "d"])
            .unwrap_err()
            .to_string()
            .starts_with("--out"));
    }
}
