//! `target_modules` and `layers_to_transform` of an `adapter_config.json`: which layers are adapted.
//!
//! PEFT takes a name in the list for every module that it ends: `q_proj`, `self_attn.q_proj`, or a name that
//! goes as far as the block, which is what people write who adapt some blocks only.

use std::collections::{BTreeMap, BTreeSet};

use super::error::AdapterError;
use super::peft_config::{refused, OneOrMany};
use crate::model::lora::Projection;

/// The adapted layers: these projections in these blocks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Targets {
    /// Modules that no decoder of attune has are left out.
    pub(super) projections: Vec<Projection>,
    /// `None`: all.
    pub(super) blocks: Option<Vec<usize>>,
}

impl Targets {
    /// Puts the two settings together.
    ///
    /// # Errors
    /// A regular expression, or blocks that differ in what is adapted.
    pub(super) fn parse(
        modules: OneOrMany<String>,
        layers: Option<OneOrMany<usize>>,
    ) -> Result<Self, AdapterError> {
        let layers = parse_layers(layers);
        let listed = match modules {
            OneOrMany::Many(listed) => listed,
            OneOrMany::One(all) if all == "all-linear" => {
                return Ok(Self {
                    projections: Projection::ALL.to_vec(),
                    blocks: layers,
                })
            }
            OneOrMany::One(pattern) => {
                let reason = format!(
                    "the pattern {pattern:?} is not supported; write the list of modules in its place"
                );
                return Err(refused("target_modules", reason));
            }
        };
        let targets = Self::of_names(&listed)?;
        match (&targets.blocks, layers) {
            // PEFT looks at layers_to_transform for some of the names only.
            (Some(_), Some(_)) => Err(refused(
                "layers_to_transform",
                "target_modules names blocks already; leave one of the two out",
            )),
            (None, blocks) => Ok(Self { blocks, ..targets }),
            (Some(_), None) => Ok(targets),
        }
    }

    fn of_names(listed: &[String]) -> Result<Self, AdapterError> {
        let named: Vec<_> = listed.iter().filter_map(|name| parse_name(name)).collect();
        let everywhere: BTreeSet<Projection> = named
            .iter()
            .filter_map(|(p, block)| block.is_none().then_some(*p))
            .collect();
        let mut somewhere: BTreeMap<Projection, BTreeSet<usize>> = BTreeMap::new();
        for (projection, block) in named {
            if let Some(block) = block.filter(|_| !everywhere.contains(&projection)) {
                somewhere.entry(projection).or_default().insert(block);
            }
        }
        let Some(blocks) = somewhere.values().next() else {
            return Ok(Self {
                projections: everywhere.into_iter().collect(),
                blocks: None,
            });
        };
        if !everywhere.is_empty() || somewhere.values().any(|other| other != blocks) {
            let reason = "it adapts other modules in one block than in another; \
                          a version adapts the same ones in each of its blocks";
            return Err(refused("target_modules", reason));
        }
        Ok(Self {
            projections: somewhere.keys().copied().collect(),
            blocks: Some(blocks.iter().copied().collect()),
        })
    }
}

/// The projection and, where the name goes that far, the block. `None`: a name of another
/// architecture (the authors list GPT-J's beside Llama's); its tensors, if there are any, are refused.
fn parse_name(name: &str) -> Option<(Projection, Option<usize>)> {
    Projection::ALL.into_iter().find_map(|projection| {
        let path = projection.path();
        let last = path.rsplit('.').next().unwrap_or(path);
        if name == path || name == last {
            return Some((projection, None));
        }
        let block = name.strip_suffix(path)?.strip_suffix('.')?;
        let number = block.strip_prefix("model.").unwrap_or(block);
        let number = number.strip_prefix("layers.").unwrap_or(number);
        let number: usize = number.parse().ok()?;
        // Made again and compared: "+3" and "model.3" are not endings of a name.
        let whole = format!("model.layers.{number}.{path}");
        let ends = whole.strip_suffix(name)?;
        (ends.is_empty() || ends.ends_with('.')).then_some((projection, Some(number)))
    })
}

fn parse_layers(layers: Option<OneOrMany<usize>>) -> Option<Vec<usize>> {
    let mut layers = match layers? {
        OneOrMany::One(layer) => vec![layer],
        OneOrMany::Many(layers) => layers,
    };
    layers.sort_unstable();
    layers.dedup();
    (!layers.is_empty()).then_some(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Projection::{Down, K, Q, V};

    fn parse(names: &[&str], layers: Option<Vec<usize>>) -> Result<Targets, AdapterError> {
        let names = names.iter().map(|n| n.to_string()).collect();
        Targets::parse(OneOrMany::Many(names), layers.map(OneOrMany::Many))
    }

    fn targets(projections: &[Projection], blocks: Option<&[usize]>) -> Targets {
        Targets {
            projections: projections.to_vec(),
            blocks: blocks.map(<[usize]>::to_vec),
        }
    }

    #[test]
    fn names_are_endings_of_modules() {
        let authors = ["v_proj", "q_proj", "out_proj", "fc_in", "wte"];
        assert_eq!(parse(&authors, None).unwrap(), targets(&[Q, V], None));
        let path = ["mlp.down_proj", "self_attn.k_proj"];
        assert_eq!(parse(&path, None).unwrap(), targets(&[K, Down], None));
        let layers = Some(vec![2, 0, 2]);
        let expected = targets(&[Q], Some(&[0, 2]));
        assert_eq!(parse(&["q_proj"], layers).unwrap(), expected);
    }

    #[test]
    fn a_name_may_go_as_far_as_the_block() {
        let names = [
            "model.layers.11.self_attn.q_proj",
            "layers.1.self_attn.q_proj",
            "1.self_attn.v_proj",
            "11.self_attn.v_proj",
        ];
        let expected = targets(&[Q, V], Some(&[1, 11]));
        assert_eq!(parse(&names, None).unwrap(), expected);
        let all = ["q_proj", "3.self_attn.q_proj"];
        assert_eq!(parse(&all, None).unwrap(), targets(&[Q], None));
        for odd in [
            "+1.self_attn.q_proj",
            "01.self_attn.q_proj",
            "model.1.self_attn.q_proj",
            "x.layers.1.self_attn.q_proj",
            "1.q_proj",
            "xq_proj",
        ] {
            assert_eq!(parse_name(odd), None, "{odd}");
        }
    }

    #[test]
    fn blocks_that_differ_are_refused() {
        let err = |names: &[&str], layers| parse(names, layers).unwrap_err().to_string();
        let differ = ["1.self_attn.q_proj", "2.self_attn.v_proj"];
        assert!(err(&differ, None).contains("the same ones in each"));
        let mixed = ["q_proj", "2.self_attn.v_proj"];
        assert!(err(&mixed, None).contains("the same ones in each"));
        let twice = err(&["1.self_attn.q_proj"], Some(vec![1]));
        assert!(twice.contains("layers_to_transform: "), "{twice}");
    }
}
