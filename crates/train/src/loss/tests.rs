//! What holds for every loss: golden scalars, derivatives, kinks, extreme inputs.

use proptest::prelude::*;

use super::{Objective, PairLogps};

/// The pair of the golden scalars; they were worked out by hand and checked by finite differences.
const PAIR: PairLogps = PairLogps {
    chosen: -12.5,
    rejected: -11.0,
    ref_chosen: -13.0,
    ref_rejected: -11.8,
    n_chosen: 10,
    n_rejected: 8,
};

fn of(text: &str) -> Objective {
    text.parse().unwrap()
}

fn check(text: &str, pair: PairLogps, (value, d_w, d_l): (f64, f64, f64)) {
    let got = of(text).loss(&pair);
    for (name, got, want) in [
        ("value", got.value, value),
        ("d_w", -got.d_chosen, d_w),
        ("d_l", got.d_rejected, d_l),
    ] {
        assert!(
            (got - want).abs() <= 5.1e-7,
            "{text} {name}: {got}, not {want}"
        );
    }
}

#[test]
fn golden_scalars() {
    for (text, value, d_w, d_l) in [
        ("dpo:beta=0.1", 0.708260, 0.050750, 0.050750),
        ("dpo:beta=0.5", 0.770957, 0.268715, 0.268715),
        ("rdpo:beta=0.1,alpha=0.2", 0.525163, 0.040854, 0.040854),
        ("ipo:beta=0.1", 28.090000, 10.600000, 10.600000),
        ("ipo-avg:beta=0.1", 25.502500, 1.010000, 1.262500),
        ("dpop:beta=0.1,lambda=50", 0.708260, 0.050750, 0.050750),
        ("simpo:beta=2,gamma=1", 1.136871, 0.135836, 0.169795),
        ("simpo:beta=0.1,gamma=0.5", 0.966315, 0.006195, 0.007744),
        ("cpo:beta=0.1,nll=sum", 13.270957, 1.053743, 0.053743),
        ("cpo:beta=0.1,nll=mean", 2.020957, 0.153743, 0.053743),
        ("slic-hf:delta=1,lambda=0.1", 3.750000, 1.1, 1.0),
        ("rrhf:lambda=0", 0.0, 0.0, 0.0),
        ("sppo:beta=0.1", 26.945000, 4.5, 5.8),
        ("orpo:lambda=0.1", 1.311125, 0.106410, 0.007651),
        ("sft:nll=sum", 12.5, 1.0, 0.0),
        ("sft:nll=mean", 1.25, 0.1, 0.0),
    ] {
        check(text, PAIR, (value, d_w, d_l));
    }
}

#[test]
fn golden_scalars_on_the_other_side_of_a_kink() {
    let fallen = PairLogps {
        ref_chosen: -12.4,
        ..PAIR
    };
    check(
        "dpop:beta=0.1,lambda=50",
        fallen,
        (1.031043, 3.281162, 0.064337),
    );
    let settled = PairLogps {
        rejected: -14.0,
        ..PAIR
    };
    check("slic-hf:delta=1,lambda=0.1", settled, (1.25, 0.1, 0.0));
    let likely = PairLogps {
        rejected: -9.0,
        ..PAIR
    };
    check("rrhf:lambda=0", likely, (0.125, 0.1, 0.125));
}

/// At a kink the flat side counts, as in torch.
#[test]
fn kinks_are_flat() {
    // 1 - beta (D_w - D_l) = 1 - 0.5 (2 - 0) = 0, and D_w = 2.
    let pair = PairLogps {
        chosen: -8.0,
        rejected: -10.0,
        ref_chosen: -10.0,
        ref_rejected: -10.0,
        n_chosen: 4,
        n_rejected: 5,
    };
    check("hinge:beta=0.5", pair, (0.0, 0.0, 0.0));
    check("cpo-hinge:beta=0.5,lambda=0", pair, (0.0, 0.0, 0.0));
    check("slic-hf:delta=2,lambda=0", pair, (0.0, 0.0, 0.0));
    // m_w = m_l = -2
    check("rrhf:lambda=0", pair, (0.0, 0.0, 0.0));
    // D_w = 0: DPO at its start, s = 0.
    let start = PairLogps {
        chosen: -10.0,
        ..pair
    };
    check("dpop:beta=0.1", start, (std::f64::consts::LN_2, 0.05, 0.05));
}

#[test]
fn rewards_are_what_the_loss_compares() {
    for (text, chosen, rejected) in [
        ("dpo:beta=0.5", 0.25, 0.4),
        ("ipo-avg:beta=0.5", 0.025, 0.05),
        ("simpo:beta=2", -2.5, -2.75),
        ("cpo:beta=0.1", -1.25, -1.1),
        ("slic-hf", -12.5, -11.0),
        ("rrhf", -1.25, -1.375),
        ("orpo:lambda=0.1", -0.125, -0.1375),
        ("sft", -12.5, -11.0),
    ] {
        let got = [
            of(text).chosen_reward(&PAIR),
            of(text).rejected_reward(&PAIR),
        ];
        for (got, want) in got.into_iter().zip([chosen, rejected]) {
            assert!((got - want).abs() < 1e-12, "{text}: {got}, not {want}");
        }
    }
}

#[test]
fn no_input_of_training_makes_a_nan() {
    let ends = [0.0, -1e-12, -1e-6, -50.0, -5e3, -1e6];
    for name in Objective::NAMES {
        for (a_w, a_l) in ends.iter().flat_map(|w| ends.map(|l| (*w, l))) {
            for (ref_w, ref_l) in [(0.0, -1e6), (-1e6, 0.0), (-30.0, -30.0)] {
                let pair = PairLogps {
                    chosen: a_w,
                    rejected: a_l,
                    ref_chosen: ref_w,
                    ref_rejected: ref_l,
                    n_chosen: 1,
                    n_rejected: 2,
                };
                let got = of(name).loss(&pair);
                let all = [got.value, got.d_chosen, got.d_rejected];
                assert!(
                    all.iter().all(|x| x.is_finite()),
                    "{name} {pair:?}: {got:?}"
                );
            }
        }
    }
}

/// p near 1, in numbers: with p_w = p_l, s = 0 and sigmoid(-s) / (1 - p) = 1 / (2 (1 - p)).
#[test]
fn orpo_near_certainty_keeps_its_digits() {
    let m = -2e-7;
    let pair = PairLogps {
        chosen: m * 10.0,
        rejected: m * 8.0,
        ..PAIR
    };
    let got = of("orpo:lambda=0.1").loss(&pair);
    let slope = 0.1 * 0.5 / -f64::exp_m1(m);
    assert!(
        (got.d_rejected * 8.0 / slope - 1.0).abs() < 1e-12,
        "{got:?}"
    );
    assert!(
        (-got.d_chosen * 10.0 / (1.0 + slope) - 1.0).abs() < 1e-12,
        "{got:?}"
    );
}

fn pairs() -> impl Strategy<Value = PairLogps> {
    let logp = || -60.0..-0.5f64;
    (logp(), logp(), logp(), logp(), 1usize..60, 1usize..60).prop_map(
        |(chosen, rejected, ref_chosen, ref_rejected, n_chosen, n_rejected)| PairLogps {
            chosen,
            rejected,
            ref_chosen,
            ref_rejected,
            n_chosen,
            n_rejected,
        },
    )
}

/// Where a hinge turns: there a central difference is no derivative.
fn near_a_kink(pair: &PairLogps) -> bool {
    let (w, l) = (pair.w(), pair.l());
    let kinks = [
        1.0 - 0.1 * pair.logratio_margin(),
        1.0 - 0.1 * (pair.chosen - pair.rejected),
        1.0 - pair.chosen + pair.rejected,
        l.mean() - w.mean(),
        w.ratio(),
    ];
    kinks.iter().any(|k| k.abs() < 1e-3)
}

proptest! {
    #[test]
    fn derivatives_are_those_of_the_value(pair in pairs()) {
        prop_assume!(!near_a_kink(&pair));
        let h = 1e-4;
        for text in Objective::NAMES.iter().copied().chain(["dpo:label_smoothing=0.2", "cpo:nll=sum"]) {
            let loss = |pair: PairLogps| of(text).loss(&pair);
            let by = |up: PairLogps, down: PairLogps| (loss(up).value - loss(down).value) / (2.0 * h);
            let d_chosen = by(
                PairLogps { chosen: pair.chosen + h, ..pair },
                PairLogps { chosen: pair.chosen - h, ..pair },
            );
            let d_rejected = by(
                PairLogps { rejected: pair.rejected + h, ..pair },
                PairLogps { rejected: pair.rejected - h, ..pair },
            );
            let got = loss(pair);
            for (got, want) in [(got.d_chosen, d_chosen), (got.d_rejected, d_rejected)] {
                let close = (got - want).abs() <= 1e-6 * (1.0 + want.abs());
                prop_assert!(close, "{} {:?}: {}, not {}", text, pair, got, want);
            }
        }
    }
}
