//! A record as a task: which layout it has, and what it says.

use serde_json::{Map, Value};

use super::super::final_answer::marked;
use super::super::{Task, Verifier};

/// A task of whichever layout, and the fields that nobody reads.
pub(super) fn task(fields: Map<String, Value>) -> Result<(Task, Vec<String>), String> {
    let mut fields = Fields { fields };
    let mut task = if fields.has("Body") {
        svamp(&mut fields)?
    } else if fields.has("problem") {
        math(&mut fields)?
    } else if fields.is_gsm8k() {
        gsm8k(&mut fields)?
    } else {
        own(&mut fields)?
    };
    fields.common(&mut task)?;
    if task.question.trim().is_empty() {
        return Err("the question is empty".into());
    }
    if let Some(problem) = task.verifier.problem(&task.answer) {
        return Err(format!("the answer {problem}"));
    }
    Ok((task, fields.others()?))
}

/// Above it not all integers are floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The fields of a record that are left.
struct Fields {
    fields: Map<String, Value>,
}

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !value.is_null())
    }

    /// Takes a text, or a number as one.
    fn optional(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.fields.remove(name) {
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => match number.as_f64() {
                // The parser rounded it, or may have.
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() >= EXACT => {
                    Err(format!(
                        "{name:?} has more digits than a number keeps: write it as a text"
                    ))
                }
                _ => Ok(Some(number.to_string())),
            },
            None | Some(Value::Null) => Ok(None),
            Some(_) => Err(format!("{name:?} is neither a text nor a number")),
        }
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        let text = self.optional(name)?;
        text.ok_or_else(|| match self.nearly(name) {
            Some(other) => format!("{name:?} is missing, and {other:?} is there"),
            None => format!("{name:?} is missing"),
        })
    }

    fn is_gsm8k(&self) -> bool {
        let answer = self.fields.get("answer").and_then(Value::as_str);
        answer.is_some_and(|answer| answer.contains("####"))
            && !self.has("solution")
            && !self.has("verifier")
    }

    /// What any layout may say beside its own fields.
    fn common(&mut self, task: &mut Task) -> Result<(), String> {
        let read = |name: &str, value: Value| format!("{name:?} cannot be {value}");
        if let Some(value) = self
            .fields
            .remove("verifier")
            .filter(|value| !value.is_null())
        {
            let shown = value.clone();
            task.verifier = serde_json::from_value(value)
                .map_err(|e| format!("{}: {e}", read("verifier", shown)))?;
        }
        if let Some(level) = self.optional("level")? {
            // MATH's is "Level 5", or "Level ?".
            task.level = level
                .rsplit(' ')
                .next()
                .and_then(|level| level.parse().ok());
        }
        for name in ["user", "tenant"] {
            let Some(id) = self.optional(name)? else {
                continue;
            };
            let wrong = |e: serde_json::Error| format!("{name:?}: {e}");
            match name {
                "user" => task.user = Some(serde_json::from_value(id.into()).map_err(wrong)?),
                _ => task.tenant = Some(serde_json::from_value(id.into()).map_err(wrong)?),
            }
        }
        Ok(())
    }

    /// The names of what was not read. One that is nearly that of a field is a mistake that would change what is
    /// right.
    fn others(&self) -> Result<Vec<String>, String> {
        for name in ["verifier", "user", "tenant", "level"] {
            if let Some(other) = self.nearly(name) {
                return Err(format!(
                    "there is a field {other:?}: name it {name:?}, or _{other} to leave it out"
                ));
            }
        }
        let said = self.fields.keys().filter(|name| !name.starts_with('_'));
        Ok(said.cloned().collect())
    }

    /// A field with nearly this name.
    fn nearly(&self, name: &str) -> Option<&str> {
        let most = if name.len() > 5 { 2 } else { 1 };
        let near = |other: &&String| {
            let same_start = other.starts_with(&name[..2]);
            let lower = other.to_lowercase();
            // Of a short name another letter makes another word: "used".
            let word = most == 1 && lower.len() == name.len() && !is_anagram(&lower, name);
            same_start && !word && strsim::osa_distance(&lower, name) <= most
        };
        self.fields.keys().find(near).map(String::as_str)
    }
}

fn is_anagram(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    sorted(a) == sorted(b)
}

/// A task with nothing beside it.
fn bare(question: String, answer: String, solution: Option<String>, verifier: Verifier) -> Task {
    Task {
        question,
        answer,
        solution,
        verifier,
        level: None,
        user: None,
        tenant: None,
    }
}

fn own(fields: &mut Fields) -> Result<Task, String> {
    let question = fields.text("question")?;
    let answer = fields.text("answer")?;
    let solution = fields.optional("solution")?;
    Ok(bare(question, answer, solution, Verifier::default()))
}

/// The answer is the solution; its calculator marks `<<48/2=24>>` go.
fn gsm8k(fields: &mut Fields) -> Result<Task, String> {
    let solution = without_marks(&fields.text("answer")?);
    let answer = marked(&solution).ok_or("nothing follows ####")?.to_owned();
    let question = fields.text("question")?;
    Ok(bare(question, answer, Some(solution), Verifier::Number))
}

fn without_marks(text: &str) -> String {
    let mut parts = text.split("<<");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean += part.split_once(">>").map_or(part, |(_, after)| after);
    }
    clean
}

fn svamp(fields: &mut Fields) -> Result<Task, String> {
    let body = fields.text("Body")?;
    let body = body.trim();
    let stop = if body.ends_with(['.', '?', '!']) {
        ""
    } else {
        "."
    };
    let question = format!("{body}{stop} {}", fields.text("Question")?.trim());
    // The equation beside it is no way to it in words.
    Ok(bare(
        question,
        fields.text("Answer")?,
        None,
        Verifier::Number,
    ))
}

/// `problem`, and `answer` or a `solution` with a box. Answers that are no numbers are compared as mathematics, and
/// else as text.
fn math(fields: &mut Fields) -> Result<Task, String> {
    let question = fields.text("problem")?;
    let solution = fields
        .optional("solution")?
        .filter(|text| !text.trim().is_empty());
    let answer = match fields.optional("answer")? {
        Some(answer) if answer.contains("\\boxed") || answer.contains("####") => marked(&answer)
            .ok_or("the answer marks nothing")?
            .to_owned(),
        Some(answer) => answer.trim().to_owned(),
        None => {
            let solution = solution
                .as_deref()
                .ok_or("there is neither \"answer\" nor \"solution\"")?;
            let answer = marked(solution).ok_or("the solution has no \\boxed answer")?;
            answer.to_owned()
        }
    };
    let is_number = Verifier::Number.problem(&answer).is_none();
    let verifier = if is_number {
        Verifier::Number
    } else {
        Verifier::Math
    };
    Ok(bare(question, answer, solution, verifier))
}
