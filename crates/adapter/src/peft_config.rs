//! `adapter_config.json`, as PEFT writes it: what of it attune runs, and what it refuses by name.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::AdapterError;
use super::peft_targets::{whole, Adapted, Targets};
use attune_model::user_model::cluster::{CLUSTER_EMBEDDING, USER_WEIGHT};
use attune_model::user_model::individual::USER_EMBEDDING;

/// Settings that do not change what the trained adapter computes.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    // How A began, and ranks that rank_pattern has.
    "eva_config",
    "inference_mode",
    // Of ms-swift: how the adapter was trained.
    "lora_dtype",
    "lora_dropout",
    "lorap_lr_ratio",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// The settings of a LoRA checkpoint that attune runs.
#[derive(Debug)]
pub struct PeftConfig {
    /// What PEFT calls the base model.
    pub base_model: Option<String>,
    targets: Targets,
    rank: usize,
    alpha: f64,
    ranks: Vec<Pattern<usize>>,
    alphas: Vec<Pattern<f64>>,
    use_rslora: bool,
}

/// A number for the modules whose names match.
#[derive(Debug)]
struct Pattern<T> {
    key: String,
    regex: Regex,
    number: T,
}

/// PEFT writes some lists of one as the one.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "it is neither one value of its type nor a list of them"
)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl PeftConfig {
    /// Reads the bytes of an `adapter_config.json`.
    ///
    /// # Errors
    /// The first setting that attune cannot run, by name. A setting that this program does not know
    /// is accepted only where it is empty or off.
    pub fn parse(bytes: &[u8]) -> Result<Self, AdapterError> {
        // Editors on Windows put a byte order mark in front.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let json: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| refused("the file", e))?;
        let mut settings = Settings(json);
        let peft_type: String = settings.required("peft_type")?;
        if peft_type != "LORA" {
            let reason = format!("{peft_type} is not LORA, the only type that is supported");
            return Err(refused("peft_type", reason));
        }
        let config = Self {
            targets: Targets::parse(
                settings.optional("target_modules")?,
                settings.optional("exclude_modules")?,
                settings.optional("layers_to_transform")?,
            )?,
            base_model: settings.optional("base_model_name_or_path")?,
            rank: settings.required("r")?,
            alpha: settings.required("lora_alpha")?,
            ranks: patterns("rank_pattern", settings.optional("rank_pattern")?)?,
            alphas: patterns("alpha_pattern", settings.optional("alpha_pattern")?)?,
            use_rslora: settings.optional("use_rslora")?.unwrap_or_default(),
        };
        check_bias(settings.optional("bias")?)?;
        check_init(settings.take("init_lora_weights"))?;
        check_saved_modules(settings.optional("modules_to_save")?.unwrap_or_default())?;
        check_layers_pattern(settings.optional("layers_pattern")?)?;
        settings.refuse_the_rest()?;
        Ok(config)
    }

    /// Whether the module of this name, which lies in block `layer`, is adapted.
    pub(super) fn adapt(&self, module: &str, layer: usize) -> Adapted {
        self.targets.adapt(module, layer)
    }

    /// Which modules are adapted.
    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Rank and alpha of the modules that no pattern names; alpha as scale * rank.
    pub fn usual(&self) -> (usize, f64) {
        (self.rank, self.effective_alpha(self.rank, self.alpha))
    }

    /// Rank and alpha of one module; alpha as scale * rank.
    ///
    /// # Errors
    /// Several patterns that name it with different numbers.
    pub fn of_module(&self, module: &str) -> Result<(usize, f64), AdapterError> {
        let rank = lookup("rank_pattern", &self.ranks, module)?.unwrap_or(self.rank);
        let alpha = lookup("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        Ok((rank, self.effective_alpha(rank, alpha)))
    }

    /// The scale is alpha / rank, or alpha / sqrt(rank) where the rank is "stabilized".
    fn effective_alpha(&self, rank: usize, alpha: f64) -> f64 {
        if self.use_rslora {
            alpha * (rank as f64).sqrt()
        } else {
            alpha
        }
    }
}

/// The settings that were not looked at yet.
struct Settings(Map<String, Value>);

impl Settings {
    fn take(&mut self, name: &str) -> Value {
        self.0.remove(name).unwrap_or(Value::Null)
    }

    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, AdapterError> {
        serde_json::from_value(self.take(name)).map_err(|e| refused(name, e))
    }

    fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, AdapterError> {
        self.optional(name)?
            .ok_or_else(|| refused(name, "it is missing; is this a PEFT LoRA checkpoint?"))
    }

    /// What is left must be harmless, empty or off.
    fn refuse_the_rest(self) -> Result<(), AdapterError> {
        let is_off = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            Value::Bool(true) | Value::Number(_) => false,
        };
        let used = |(name, value): &(&String, &Value)| {
            !HARMLESS.contains(&name.as_str()) && !is_off(value)
        };
        match self.0.iter().find(used) {
            Some((name, value)) => {
                let value: String = value.to_string().chars().take(80).collect();
                let reason = format!("{value} is not supported; train with it off");
                Err(refused(name, reason))
            }
            None => Ok(()),
        }
    }
}

pub(super) fn refused(setting: impl Into<String>, reason: impl ToString) -> AdapterError {
    AdapterError::Peft {
        setting: setting.into(),
        reason: reason.to_string(),
    }
}

fn check_bias(bias: Option<String>) -> Result<(), AdapterError> {
    match bias.as_deref() {
        None | Some("none") => Ok(()),
        Some(other) => Err(refused(
            "bias",
            format!("{other:?} is not supported; train with \"none\""),
        )),
    }
}

/// Some initialisations change the base weights, so that the adapter is not one of the base model.
fn check_init(init: Value) -> Result<(), AdapterError> {
    match &init {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::String(s) if matches!(s.as_str(), "gaussian" | "eva" | "orthogonal") => Ok(()),
        other => Err(refused(
            "init_lora_weights",
            format!("{other} changes the base weights; convert the adapter to plain LoRA"),
        )),
    }
}

fn check_saved_modules(modules: Vec<String>) -> Result<(), AdapterError> {
    let user_model = [USER_EMBEDDING, CLUSTER_EMBEDDING, USER_WEIGHT];
    match modules.iter().find(|m| !user_model.contains(&m.as_str())) {
        Some(other) => Err(refused(
            "modules_to_save",
            format!(
                "{other:?} is not a table of the user model, and a version replaces no layer; train \
                 without it, or merge the adapter into its model and serve that one"
            ),
        )),
        None => Ok(()),
    }
}

fn check_layers_pattern(pattern: Option<OneOrMany<String>>) -> Result<(), AdapterError> {
    let patterns = match pattern {
        None => return Ok(()),
        Some(OneOrMany::One(pattern)) => vec![pattern],
        Some(OneOrMany::Many(patterns)) => patterns,
    };
    match patterns.iter().find(|p| !p.is_empty() && *p != "layers") {
        Some(other) => Err(refused(
            "layers_pattern",
            format!("{other:?} is not \"layers\", where decoders keep their blocks"),
        )),
        None => Ok(()),
    }
}

/// PEFT reads the keys as regular expressions of the last parts of a module's name.
fn patterns<T>(
    setting: &str,
    pattern: Option<BTreeMap<String, T>>,
) -> Result<Vec<Pattern<T>>, AdapterError> {
    let read = |(key, number): (String, T)| {
        let regex = whole(&format!(r"(?:.*\.)?(?:{key})")).map_err(|reason| {
            let reason = format!("{key:?} cannot be read: {reason}; write the modules' names out");
            refused(setting, reason)
        })?;
        Ok(Pattern { key, regex, number })
    };
    pattern.unwrap_or_default().into_iter().map(read).collect()
}

/// The number that the patterns give `module`.
fn lookup<T: Copy + PartialEq>(
    setting: &str,
    patterns: &[Pattern<T>],
    module: &str,
) -> Result<Option<T>, AdapterError> {
    let mut found: Option<&Pattern<T>> = None;
    for pattern in patterns {
        let hit = pattern.regex.is_match(module).map_err(|error| {
            let reason = format!("{:?}: {error}; write the modules' names out", pattern.key);
            refused(setting, reason)
        })?;
        if !hit {
            continue;
        }
        if let Some(first) = found.filter(|first| first.number != pattern.number) {
            let keys = format!("{:?} and {:?}", first.key, pattern.key);
            let reason = format!("{keys} give {module} different numbers; leave one of them out");
            return Err(refused(setting, reason));
        }
        found = Some(pattern);
    }
    Ok(found.map(|pattern| pattern.number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A plain configuration with `field` set to `value`.
    fn parse(field: &str, value: Value) -> Result<PeftConfig, AdapterError> {
        let mut config = json!({
            "peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none",
            "target_modules": ["v_proj", "q_proj"], "lora_dropout": 0.05,
            "megatron_core": "megatron.core", "task_type": "CAUSAL_LM", "use_dora": false,
            "layer_replication": null, "loftq_config": {}, "fan_in_fan_out": false
        });
        config[field] = value;
        PeftConfig::parse(config.to_string().as_bytes())
    }

    fn name(block: usize, path: &str) -> String {
        format!("model.layers.{block}.{path}")
    }

    #[test]
    fn patterns_give_modules_their_own_numbers() {
        let (q, v) = ("self_attn.q_proj", "self_attn.v_proj");
        let ranks = json!({"q_proj": 2, "layers.1.self_attn.v_proj": 8});
        let config = parse("rank_pattern", ranks).unwrap();
        assert_eq!(config.usual(), (4, 8.0));
        assert_eq!(config.of_module(&name(0, q)).unwrap(), (2, 8.0));
        assert_eq!(config.of_module(&name(1, v)).unwrap(), (8, 8.0));
        assert_eq!(config.of_module(&name(11, v)).unwrap(), (4, 8.0));
        let alphas = json!({"q_proj": 1, "self_attn.q_proj": 2});
        let config = parse("alpha_pattern", alphas).unwrap();
        let err = config.of_module(&name(0, q)).unwrap_err().to_string();
        assert!(
            err.contains("alpha_pattern: \"q_proj\" and \"self_attn.q_proj\""),
            "{err}"
        );
        assert_eq!(config.of_module(&name(0, v)).unwrap(), (4, 8.0));
    }

    #[test]
    fn keys_of_patterns_may_be_expressions() {
        let (q, v) = ("self_attn.q_proj", "self_attn.v_proj");
        let alphas = json!({r"layers\.[0-3]\..*q_proj": 1, "^model.layers.7.self_attn.v_proj": 2});
        let config = parse("alpha_pattern", alphas).unwrap();
        for (block, path, alpha) in [(3, q, 1.0), (4, q, 8.0), (7, v, 2.0), (17, v, 8.0)] {
            let (_, found) = config.of_module(&name(block, path)).unwrap();
            assert_eq!(found, alpha, "{block} {path}");
        }
        let err = parse("rank_pattern", json!({"(q_proj": 1})).unwrap_err();
        assert!(
            err.to_string().contains("rank_pattern: \"(q_proj\""),
            "{err}"
        );
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let config = "\u{feff}{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1}";
        assert_eq!(
            PeftConfig::parse(config.as_bytes()).unwrap().usual(),
            (1, 1.0)
        );
    }

    #[test]
    fn a_stabilized_rank_divides_by_its_root() {
        let config = parse("use_rslora", json!(true)).unwrap();
        let (rank, alpha) = config.usual();
        assert_eq!(alpha / rank as f64, 8.0 / 2.0);
    }

    #[test]
    fn how_the_adapter_began_does_not_matter() {
        assert!(parse("eva_config", json!({"rho": 2.0})).is_ok());
        assert!(parse("init_lora_weights", json!("eva")).is_ok());
    }

    #[test]
    fn layers_may_be_one_or_many() {
        let adapted = |value| {
            let config = parse("layers_to_transform", value).unwrap();
            let q = |block| config.adapt(&name(block, "self_attn.q_proj"), block);
            (0..4).filter(|b| q(*b) == Adapted::Yes).collect::<Vec<_>>()
        };
        assert_eq!(adapted(json!(3)), [3]);
        assert_eq!(adapted(json!([2, 0, 2])), [0, 2]);
        assert_eq!(adapted(json!([])), [0, 1, 2, 3]);
        assert_eq!(adapted(json!(null)), [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("peft_type", json!("IA3")),
            ("use_dora", json!(true)),
            ("exclude_modules", json!(7)),
            ("target_modules", json!({"q_proj": 1})),
            ("layers_to_transform", json!("all")),
            ("layers_to_transform", json!([-1])),
            ("bias", json!("all")),
            ("fan_in_fan_out", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("init_lora_weights", json!("loftq")),
            ("layer_replication", json!([[0, 4]])),
            ("layers_pattern", json!("h")),
            ("lora_bias", json!(true)),
            ("trainable_token_indices", json!([1])),
            ("a_setting_of_tomorrow", json!({"on": true})),
            ("r", json!(null)),
            ("r", json!(-1)),
            ("lora_alpha", json!("8")),
        ];
        for (setting, value) in cases {
            let err = parse(setting, value.clone()).unwrap_err().to_string();
            let named = err.contains(&format!("adapter_config.json: {setting}:"));
            assert!(named, "{setting} = {value}: {err}");
        }
        assert!(PeftConfig::parse(b"[]").is_err());
        assert!(PeftConfig::parse(b"").is_err());
    }
}
