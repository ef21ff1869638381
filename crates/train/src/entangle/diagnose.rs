//! Some pairs of a run, measured every now and then: `gradients.jsonl`, and means in `metrics.jsonl`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::gradients::{PairGradients, Probe};
use super::measure::{Case, Entanglement, Pull};
use crate::adapter::TrainedAdapter;
use crate::loss::{Objective, PairLogps};
use crate::pairs::IdPair;
use crate::TrainError;

/// The file of single pairs in a run's directory.
pub const FILE_NAME: &str = "gradients.jsonl";

/// The larger of the two predicted changes, in nats: small enough for a first-order prediction, large
/// enough to be seen beside rounding.
const CHANGE: f64 = 0.01;

/// How pairs are measured.
#[derive(Debug)]
pub struct Diagnosis<'a> {
    /// Where gradients are taken.
    pub probe: &'a Probe<'a>,
    /// The loss whose pull is measured.
    pub objective: Objective,
    /// Whether the step is the normalized one.
    pub normalized: bool,
}

/// A pair, measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// log pi of chosen and of rejected.
    pub logps: [f64; 2],
    /// The gradients.
    #[serde(flatten)]
    pub entanglement: Entanglement,
    /// Their cosine.
    pub cosine: f64,
    /// ip / min(|g_w|^2, |g_l|^2).
    pub condition: f64,
    /// The loss's derivatives, as the step has them.
    pub pull: Pull,
    /// What a small step does, to first order.
    pub case: Case,
    /// The size of the step of the two changes below.
    pub eta: f64,
    /// Predicted changes of the two log-probabilities.
    pub predicted: [f64; 2],
    /// What came of it.
    pub realised: [f64; 2],
}

impl Diagnosis<'_> {
    /// Measures a pair as `user` sees it, whose gradients [`Probe::pair`] found: they are the same for
    /// every loss.
    ///
    /// # Errors
    /// A failure of the tensor library; a user model that is no longer made of numbers.
    pub fn measure(
        &self,
        adapter: &mut TrainedAdapter,
        pair: &IdPair,
        user: Option<usize>,
        found: &PairGradients,
    ) -> Result<Measured, TrainError> {
        let completions = pair.completions(user);
        let entanglement = found.measure();
        let mut pull = pull(&self.objective, pair, found);
        if self.normalized {
            pull = pull.times(entanglement.normalizing());
        }
        let [w, l] = entanglement.predicted(pull, 1.0);
        let largest = w.abs().max(l.abs());
        let eta = if largest > 0.0 { CHANGE / largest } else { 0.0 };
        Ok(Measured {
            logps: found.logps,
            cosine: entanglement.cosine(),
            condition: entanglement.condition(false),
            case: entanglement.case(pull),
            eta,
            predicted: entanglement.predicted(pull, eta),
            realised: self
                .probe
                .realised(adapter, &completions, found, pull, eta)?,
            pull,
            entanglement,
        })
    }
}

/// What a loss pulls with at a pair.
pub fn pull(objective: &Objective, pair: &IdPair, found: &PairGradients) -> Pull {
    let [n_chosen, n_rejected] = pair.lengths();
    let loss = objective.loss(&PairLogps {
        chosen: found.logps[0],
        rejected: found.logps[1],
        ref_chosen: pair.reference[0],
        ref_rejected: pair.reference[1],
        n_chosen,
        n_rejected,
    });
    Pull {
        chosen: -loss.d_chosen,
        rejected: loss.d_rejected,
    }
}

/// The line of a pair in `gradients.jsonl`.
pub fn line(
    step: usize,
    number: usize,
    user: Option<usize>,
    measured: &Measured,
) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("step".into(), step.into());
    line.insert("pair".into(), number.into());
    line.insert("user".into(), user.into());
    if let Ok(Value::Object(fields)) = serde_json::to_value(measured) {
        line.extend(fields);
    }
    line
}

/// The means of some pairs, for a line of `metrics.jsonl`.
pub fn means(step: usize, epoch: f64, pairs: &[Measured]) -> Map<String, Value> {
    let mean = |of: fn(&Measured) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let mut line = Map::new();
    line.insert("step".into(), step.into());
    line.insert("epoch".into(), epoch.into());
    let mut put = |name: &str, value: f64| line.insert(format!("gradients/{name}"), value.into());
    put("cosine", mean(|m| m.cosine));
    put("inner_product", mean(|m| m.entanglement.inner_product));
    put("condition", mean(|m| m.condition));
    put("norm_chosen", mean(|m| m.entanglement.norm_chosen));
    put("norm_rejected", mean(|m| m.entanglement.norm_rejected));
    put("logps_chosen", mean(|m| m.logps[0]));
    put("logps_rejected", mean(|m| m.logps[1]));
    let shares = shares(pairs.iter().map(|m| m.case));
    for (case, name) in Case::ALL
        .into_iter()
        .zip(["ideal", "both_fall", "both_rise", "reversed"])
    {
        put(&format!("case_{name}"), shares[&case]);
    }
    line
}

/// Which share of pairs is in each case.
pub fn shares(cases: impl Iterator<Item = Case>) -> BTreeMap<Case, f64> {
    let mut shares: BTreeMap<Case, f64> = Case::ALL.map(|case| (case, 0.0)).into();
    let mut n = 0.0;
    for case in cases {
        *shares.entry(case).or_default() += 1.0;
        n += 1.0;
    }
    shares
        .values_mut()
        .for_each(|share| *share /= f64::max(n, 1.0));
    shares
}
