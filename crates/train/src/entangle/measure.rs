//! What the gradients of a pair's two log-probabilities say of a step.
//!
//! With a_w = log pi(chosen), a_l = log pi(rejected), gradients g_w and g_l, a loss with derivatives
//! d_w = -dl/da_w and d_l = dl/da_l, and ip = <g_w, g_l>, one SGD step of size eta changes, to first order
//! (2410.13828, section 3; DPO: equations 3 to 5),
//!
//! ```text
//! a_w by eta (d_w |g_w|^2 - d_l ip)        a_l by eta (d_w ip - d_l |g_l|^2)
//! ```

use serde::Serialize;

/// The two gradients of a pair, measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Entanglement {
    /// <g_w, g_l>.
    pub inner_product: f64,
    /// |g_w|, not squared.
    pub norm_chosen: f64,
    /// |g_l|, not squared.
    pub norm_rejected: f64,
}

/// Derivatives of a loss: what it pulls with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pull {
    /// -dl/da_w.
    pub chosen: f64,
    /// dl/da_l.
    pub rejected: f64,
}

/// What a small step does to the two log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Case 1: chosen rises, rejected falls.
    Ideal,
    /// Case 2: both fall.
    BothFall,
    /// Case 3: both rise.
    BothRise,
    /// Chosen falls and rejected rises: a loss that pulls the other way, as IPO beyond its margin.
    Reversed,
}

impl Case {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Ideal, Self::BothFall, Self::BothRise, Self::Reversed];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ideal => "1 chosen up, rejected down",
            Self::BothFall => "2 both down",
            Self::BothRise => "3 both up",
            Self::Reversed => "- chosen down, rejected up",
        }
    }
}

impl Entanglement {
    /// Measures two gradients, given in one order of parameters.
    pub fn of(chosen: &[f32], rejected: &[f32]) -> Self {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
            products.sum()
        };
        Self {
            inner_product: dot(chosen, rejected),
            norm_chosen: dot(chosen, chosen).sqrt(),
            norm_rejected: dot(rejected, rejected).sqrt(),
        }
    }

    /// The cosine of the two; 0 if one of them is 0.
    pub fn cosine(&self) -> f64 {
        let norms = self.norm_chosen * self.norm_rejected;
        if norms == 0.0 {
            return 0.0;
        }
        self.inner_product / norms
    }

    /// ip / min(|g_w|^2, |g_l|^2): DPO's step is ideal where it is at most 1 (Condition 1). The authors'
    /// program divides by min(|g_w|^2, |g_w|^2), which `compat` does too.
    pub fn condition(&self, compat: bool) -> f64 {
        let rejected = if compat {
            self.norm_chosen
        } else {
            self.norm_rejected
        };
        self.inner_product / self.norm_chosen.min(rejected).powi(2)
    }

    /// Changes of a_w and a_l by one SGD step of size `eta`, to first order.
    pub fn predicted(&self, pull: Pull, eta: f64) -> [f64; 2] {
        let (w, l) = (self.norm_chosen.powi(2), self.norm_rejected.powi(2));
        [
            eta * (pull.chosen * w - pull.rejected * self.inner_product),
            eta * (pull.chosen * self.inner_product - pull.rejected * l),
        ]
    }

    /// The case of a step; no change counts as the change that is wanted.
    pub fn case(&self, pull: Pull) -> Case {
        let [chosen, rejected] = self.predicted(pull, 1.0);
        match (chosen >= 0.0, rejected <= 0.0) {
            (true, true) => Case::Ideal,
            (false, true) => Case::BothFall,
            (true, false) => Case::BothRise,
            (false, false) => Case::Reversed,
        }
    }

    /// What the derivatives of a loss are multiplied with in normalized preference optimisation (section 5):
    /// the direction becomes d_w g_w/|g_w| - d_l g_l/|g_l|, so that by Cauchy-Schwarz chosen never falls
    /// and rejected never rises where d_w = d_l. The smaller norm is kept as a factor of both, which
    /// leaves the size of a step about where it was.
    pub fn normalizing(&self) -> [f64; 2] {
        let smaller = self.norm_chosen.min(self.norm_rejected);
        let factor = |norm: f64| {
            if smaller == 0.0 {
                // A side without gradient cannot be entangled.
                return 1.0;
            }
            smaller / norm
        };
        [factor(self.norm_chosen), factor(self.norm_rejected)]
    }
}

impl Pull {
    /// Both derivatives multiplied.
    pub fn times(self, factors: [f64; 2]) -> Self {
        Self {
            chosen: self.chosen * factors[0],
            rejected: self.rejected * factors[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVEN: Pull = Pull {
        chosen: 1.0,
        rejected: 1.0,
    };

    fn measured(n_w: f64, n_l: f64, ip: f64) -> Entanglement {
        Entanglement {
            inner_product: ip,
            norm_chosen: n_w.sqrt(),
            norm_rejected: n_l.sqrt(),
        }
    }

    fn close(a: [f64; 2], b: [f64; 2]) {
        let near = a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near, "{a:?}, not {b:?}");
    }

    /// The worked example of the paper, and the one beside it.
    #[test]
    fn worked_examples() {
        let both_fall = measured(1.0, 4.0, 2.0);
        close(both_fall.predicted(EVEN, 1.0), [-1.0, -2.0]);
        assert_eq!(both_fall.case(EVEN), Case::BothFall);
        assert_eq!(both_fall.condition(false), 2.0);
        assert_eq!(measured(4.0, 1.0, 2.0).case(EVEN), Case::BothRise);
        assert_eq!(measured(4.0, 1.0, 2.0).condition(true), 0.5);
        let pair = measured(1.0, 4.0, 1.5);
        close(pair.predicted(EVEN, 1.0), [-0.5, -2.5]);
        // Norms 1 and 2, scaled by the smaller one, which is 1.
        let normalized = EVEN.times(pair.normalizing());
        close(pair.predicted(normalized, 1.0), [0.25, -0.5]);
        assert_eq!(pair.case(normalized), Case::Ideal);
    }

    /// Two tokens after one context: always the ideal case (section 4.3; probabilities .5, .2, .2, .1).
    #[test]
    fn one_context_two_tokens() {
        let p = [0.5f32, 0.2, 0.2, 0.1];
        let gradient =
            |y: usize| -> Vec<f32> { (0..4).map(|i| f32::from(u8::from(i == y)) - p[i]).collect() };
        let measured = Entanglement::of(&gradient(0), &gradient(1));
        let squares = [measured.norm_chosen.powi(2), measured.norm_rejected.powi(2)];
        assert!((measured.inner_product + 0.36).abs() < 1e-6);
        assert!((squares[0] - 0.34).abs() < 1e-6 && (squares[1] - 0.94).abs() < 1e-6);
        assert_eq!(measured.case(EVEN), Case::Ideal);
    }

    #[test]
    fn a_gradient_that_is_zero_entangles_nothing() {
        let measured = Entanglement::of(&[0.0, 0.0], &[1.0, 2.0]);
        assert_eq!(measured.cosine(), 0.0);
        assert_eq!(measured.normalizing(), [1.0, 1.0]);
        assert_eq!(measured.case(EVEN), Case::Ideal);
    }

    /// Softmax rows after two contexts: (hidden state, logits).
    fn context() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        let numbers = |n| prop::collection::vec(-2.0..2.0f32, n);
        (numbers(3), numbers(5))
    }

    /// The gradient of log p(y | h) by the last layer W, with logits that are given: (e_y - p) h^T.
    fn last_layer((h, logits): &(Vec<f32>, Vec<f32>), y: usize) -> Vec<f32> {
        let sum: f32 = logits.iter().map(|l| l.exp()).sum();
        let rows = logits.iter().enumerate().map(|(i, l)| {
            let error = f32::from(u8::from(i == y)) - l.exp() / sum;
            h.iter().map(move |h| error * h).collect::<Vec<f32>>()
        });
        rows.flatten().collect()
    }

    proptest! {
        #[test]
        fn the_margin_never_shrinks(
            g in prop::collection::vec((-3.0..3.0f32, -3.0..3.0f32), 1..20), d in 0.01..5.0f64,
        ) {
            let (w, l): (Vec<f32>, Vec<f32>) = g.into_iter().unzip();
            let measured = Entanglement::of(&w, &l);
            let pull = Pull { chosen: d, rejected: d };
            let [chosen, rejected] = measured.predicted(pull, 1.0);
            prop_assert!(chosen - rejected >= -1e-9);
            // What normalizing promises.
            let [chosen, rejected] = measured.predicted(pull.times(measured.normalizing()), 1.0);
            let rounding = 1e-9 * (1.0 + measured.norm_chosen + measured.norm_rejected).powi(2);
            prop_assert!(chosen >= -rounding && rejected <= rounding);
        }

        /// ip <= |g_w|^2 is p_w - p_l <= 1 here: chosen always rises.
        #[test]
        fn one_context_is_always_ideal(context in context(), w in 0..5usize, l in 0..5usize) {
            prop_assume!(w != l);
            let measured = Entanglement::of(&last_layer(&context, w), &last_layer(&context, l));
            prop_assert_eq!(measured.case(EVEN), Case::Ideal);
        }

        /// A token that both responses have, after nearly the same context, pulls both the same way.
        #[test]
        fn a_shared_token_entangles((h, logits) in context(), y in 0..5usize) {
            let near: Vec<f32> = h.iter().map(|h| h * 1.5).collect();
            let measured = Entanglement::of(
                &last_layer(&(h, logits.clone()), y),
                &last_layer(&(near, logits), y),
            );
            prop_assert!(measured.cosine() > 0.999 || measured.norm_chosen < 1e-6);
        }
    }
}
