//! The tensors that a manifest promises, with their shapes.

use std::collections::BTreeMap;

use super::error::AdapterError;
use super::manifest::{LoraManifest, Manifest, UserModelManifest};
use attune_model::config::ModelConfig;
use attune_model::lora::Projection;
use attune_model::user_model::cluster::{CLUSTER_EMBEDDING, USER_WEIGHT};
use attune_model::user_model::individual::USER_EMBEDDING;
use attune_model::user_model::model::UserModelKind;

/// What PEFT puts before the name of a block.
const LAYERS: &str = "base_model.model.model.layers.";

/// One adapted layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairPlan {
    /// Rows of A.
    pub rank: usize,
    /// alpha / rank.
    pub scale: f32,
}

/// A side of a tensor; `None` is any but 0: the base model, which is not at hand, decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Side(Option<usize>);

/// What a version must hold, no more and no less.
#[derive(Debug)]
pub struct Plan {
    /// The adapted layers.
    pub pairs: BTreeMap<(usize, Projection), PairPlan>,
    shapes: BTreeMap<String, [Side; 2]>,
}

/// The name of A or B of a layer, as PEFT writes it.
pub fn lora_name(layer: usize, projection: Projection, matrix: char) -> String {
    format!("{LAYERS}{layer}.{}.lora_{matrix}.weight", projection.path())
}

/// The name of a table of the user model, as PEFT writes it.
pub fn user_model_name(table: &str) -> String {
    format!("base_model.model.user_model.{table}.weight")
}

/// The layer, projection and matrix of a name that [`lora_name`] makes.
pub fn parse_lora_name(name: &str) -> Option<(usize, Projection, char)> {
    let (layer, rest) = name.strip_prefix(LAYERS)?.split_once('.')?;
    let (path, matrix) = rest.strip_suffix(".weight")?.rsplit_once(".lora_")?;
    let projection = Projection::ALL.into_iter().find(|p| p.path() == path)?;
    let matrix = matrix.chars().next()?;
    let layer = layer.parse().ok()?;
    // Made again and compared: "+1", "007" and "lora_Ax" are not names.
    (lora_name(layer, projection, matrix) == name).then_some((layer, projection, matrix))
}

impl Plan {
    /// What `manifest` promises: for the model `config`, or for any whose blocks `names` mentions.
    ///
    /// # Errors
    /// A manifest that names blocks which are not there.
    pub fn new<'a>(
        manifest: &Manifest,
        config: Option<&ModelConfig>,
        names: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Self, AdapterError> {
        let mut plan = Self {
            pairs: BTreeMap::new(),
            shapes: BTreeMap::new(),
        };
        if let Some(lora) = &manifest.lora {
            let n_layers = config.map_or_else(|| mentioned_layers(names), |c| c.n_layers);
            plan.pairs = pairs(lora, n_layers, config.is_some())?;
            plan.add_lora_shapes(config);
        }
        if let Some(user_model) = &manifest.user_model {
            plan.add_user_model_shapes(user_model, config)?;
        }
        Ok(plan)
    }

    /// Checks that tensors of these shapes are exactly what was promised.
    ///
    /// # Errors
    /// Missing, unexpected or misshapen tensors, named.
    pub fn check(&self, found: &BTreeMap<&str, &[usize]>) -> Result<(), AdapterError> {
        let absent = |name: &&String| !found.contains_key(name.as_str());
        let missing: Vec<String> = self.shapes.keys().filter(absent).cloned().collect();
        if !missing.is_empty() {
            return Err(AdapterError::MissingTensors(missing));
        }
        let unused = |name: &&&str| !self.shapes.contains_key(**name);
        let unexpected: Vec<String> = found.keys().filter(unused).map(|n| n.to_string()).collect();
        if !unexpected.is_empty() {
            return Err(AdapterError::UnexpectedTensors(unexpected));
        }
        for (name, sides) in &self.shapes {
            let got = found[name.as_str()];
            let fits = got.len() == 2 && sides.iter().zip(got).all(|(side, n)| side.allows(*n));
            if !fits {
                let side = |s: Side| s.0.map_or("?".to_owned(), |n| n.to_string());
                return Err(AdapterError::Shape {
                    name: name.clone(),
                    expected: format!("[{}, {}]", side(sides[0]), side(sides[1])),
                    got: got.to_vec(),
                });
            }
        }
        Ok(())
    }

    fn add_lora_shapes(&mut self, config: Option<&ModelConfig>) {
        for (&(layer, projection), pair) in &self.pairs {
            let shape = config.map(|c| c.projection_shape(projection));
            let (output, input) = (Side(shape.map(|s| s.0)), Side(shape.map(|s| s.1)));
            let rank = Side(Some(pair.rank));
            let (a, b) = ([rank, input], [output, rank]);
            self.shapes.insert(lora_name(layer, projection, 'A'), a);
            self.shapes.insert(lora_name(layer, projection, 'B'), b);
        }
    }

    fn add_user_model_shapes(
        &mut self,
        manifest: &UserModelManifest,
        config: Option<&ModelConfig>,
    ) -> Result<(), AdapterError> {
        let width = Side(config.map(|c| c.hidden_size));
        let prompts = |n: usize| {
            let rows = n.checked_mul(manifest.n_user_tokens);
            rows.map(|rows| [Side(Some(rows)), width])
                .ok_or_else(|| AdapterError::Manifest("the user model's table is too large".into()))
        };
        let mut add = |table, shape| self.shapes.insert(user_model_name(table), shape);
        match manifest.kind {
            UserModelKind::Individual | UserModelKind::IndividualNoGeneric => {
                add(USER_EMBEDDING, prompts(manifest.n_users + 1)?);
            }
            UserModelKind::Cluster => {
                let k = manifest.clusters.unwrap_or(0);
                add(CLUSTER_EMBEDDING, prompts(k)?);
                add(
                    USER_WEIGHT,
                    [Side(Some(manifest.n_users + 1)), Side(Some(k))],
                );
            }
        }
        Ok(())
    }
}

impl Side {
    fn allows(self, n: usize) -> bool {
        n > 0 && self.0.is_none_or(|expected| expected == n)
    }
}

/// One more than the highest block that a name mentions, and no more than there are names: a name
/// must not decide how much is allocated.
fn mentioned_layers<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> usize {
    let n_names = names.len();
    let layers = names.filter_map(|name| parse_lora_name(name).map(|(layer, ..)| layer));
    layers.max().map_or(0, |l| l.saturating_add(1)).min(n_names)
}

/// Rank and scale of each adapted layer. `all_known`: `n_layers` is the model's own count.
fn pairs(
    lora: &LoraManifest,
    n_layers: usize,
    all_known: bool,
) -> Result<BTreeMap<(usize, Projection), PairPlan>, AdapterError> {
    let layers = match &lora.layers {
        Some(layers) => layers.clone(),
        None => (0..n_layers.max(1)).collect(),
    };
    if let Some(layer) = layers.iter().find(|l| all_known && **l >= n_layers) {
        return Err(AdapterError::Manifest(format!(
            "lora.layers names block {layer}, but the model has {n_layers}"
        )));
    }
    let pair = |rank: usize, alpha: f64| PairPlan {
        rank,
        scale: (alpha / rank as f64) as f32,
    };
    let usual = pair(lora.rank, lora.alpha);
    let places = layers
        .iter()
        .flat_map(|l| lora.targets.iter().map(|t| (*l, *t)));
    let mut pairs: BTreeMap<_, _> = places.map(|place| (place, usual)).collect();
    for o in &lora.overrides {
        match pairs.get_mut(&(o.layer, o.target)) {
            Some(place) => *place = pair(o.rank, o.alpha),
            None => {
                return Err(AdapterError::Manifest(format!(
                    "lora.overrides names {} of block {}, which is not adapted",
                    o.target.path(),
                    o.layer
                )))
            }
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        for projection in Projection::ALL {
            for matrix in ['A', 'B'] {
                let name = lora_name(12, projection, matrix);
                assert_eq!(parse_lora_name(&name), Some((12, projection, matrix)));
            }
        }
        assert_eq!(
            lora_name(0, Projection::Q, 'A'),
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        );
        for odd in [
            "base_model.model.model.layers.007.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.+1.self_attn.q_proj.lora_A.weight",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_Ab.weight",
            "base_model.model.model.layers.1.self_attn.w_proj.lora_A.weight",
            "base_model.model.model.layers.1.self_attn.q_proj.lora_.weight",
            "model.layers.1.self_attn.q_proj.lora_A.weight",
            "",
        ] {
            assert_eq!(parse_lora_name(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_name_does_not_decide_how_much_is_allocated() {
        let far = lora_name(usize::MAX, Projection::Q, 'A');
        assert_eq!(mentioned_layers([far.as_str(), "x"].into_iter()), 2);
        assert_eq!(mentioned_layers([].into_iter()), 0);
    }

    #[test]
    fn overrides_change_one_layer() {
        let lora: LoraManifest = serde_json::from_str(
            r#"{"rank": 4, "alpha": 8, "targets": ["q", "v"], "layers": [1, 3],
                "overrides": [{"layer": 3, "target": "v", "rank": 2, "alpha": 1}]}"#,
        )
        .unwrap();
        let pairs = pairs(&lora, 4, true).unwrap();
        let expected = |rank, scale| PairPlan { rank, scale };
        assert_eq!(pairs.len(), 4);
        assert_eq!(pairs[&(1, Projection::Q)], expected(4, 2.0));
        assert_eq!(pairs[&(3, Projection::V)], expected(2, 0.5));
        assert!(super::pairs(&lora, 3, true).is_err(), "block 3 of 3");
        let stray = LoraManifest {
            layers: Some(vec![1]),
            ..lora
        };
        let err = super::pairs(&stray, 4, true).unwrap_err().to_string();
        assert!(err.contains("not adapted"), "{err}");
    }
}
