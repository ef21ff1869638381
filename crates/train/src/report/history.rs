//! The lines of `metrics.jsonl` as curves over steps.

use serde_json::{Map, Value};

/// A curve has at most about this many points; more are averaged, a few at a time.
const MAX_POINTS: usize = 600;

/// Beyond it a value is a run that diverged, and no axis could show the others beside it.
const MAX_VALUE: f64 = 1e15;

/// Every line of a run, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    lines: Vec<(f64, Map<String, Value>)>,
}

/// A curve: pieces of points (step, value). Between two pieces there are values that are no numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// The pieces, none of them empty.
    pub pieces: Vec<Vec<(f64, f64)>>,
    /// Values that are no numbers, or too large to draw.
    pub gaps: usize,
}

impl History {
    /// Reads the text of a file. A last line without an end is left out: a run may be writing it.
    ///
    /// # Errors
    /// A whole line that is no JSON object with a `step`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (i, line) in text.split_inclusive('\n').enumerate() {
            if !line.ends_with('\n') {
                break;
            }
            let wrong = |reason: String| format!("line {}: {reason}", i + 1);
            let read = serde_json::from_str(line);
            let fields: Map<String, Value> = read.map_err(|e| wrong(e.to_string()))?;
            let step = fields.get("step").and_then(Value::as_u64);
            let step = step.ok_or_else(|| wrong("it has no step".into()))?;
            lines.push((step as f64, fields));
        }
        Ok(Self { lines })
    }

    /// Whether no line is there yet.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The step of the last line.
    pub fn last_step(&self) -> Option<f64> {
        self.lines.last().map(|(step, _)| *step)
    }

    /// The last value of a field.
    pub fn last(&self, field: &str) -> Option<f64> {
        let mut lines = self.lines.iter().rev();
        lines.find_map(|(_, fields)| fields.get(field).and_then(Value::as_f64))
    }

    /// The curve of a field, over the lines that have it.
    pub fn curve(&self, field: &str) -> Curve {
        let mut curve = Curve::default();
        let mut piece = Vec::new();
        for (step, fields) in &self.lines {
            let Some(value) = fields.get(field) else {
                continue;
            };
            match value.as_f64().filter(|v| v.abs() <= MAX_VALUE) {
                Some(value) => piece.push((*step, value)),
                None => {
                    curve.gaps += 1;
                    curve.pieces.push(std::mem::take(&mut piece));
                }
            }
        }
        curve.pieces.push(piece);
        curve.pieces.retain(|piece| !piece.is_empty());
        curve.thinned()
    }
}

impl Curve {
    fn thinned(self) -> Self {
        let points: usize = self.pieces.iter().map(Vec::len).sum();
        let together = points.div_ceil(MAX_POINTS).max(1);
        let mean = |chunk: &[(f64, f64)]| {
            let n = chunk.len() as f64;
            let (x, y) = chunk.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
            (x / n, y / n)
        };
        let thin = |piece: Vec<(f64, f64)>| piece.chunks(together).map(mean).collect();
        Self {
            pieces: self.pieces.into_iter().map(thin).collect(),
            gaps: self.gaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(history: &History, field: &str) -> Vec<Vec<(f64, f64)>> {
        history.curve(field).pieces
    }

    #[test]
    fn a_curve_has_the_lines_that_have_the_field() {
        let text =
            "{\"step\":1,\"loss\":3}\n{\"step\":1,\"eval_loss\":9}\n{\"step\":2,\"loss\":4}\n";
        let history = History::parse(text).unwrap();
        assert_eq!(points(&history, "loss"), [[(1.0, 3.0), (2.0, 4.0)]]);
        assert_eq!(points(&history, "eval_loss"), [[(1.0, 9.0)]]);
        assert!(points(&history, "grad_norm").is_empty());
        assert_eq!(history.last("eval_loss"), Some(9.0));
        assert_eq!(history.last_step(), Some(2.0));
    }

    #[test]
    fn what_is_no_number_is_a_gap() {
        let text =
            "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":null}\n{\"step\":3,\"loss\":1e99}\n\
                    {\"step\":4,\"loss\":5}\n";
        let curve = History::parse(text).unwrap().curve("loss");
        assert_eq!(curve.pieces, [[(1.0, 3.0)], [(4.0, 5.0)]]);
        assert_eq!(curve.gaps, 2);
    }

    #[test]
    fn a_line_that_is_being_written_is_left_out() {
        let history = History::parse("{\"step\":1,\"loss\":3}\n{\"step\":2,\"lo").unwrap();
        assert_eq!(history.last_step(), Some(1.0));
        assert!(History::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_foreign_line_is_named() {
        let err = History::parse("{\"step\":1}\nhello\n").unwrap_err();
        assert!(err.starts_with("line 2: "), "{err}");
        let err = History::parse("{\"loss\":1}\n").unwrap_err();
        assert_eq!(err, "line 1: it has no step");
    }

    #[test]
    fn long_runs_are_averaged() {
        let line = |step: usize| format!("{{\"step\":{step},\"loss\":{}}}\n", step % 2);
        let text: String = (0..2 * MAX_POINTS).map(line).collect();
        let pieces = points(&History::parse(&text).unwrap(), "loss");
        assert_eq!(pieces[0].len(), MAX_POINTS);
        assert_eq!(pieces[0][0], (0.5, 0.5));
    }
}
