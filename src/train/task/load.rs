//! Files of tasks: JSON lines in attune's own layout, GSM8K's, SVAMP's or MATH's, told apart by their fields.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::final_answer::marked;
use super::{Task, Verifier};

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;
/// Tasks of all files.
const MAX_TASKS: usize = 1 << 20;

/// Why a file has no tasks.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It cannot be read.
    #[error("{}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line that is no task.
    #[error("{}, line {line}: {reason}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, by field.
        reason: String,
    },
    /// Nothing in it.
    #[error("{} holds no task: give a file with a question and an answer a line", .0.display())]
    Empty(PathBuf),
}

/// The tasks of a file.
///
/// # Errors
/// The first line that is no task, or whose answer its verifier cannot read.
pub fn load(file: &Path) -> Result<Vec<Task>, TaskError> {
    let io = |source| TaskError::Io {
        file: file.to_owned(),
        source,
    };
    let mut input = BufReader::new(File::open(file).map_err(io)?);
    let mut tasks = Vec::new();
    for line in 1.. {
        let mut text = Vec::new();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
        if read.map_err(io)? == 0 {
            break;
        }
        let wrong = |reason: String| TaskError::Line {
            file: file.to_owned(),
            line,
            reason,
        };
        if text.trim_ascii().is_empty() {
            continue;
        }
        if tasks.len() == MAX_TASKS || text.len() as u64 == MAX_LINE {
            let reason = format!("at most {MAX_TASKS} tasks of {MAX_LINE} bytes are read");
            return Err(wrong(reason));
        }
        let fields = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        tasks.push(task(fields).map_err(wrong)?);
    }
    if tasks.is_empty() {
        return Err(TaskError::Empty(file.to_owned()));
    }
    Ok(tasks)
}

/// A task of whichever layout.
fn task(fields: Map<String, Value>) -> Result<Task, String> {
    let task = if fields.contains_key("Body") {
        svamp(&fields)?
    } else if fields.contains_key("problem") {
        math(&fields)?
    } else if is_gsm8k(&fields) {
        gsm8k(&fields)?
    } else {
        own(fields)?
    };
    if task.question.trim().is_empty() {
        return Err("the question is empty".into());
    }
    match task.verifier.problem(&task.answer) {
        None => Ok(task),
        Some(problem) => Err(format!("the answer {problem}")),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(_) => Err(format!("{name:?} is neither a text nor a number")),
        None => Err(format!("{name:?} is missing")),
    }
}

fn own(mut fields: Map<String, Value>) -> Result<Task, String> {
    // A number is an answer, too.
    if let Some(Value::Number(number)) = fields.get("answer") {
        let number = number.to_string();
        fields.insert("answer".into(), number.into());
    }
    serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
}

fn is_gsm8k(fields: &Map<String, Value>) -> bool {
    let answer = fields.get("answer").and_then(Value::as_str);
    fields.len() == 2 && answer.is_some_and(|answer| answer.contains("####"))
}

/// The answer is the solution; its calculator marks `<<48/2=24>>` go.
fn gsm8k(fields: &Map<String, Value>) -> Result<Task, String> {
    let solution = without_marks(&text(fields, "answer")?);
    let answer = marked(&solution).ok_or("nothing follows ####")?.to_owned();
    Ok(Task {
        question: text(fields, "question")?,
        answer,
        solution: Some(solution),
        verifier: Verifier::Number,
        level: None,
        user: None,
        tenant: None,
    })
}

fn without_marks(text: &str) -> String {
    let mut parts = text.split("<<");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean += part.split_once(">>").map_or(part, |(_, after)| after);
    }
    clean
}

fn svamp(fields: &Map<String, Value>) -> Result<Task, String> {
    let body = text(fields, "Body")?;
    let body = body.trim();
    let stop = if body.ends_with(['.', '?', '!']) {
        ""
    } else {
        "."
    };
    Ok(Task {
        question: format!("{body}{stop} {}", text(fields, "Question")?.trim()),
        answer: text(fields, "Answer")?,
        // An equation, not a way to it in words.
        solution: None,
        verifier: Verifier::Number,
        level: None,
        user: None,
        tenant: None,
    })
}

/// `problem`, `solution` with a box, and perhaps `level`: "Level 5". Answers that are no numbers are
/// compared as text.
fn math(fields: &Map<String, Value>) -> Result<Task, String> {
    let solution = text(fields, "solution")?;
    let answer = marked(&solution)
        .ok_or("the solution has no \\boxed answer")?
        .to_owned();
    let level = text(fields, "level").ok();
    let level = level.and_then(|level| level.rsplit(' ').next()?.parse().ok());
    let is_number = Verifier::Number.problem(&answer).is_none();
    Ok(Task {
        question: text(fields, "problem")?,
        solution: Some(solution),
        verifier: if is_number {
            Verifier::Number
        } else {
            Verifier::Exact
        },
        answer,
        level,
        user: None,
        tenant: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Vec<Task>, TaskError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        load(file.path())
    }

    #[test]
    fn four_layouts_are_known_by_their_fields() {
        let tasks = read(concat!(
            r#"{"question": "2+2?", "answer": 4}"#,
            "\n\n",
            r#"{"question": "Which?", "answer": "B", "verifier": "choice", "level": 2}"#,
            "\n",
            r#"{"question": "Clips?", "answer": "He sold 48/2 = <<48/2=24>>24.\n#### 1,024"}"#,
            "\n",
            r#"{"Body": "He has 3 pens", "Question": "How many?", "Answer": 3.0, "ID": "x"}"#,
            "\n",
            r#"{"problem": "x?", "solution": "So $x=\\boxed{\\frac{1}{2}}$.", "level": "Level 5"}"#,
            "\n",
            r#"{"problem": "y?", "solution": "\\boxed{(1, 2)}", "type": "Algebra"}"#,
        ))
        .unwrap();
        let answers: Vec<&str> = tasks.iter().map(|task| task.answer.as_str()).collect();
        assert_eq!(
            answers,
            ["4", "B", "1,024", "3.0", "\\frac{1}{2}", "(1, 2)"]
        );
        assert_eq!(tasks[1].verifier, Verifier::Choice);
        assert_eq!(
            tasks[2].solution.as_deref(),
            Some("He sold 48/2 = 24.\n#### 1,024")
        );
        assert_eq!(tasks[3].question, "He has 3 pens. How many?");
        assert_eq!(
            (tasks[4].level, tasks[4].verifier),
            (Some(5), Verifier::Number)
        );
        assert_eq!(tasks[5].verifier, Verifier::Exact);
        for task in tasks.iter().filter(|task| task.solution.is_some()) {
            assert!(
                task.is_solved_by(task.solution.as_deref().unwrap()),
                "{task:?}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_field() {
        let good = r#"{"question": "2+2?", "answer": "4"}"#;
        for (line, named) in [
            (r#"{"question": "2+2?"}"#, "answer"),
            (r#"{"question": "2+2?", "answer": "four"}"#, "no number"),
            (r#"{"question": " ", "answer": "4"}"#, "question"),
            (
                r#"{"question": "q", "answer": "4", "verifyer": "exact"}"#,
                "verifyer",
            ),
            (r#"{"question": "q", "answer": "no mark ####"}"#, "####"),
            (r#"{"problem": "q", "solution": "no box"}"#, "boxed"),
            (r#"{"Body": "b", "Question": "q", "Answer": []}"#, "Answer"),
            ("nonsense", "expected"),
        ] {
            let error = read(&format!("{good}\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(named), "{error}");
        }
        assert!(matches!(read("\n\n"), Err(TaskError::Empty(_))));
        assert!(matches!(
            load(Path::new("/not/there")),
            Err(TaskError::Io { .. })
        ));
    }
}
