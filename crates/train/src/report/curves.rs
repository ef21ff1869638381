//! Which curves of a run are drawn.

use super::error::ReportError;
use super::history::History;
use super::plot::{Mark, Plot, FIRST, SECOND};

/// A plot with its words.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What it shows.
    pub title: &'static str,
    /// Names of the series that are drawn, in the first and the second colour.
    pub series: [Option<&'static str>; 2],
    /// Values that are no numbers.
    pub gaps: usize,
    /// The SVG element.
    pub svg: String,
}

/// A plot to be: title, the ends of y, and name and field of up to two series.
struct Kind {
    title: &'static str,
    y: Option<(f64, f64)>,
    series: [Option<(&'static str, &'static str)>; 2],
}

const fn both(title: &'static str, train: &'static str, eval: &'static str) -> Kind {
    Kind {
        title,
        y: None,
        series: [Some(("training", train)), Some(("evaluation", eval))],
    }
}

const KINDS: &[Kind] = &[
    both("Loss", "loss", "eval_loss"),
    Kind {
        y: Some((-0.02, 1.02)),
        ..both(
            "Accuracy: chosen reward above rejected",
            "rewards/accuracies",
            "eval_rewards/accuracies",
        )
    },
    both(
        "Margin: chosen reward minus rejected",
        "rewards/margins",
        "eval_rewards/margins",
    ),
    Kind {
        title: "Log-probabilities in training",
        y: None,
        series: [
            Some(("chosen", "logps/chosen")),
            Some(("rejected", "logps/rejected")),
        ],
    },
    Kind {
        title: "Log-probabilities in evaluation",
        y: None,
        series: [
            Some(("chosen", "eval_logps/chosen")),
            Some(("rejected", "eval_logps/rejected")),
        ],
    },
    Kind {
        y: Some((-0.02, 1.02)),
        ..both("Answers that are right", "reward", "eval_pass@1")
    },
    Kind {
        title: "Groups of answers",
        y: Some((-0.02, 1.02)),
        series: [
            Some(("all wrong", "groups/unsolved")),
            Some(("with a positive answer", "expsft/groups")),
        ],
    },
    Kind {
        title: "-log p per token, of held-out tasks",
        y: None,
        series: [
            Some(("explanation, with the answer shown", "eval_nll_explanation")),
            Some(("expert's solution", "eval_nll_expert")),
        ],
    },
    Kind {
        title: "log p of the right answer, of held-out tasks",
        y: None,
        series: [
            Some(("after an explanation", "eval_answer_after_explanation")),
            Some(("after the model's own way", "eval_answer_after_own")),
        ],
    },
    Kind {
        title: "Share of the time that answers take",
        y: Some((-0.02, 1.02)),
        series: [Some(("rollouts", "rollout_time_share")), None],
    },
    Kind {
        title: "Gradients of chosen and rejected: cosine",
        y: None,
        series: [Some(("measured pairs", "gradients/cosine")), None],
    },
    Kind {
        title: "Share of measured pairs by what a step does",
        y: Some((-0.02, 1.02)),
        series: [
            Some(("chosen up, rejected down", "gradients/case_ideal")),
            Some(("both down", "gradients/case_both_fall")),
        ],
    },
    Kind {
        title: "Log-probabilities of measured pairs",
        y: None,
        series: [
            Some(("chosen", "gradients/logps_chosen")),
            Some(("rejected", "gradients/logps_rejected")),
        ],
    },
    Kind {
        title: "Learning rate",
        y: None,
        series: [Some(("learning rate", "learning_rate")), None],
    },
    Kind {
        title: "Gradient norm before clipping",
        y: None,
        series: [Some(("gradient norm", "grad_norm")), None],
    },
    Kind {
        title: "Speed",
        y: None,
        series: [Some(("tokens per second", "tokens_per_second")), None],
    },
];

/// The plots of a history. One without any value is left out.
///
/// # Errors
/// See [`Plot::svg`].
pub fn figures(history: &History) -> Result<Vec<Figure>, ReportError> {
    let figures = KINDS.iter().map(|kind| kind.figure(history));
    figures.filter_map(Result::transpose).collect()
}

impl Kind {
    fn figure(&self, history: &History) -> Result<Option<Figure>, ReportError> {
        let (mut marks, mut gaps, mut names) = (Vec::new(), 0, [None, None]);
        for (i, colour) in [FIRST, SECOND].into_iter().enumerate() {
            let Some((name, field)) = self.series[i] else {
                continue;
            };
            let curve = history.curve(field);
            gaps += curve.gaps;
            if !curve.pieces.is_empty() {
                names[i] = Some(name);
            }
            let lines = curve.pieces.into_iter().map(Mark::Line);
            marks.extend(lines.map(|line| (line, colour)));
        }
        if marks.is_empty() && gaps == 0 {
            return Ok(None);
        }
        let plot = Plot {
            title: self.title,
            marks,
            y: self.y,
            x_labels: true,
        };
        Ok(Some(Figure {
            title: self.title,
            series: names,
            gaps,
            svg: plot.svg()?,
        }))
    }
}
