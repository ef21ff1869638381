//! `adapter_config.json`, as PEFT writes it: what of it attune runs, and what it refuses by name.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::AdapterError;
use super::peft_targets::Targets;
use crate::model::lora::Projection;
use crate::user_model::cluster::{CLUSTER_EMBEDDING, USER_WEIGHT};
use crate::user_model::individual::USER_EMBEDDING;

/// Settings that do not change what the trained adapter computes.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    // How A began, and ranks that rank_pattern has.
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// The settings of a LoRA checkpoint that attune runs.
#[derive(Debug, Clone, PartialEq)]
pub struct PeftConfig {
    /// Listed projections; modules that the base model does not have are left out.
    pub targets: Vec<Projection>,
    /// The adapted blocks; `None`: all.
    pub layers: Option<Vec<usize>>,
    /// What PEFT calls the base model.
    pub base_model: Option<String>,
    rank: usize,
    alpha: f64,
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
}

/// PEFT writes some lists of one as the one.
#[derive(Deserialize)]
#[serde(untagged)]
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
        let json: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| refused("the file", e))?;
        let mut settings = Settings(json);
        let peft_type: String = settings.required("peft_type")?;
        if peft_type != "LORA" {
            let reason = format!("{peft_type} is not LORA, the only type that is supported");
            return Err(refused("peft_type", reason));
        }
        let targets = Targets::parse(
            settings.required("target_modules")?,
            settings.optional("layers_to_transform")?,
        )?;
        let config = Self {
            targets: targets.projections,
            layers: targets.blocks,
            base_model: settings.optional("base_model_name_or_path")?,
            rank: settings.required("r")?,
            alpha: settings.required("lora_alpha")?,
            rank_pattern: settings.optional("rank_pattern")?.unwrap_or_default(),
            alpha_pattern: settings.optional("alpha_pattern")?.unwrap_or_default(),
            use_rslora: settings.optional("use_rslora")?.unwrap_or_default(),
        };
        check_bias(settings.optional("bias")?)?;
        check_init(settings.take("init_lora_weights"))?;
        check_saved_modules(settings.optional("modules_to_save")?.unwrap_or_default())?;
        check_layers_pattern(settings.optional("layers_pattern")?)?;
        for key in config
            .rank_pattern
            .keys()
            .chain(config.alpha_pattern.keys())
        {
            check_pattern(key)?;
        }
        settings.refuse_the_rest()?;
        Ok(config)
    }

    /// Rank and alpha of the layers that no pattern names; alpha as scale * rank.
    pub fn usual(&self) -> (usize, f64) {
        (self.rank, self.effective_alpha(self.rank, self.alpha))
    }

    /// Rank and alpha of one layer; alpha as scale * rank.
    ///
    /// # Errors
    /// Several patterns that name it with different numbers.
    pub fn of_layer(
        &self,
        layer: usize,
        projection: Projection,
    ) -> Result<(usize, f64), AdapterError> {
        let module = format!("model.layers.{layer}.{}", projection.path());
        let rank = lookup("rank_pattern", &self.rank_pattern, &module)?.unwrap_or(self.rank);
        let alpha = lookup("alpha_pattern", &self.alpha_pattern, &module)?.unwrap_or(self.alpha);
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
            format!("{other:?} is not a table of the user model, and a version replaces no layer"),
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

/// PEFT reads the keys of patterns as regular expressions; attune reads names.
fn check_pattern(key: &str) -> Result<(), AdapterError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if !key.is_empty() && key.chars().all(plain) {
        return Ok(());
    }
    let reason = format!("{key:?} is not a module's name; write the names out");
    Err(refused("rank_pattern/alpha_pattern", reason))
}

/// The number that the pattern gives `module`: keys are the module's name or its last parts.
fn lookup<T: Copy + PartialEq>(
    setting: &str,
    pattern: &BTreeMap<String, T>,
    module: &str,
) -> Result<Option<T>, AdapterError> {
    let names = |key: &str| {
        let rest = module.strip_suffix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let mut hits = pattern.iter().filter(|(key, _)| names(key));
    let Some((_, first)) = hits.next() else {
        return Ok(None);
    };
    if hits.any(|(_, other)| other != first) {
        let reason = format!("two keys give {module} different numbers");
        return Err(refused(setting, reason));
    }
    Ok(Some(*first))
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

    #[test]
    fn targets_are_the_projections_that_exist() {
        let targets = |value| parse("target_modules", value).map(|c| c.targets);
        let authors = json!(["q_proj", "v_proj", "k_proj", "out_proj", "fc_in", "fc_out", "wte"]);
        use Projection::{Down, K, Q, V};
        assert_eq!(targets(authors).unwrap(), [Q, K, V]);
        assert_eq!(targets(json!(["mlp.down_proj"])).unwrap(), [Down]);
        assert_eq!(targets(json!("all-linear")).unwrap(), Projection::ALL);
        assert!(targets(json!(r".*\.q_proj")).is_err());
    }

    #[test]
    fn patterns_give_layers_their_own_numbers() {
        let ranks = json!({"q_proj": 2, "layers.1.self_attn.v_proj": 8});
        let config = parse("rank_pattern", ranks).unwrap();
        assert_eq!(config.usual(), (4, 8.0));
        assert_eq!(config.of_layer(0, Projection::Q).unwrap(), (2, 8.0));
        assert_eq!(config.of_layer(1, Projection::V).unwrap(), (8, 8.0));
        assert_eq!(config.of_layer(11, Projection::V).unwrap(), (4, 8.0));
        let alphas = json!({"q_proj": 1, "self_attn.q_proj": 2});
        let config = parse("alpha_pattern", alphas).unwrap();
        assert!(config.of_layer(0, Projection::Q).is_err());
        assert!(parse("alpha_pattern", json!({".*q": 1})).is_err());
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
        let layers = |value| parse("layers_to_transform", value).unwrap().layers;
        assert_eq!(layers(json!(3)), Some(vec![3]));
        assert_eq!(layers(json!([2, 0, 2])), Some(vec![0, 2]));
        assert_eq!(layers(json!([])), None);
        assert_eq!(layers(json!(null)), None);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            ("peft_type", json!("IA3")),
            ("use_dora", json!(true)),
            ("exclude_modules", json!(["k_proj"])),
            ("target_modules", json!(".*[qv]_proj")),
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
