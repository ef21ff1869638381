//! Which modules an `adapter_config.json` adapts: `target_modules`, `exclude_modules`, `layers_to_transform`.
//!
//! As PEFT decides it, module by module. A name in a list stands for every module that it ends: `q_proj`,
//! `self_attn.q_proj`, or one that goes as far as the block. A text in place of the list is a regular
//! expression of the module's whole name, which unsloth and ms-swift write.

use std::collections::BTreeSet;

use fancy_regex::Regex;

use super::error::AdapterError;
use super::peft_config::{refused, OneOrMany};

/// What is adapted, and what of it is not.
#[derive(Debug)]
pub(super) struct Targets {
    modules: Modules,
    excluded: Option<Modules>,
    /// `layers_to_transform`; `None`: every block.
    layers: Option<BTreeSet<usize>>,
}

#[derive(Debug)]
enum Modules {
    /// Every linear layer of the blocks.
    All,
    /// Endings of names.
    Names(Vec<String>),
    /// A regular expression; an error where it is none that can be read here.
    Pattern(String, Result<Regex, String>),
}

/// Whether a module is adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Adapted {
    /// The settings say so.
    Yes,
    /// They say that it is not.
    No,
    /// They do not say, or not in a way that is understood here: its tensors tell.
    Unsaid,
}

impl Targets {
    /// Puts the three settings together.
    ///
    /// # Errors
    /// Blocks that are named beside a regular expression, where PEFT takes no notice of them.
    pub(super) fn parse(
        modules: Option<OneOrMany<String>>,
        excluded: Option<OneOrMany<String>>,
        layers: Option<OneOrMany<usize>>,
    ) -> Result<Self, AdapterError> {
        let layers = layers.map(OneOrMany::into_vec).unwrap_or_default();
        let layers = (!layers.is_empty()).then(|| layers.into_iter().collect());
        // `None` has PEFT choose by the architecture; the tensors tell what it chose.
        let modules = modules.map_or(Modules::Pattern(String::new(), Err("null".into())), |m| {
            Modules::of(m, true)
        });
        if layers.is_some() && matches!(modules, Modules::Pattern(..)) {
            let reason = "target_modules is no list, and PEFT looks at blocks for lists only; \
                          leave one of the two out";
            return Err(refused("layers_to_transform", reason));
        }
        Ok(Self {
            modules,
            excluded: excluded
                .filter(|excluded| !excluded.is_empty())
                .map(|excluded| Modules::of(excluded, false)),
            layers,
        })
    }

    /// Whether the module of this name, which lies in block `layer`, is adapted.
    pub(super) fn adapt(&self, module: &str, layer: usize) -> Adapted {
        match self.excluded.as_ref().map(|excluded| excluded.has(module)) {
            Some(Adapted::Yes) => return Adapted::No,
            Some(Adapted::Unsaid) => return Adapted::Unsaid,
            Some(Adapted::No) | None => {}
        }
        // A module that is named in full is adapted in whatever block it is.
        let in_full = match &self.modules {
            Modules::Names(names) => names.iter().any(|name| name == module),
            Modules::All | Modules::Pattern(..) => false,
        };
        let elsewhere = self.layers.as_ref().is_some_and(|l| !l.contains(&layer));
        match elsewhere && !in_full {
            true => Adapted::No,
            false => self.modules.has(module),
        }
    }

    /// Whether lists say all of it, and no expression.
    pub(super) fn are_listed(&self) -> bool {
        let both = [Some(&self.modules), self.excluded.as_ref()];
        let mut both = both.into_iter().flatten();
        both.all(|modules| !matches!(modules, Modules::Pattern(..)))
    }

    /// Whether the settings name single modules or blocks, so that not every block is adapted.
    pub(super) fn choose_blocks(&self) -> bool {
        self.layers.is_some()
            || matches!(&self.modules, Modules::Names(names)
                if names.iter().any(|name| name.split('.').any(is_number)))
    }

    /// Why `target_modules` is not understood, where it is not.
    pub(super) fn not_understood(&self) -> Option<String> {
        let both = [Some(&self.modules), self.excluded.as_ref()];
        both.into_iter()
            .flatten()
            .find_map(|modules| match modules {
                Modules::Pattern(pattern, Err(reason)) if !pattern.is_empty() => {
                    Some(format!("the pattern {pattern:?} cannot be read: {reason}"))
                }
                _ => None,
            })
    }
}

impl Modules {
    /// `all-linear` is a word of `target_modules` only.
    fn of(modules: OneOrMany<String>, may_be_all: bool) -> Self {
        match modules {
            OneOrMany::Many(names) => Self::Names(names),
            OneOrMany::One(word) if may_be_all && word == "all-linear" => Self::All,
            OneOrMany::One(pattern) => {
                let regex = whole(&pattern);
                Self::Pattern(pattern, regex)
            }
        }
    }

    fn has(&self, module: &str) -> Adapted {
        let ends = |name: &String| {
            let rest = module.strip_suffix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        match self {
            Self::All => Adapted::Yes,
            Self::Names(names) if names.iter().any(ends) => Adapted::Yes,
            Self::Names(_) => Adapted::No,
            Self::Pattern(_, Err(_)) => Adapted::Unsaid,
            // An expression that needs too many steps says nothing.
            Self::Pattern(_, Ok(regex)) => match regex.is_match(module) {
                Ok(true) => Adapted::Yes,
                Ok(false) => Adapted::No,
                Err(_) => Adapted::Unsaid,
            },
        }
    }
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl OneOrMany<String> {
    fn is_empty(&self) -> bool {
        match self {
            Self::One(one) => one.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }
}

/// An expression that a whole name must match.
pub(super) fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(|error| error.to_string())
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Adapted::{No, Unsaid, Yes};

    fn names(names: &[&str]) -> Option<OneOrMany<String>> {
        Some(OneOrMany::Many(
            names.iter().map(|n| n.to_string()).collect(),
        ))
    }

    fn one(text: &str) -> Option<OneOrMany<String>> {
        Some(OneOrMany::One(text.to_owned()))
    }

    fn targets(modules: Option<OneOrMany<String>>, layers: Option<Vec<usize>>) -> Targets {
        Targets::parse(modules, None, layers.map(OneOrMany::Many)).unwrap()
    }

    fn adapt(targets: &Targets, block: usize, path: &str) -> Adapted {
        targets.adapt(&format!("model.layers.{block}.{path}"), block)
    }

    #[test]
    fn names_are_endings_of_modules() {
        let authors = targets(
            names(&["v_proj", "q_proj", "out_proj", "fc_in", "wte"]),
            None,
        );
        assert_eq!(adapt(&authors, 7, "self_attn.q_proj"), Yes);
        assert_eq!(adapt(&authors, 7, "self_attn.k_proj"), No);
        let path = targets(names(&["mlp.down_proj", "proj", "_proj"]), None);
        assert_eq!(adapt(&path, 0, "mlp.down_proj"), Yes);
        assert_eq!(
            adapt(&path, 0, "mlp.up_proj"),
            No,
            "an ending begins at a dot"
        );
        assert_eq!(
            adapt(&targets(one("all-linear"), None), 0, "mlp.up_proj"),
            Yes
        );
    }

    #[test]
    fn a_name_may_go_as_far_as_the_block() {
        let some = [
            "model.layers.11.self_attn.q_proj",
            "layers.1.self_attn.q_proj",
            "1.self_attn.v_proj",
        ];
        let some = targets(names(&some), None);
        assert!(some.choose_blocks());
        for (block, path, expected) in [
            (11, "self_attn.q_proj", Yes),
            (1, "self_attn.q_proj", Yes),
            (1, "self_attn.v_proj", Yes),
            (11, "self_attn.v_proj", No),
            (0, "self_attn.q_proj", No),
        ] {
            assert_eq!(adapt(&some, block, path), expected, "{block} {path}");
        }
    }

    #[test]
    fn blocks_are_chosen_among_the_endings() {
        let layers = targets(
            names(&["q_proj", "model.layers.3.mlp.up_proj"]),
            Some(vec![0, 2]),
        );
        let blocks = (0..4).filter(|b| adapt(&layers, *b, "self_attn.q_proj") == Yes);
        assert_eq!(blocks.collect::<Vec<_>>(), [0, 2]);
        // PEFT does not look at the block of a module that is named in full.
        assert_eq!(adapt(&layers, 3, "mlp.up_proj"), Yes);
        assert_eq!(adapt(&layers, 2, "mlp.up_proj"), No);
        let error = Targets::parse(one(".*q_proj"), None, Some(OneOrMany::One(1))).unwrap_err();
        assert!(
            error.to_string().contains("layers_to_transform: "),
            "{error}"
        );
    }

    /// As unsloth and ms-swift write them.
    #[test]
    fn expressions_are_of_whole_names() {
        let unsloth = r"(?:.*?(?:language|text).*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:q_proj|up_proj)))";
        let swift = r"^(model(?=\.)(?!.*(lm_head|embed_tokens)).*\.(q_proj|up_proj))$";
        for pattern in [unsloth, swift] {
            let targets = targets(one(pattern), None);
            assert_eq!(adapt(&targets, 3, "self_attn.q_proj"), Yes, "{pattern}");
            assert_eq!(adapt(&targets, 3, "self_attn.k_proj"), No, "{pattern}");
            assert_eq!(targets.not_understood(), None);
        }
        let part = targets(one(r"layers\.\d+\.self_attn\.q_proj"), None);
        assert_eq!(
            adapt(&part, 3, "self_attn.q_proj"),
            No,
            "not the whole name"
        );
        let broken = targets(one("(q_proj"), None);
        assert_eq!(adapt(&broken, 3, "self_attn.q_proj"), Unsaid);
        let told = broken.not_understood().unwrap();
        assert!(told.contains("(q_proj"), "{told}");
        let slow = targets(one(r"(?:a|m|.)*(?:(?=.).)*(?:.*.*)*x\1()"), None);
        assert_ne!(adapt(&slow, 3, "self_attn.q_proj"), Yes);
        assert_eq!(adapt(&targets(None, None), 3, "self_attn.q_proj"), Unsaid);
    }

    #[test]
    fn what_is_excluded_is_not_adapted() {
        for excluded in [names(&["q_proj"]), one(r".*\.q_proj")] {
            let targets = Targets::parse(names(&["q_proj", "v_proj"]), excluded, None).unwrap();
            assert_eq!(adapt(&targets, 0, "self_attn.q_proj"), No);
            assert_eq!(adapt(&targets, 0, "self_attn.v_proj"), Yes);
        }
    }
}
