//! A loss by name, with its parameters: what a command line, a configuration and a manifest hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pair::{Loss, PairLogps, PairLoss, Side};
use super::{
    apo_down, apo_zero, cpo, dpo, dpop, exo_pair, hinge, ipo, ipo_avg, nca_pair, orpo, rdpo,
    robust, rrhf, sft, simpo, slic_hf, sppo,
};

/// The field of the name in JSON.
const NAME: &str = "name";

/// Why a text or a configuration names no loss.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectiveError {
    /// No loss has this name.
    #[error("there is no loss {name:?}; use one of {}", Objective::NAMES.join(", "))]
    UnknownName {
        /// What was given.
        name: String,
    },
    /// A parameter that this loss does not have, or a value that it cannot use.
    #[error("loss {name}: {reason}")]
    Parameters {
        /// The loss.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A text that is not `name:key=value,...`.
    #[error("{text:?} is not a parameter of a loss: write NAME:KEY=VALUE,KEY=VALUE")]
    Syntax {
        /// The part that cannot be read.
        text: String,
    },
}

macro_rules! objectives {
    ($($(#[$doc:meta])* $variant:ident($module:ident) = $name:literal,)*) => {
        /// A loss and its parameters.
        ///
        /// As text `dpo:beta=0.1,label_smoothing=0`, where what is left out has its default; as JSON
        /// `{"name": "dpo", "beta": 0.1, "label_smoothing": 0.0}`.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "name")]
        pub enum Objective {
            $($(#[$doc])* #[serde(rename = $name)] $variant($module::$variant),)*
        }

        impl Objective {
            /// Every name.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name, without parameters.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Value and derivatives for one pair.
            pub fn loss(&self, pair: &PairLogps) -> PairLoss {
                match self { $(Self::$variant(loss) => loss.loss(pair),)* }
            }

            /// Whether it reads the reference's log-probabilities.
            pub fn needs_reference(&self) -> bool {
                match self { $(Self::$variant(_) => <$module::$variant as Loss>::NEEDS_REFERENCE,)* }
            }

            /// Whether it reads the rejected response.
            pub fn needs_rejected(&self) -> bool {
                match self { $(Self::$variant(_) => <$module::$variant as Loss>::NEEDS_REJECTED,)* }
            }

            fn reward(&self, side: Side) -> f64 {
                match self { $(Self::$variant(loss) => loss.reward(side),)* }
            }
        }
    };
}

objectives! {
    /// DPO, and cDPO with label smoothing.
    Dpo(dpo) = "dpo",
    /// Robust DPO.
    Robust(robust) = "robust",
    /// DPO with a length term.
    Rdpo(rdpo) = "rdpo",
    /// DPO-Positive.
    Dpop(dpop) = "dpop",
    /// IPO on sums.
    Ipo(ipo) = "ipo",
    /// IPO on averages.
    IpoAvg(ipo_avg) = "ipo-avg",
    /// A hinge on DPO's margin.
    Hinge(hinge) = "hinge",
    /// SimPO.
    Simpo(simpo) = "simpo",
    /// CPO.
    Cpo(cpo) = "cpo",
    /// CPO with a hinge.
    CpoHinge(cpo) = "cpo-hinge",
    /// SLiC-HF.
    SlicHf(slic_hf) = "slic-hf",
    /// RRHF.
    Rrhf(rrhf) = "rrhf",
    /// ORPO.
    Orpo(orpo) = "orpo",
    /// SPPO, mean of squares.
    Sppo(sppo) = "sppo",
    /// SPPO, sum of squares.
    SppoHard(sppo) = "sppo-hard",
    /// EXO on a pair.
    ExoPair(exo_pair) = "exo-pair",
    /// NCA on a pair.
    NcaPair(nca_pair) = "nca-pair",
    /// APO-zero.
    ApoZero(apo_zero) = "apo-zero",
    /// APO-down.
    ApoDown(apo_down) = "apo-down",
    /// Likelihood of the chosen response.
    Sft(sft) = "sft",
}

impl Objective {
    /// The loss of this name; parameters that are left out have their defaults.
    ///
    /// # Errors
    /// An unknown name, a parameter that the loss does not have, a value that it cannot use.
    pub fn from_name(name: &str, parameters: Map<String, Value>) -> Result<Self, ObjectiveError> {
        if !Self::NAMES.contains(&name) {
            return Err(ObjectiveError::UnknownName { name: name.into() });
        }
        let wrong = |reason: String| ObjectiveError::Parameters {
            name: name.into(),
            reason,
        };
        if parameters.contains_key(NAME) {
            return Err(wrong(format!("{NAME} is not a parameter")));
        }
        let mut object = parameters;
        object.insert(NAME.into(), name.into());
        serde_json::from_value(Value::Object(object)).map_err(|e| wrong(e.to_string()))
    }

    /// The implicit reward of the chosen response: beta D for losses with a reference, else beta
    /// times what the loss compares (a or m). TRL logs it as `rewards/chosen`.
    pub fn chosen_reward(&self, pair: &PairLogps) -> f64 {
        self.reward(pair.w())
    }

    /// The implicit reward of the rejected response, see [`Self::chosen_reward`].
    pub fn rejected_reward(&self, pair: &PairLogps) -> f64 {
        self.reward(pair.l())
    }

    /// The parameters, in alphabetical order.
    fn parameters(&self) -> Result<Vec<(String, Value)>, fmt::Error> {
        let Ok(Value::Object(object)) = serde_json::to_value(self) else {
            return Err(fmt::Error);
        };
        let mut parameters: Vec<_> = object.into_iter().filter(|(key, _)| key != NAME).collect();
        parameters.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(parameters)
    }
}

/// What [`FromStr`] reads, with every parameter.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for (i, (key, value)) in self.parameters()?.iter().enumerate() {
            f.write_str(if i == 0 { ":" } else { "," })?;
            match value {
                Value::String(word) => write!(f, "{key}={word}")?,
                number => write!(f, "{key}={number}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Objective {
    type Err = ObjectiveError;

    fn from_str(text: &str) -> Result<Self, ObjectiveError> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut parameters = Map::new();
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            let syntax = || ObjectiveError::Syntax { text: part.into() };
            let (key, value) = part.split_once('=').ok_or_else(syntax)?;
            let value = match value.parse::<f64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::from(value),
            };
            if parameters.insert(key.into(), value).is_some() {
                return Err(syntax());
            }
        }
        Self::from_name(name, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_survives_text_and_json() {
        for name in Objective::NAMES {
            let objective: Objective = name.parse().unwrap();
            assert_eq!(objective.name(), *name);
            assert_eq!(objective.to_string().parse(), Ok(objective));
            let json = serde_json::to_string(&objective).unwrap();
            let back: Objective = serde_json::from_str(&json).unwrap();
            assert_eq!(back, objective, "{json}");
        }
    }

    #[test]
    fn text_names_every_parameter() {
        let text = |t: &str| t.parse::<Objective>().map(|o| o.to_string());
        assert_eq!(text("dpo").unwrap(), "dpo:beta=0.1,label_smoothing=0.0");
        assert_eq!(
            text("cpo:nll=sum,beta=1").unwrap(),
            "cpo:beta=1.0,lambda=1.0,nll=sum"
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("pdpo", "no loss \"pdpo\"; use one of dpo,"),
            ("", "no loss \"\""),
            ("dpo:beta", "\"beta\" is not a parameter"),
            ("dpo:beta=1,beta=1", "\"beta=1\" is not a parameter"),
            ("dpo:gamma=1", "loss dpo: unknown field `gamma`"),
            ("dpo:beta=0", "loss dpo: 0 cannot be used here"),
            ("dpo:beta=nan", "loss dpo: "),
            ("dpo:beta=-0.1", "give a number above 0"),
            ("dpo:beta=x", "loss dpo: invalid type"),
            ("robust:label_smoothing=0.5", "from 0 to below 0.5"),
            ("exo-pair:label_smoothing=0", "above 0 and below 0.5"),
            ("cpo:nll=none", "unknown variant `none`"),
            ("sft:beta=1", "unknown field `beta`"),
            ("dpo:name=ipo", "loss dpo: name is not a parameter"),
        ] {
            let err = text.parse::<Objective>().unwrap_err().to_string();
            assert!(err.contains(says), "{text}: {err}");
        }
    }

    #[test]
    fn who_needs_what() {
        let free = [
            "simpo",
            "cpo",
            "cpo-hinge",
            "slic-hf",
            "rrhf",
            "orpo",
            "sft",
        ];
        for name in Objective::NAMES {
            let objective: Objective = name.parse().unwrap();
            assert_eq!(objective.needs_reference(), !free.contains(name), "{name}");
            assert_eq!(objective.needs_rejected(), *name != "sft", "{name}");
        }
    }
}
