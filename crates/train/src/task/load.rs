//! Files of tasks, in attune's own layout, GSM8K's, SVAMP's or MATH's, told apart record by record by their fields:
//! JSON lines, a JSON array, a table. What is no task is left out and named; unused columns are counted.

mod layout;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Task;
use crate::dataset::{
    columns, records_of, DatasetError, Object, Place, Problem, Sink, Source, MAX_NAMED,
};

/// Tasks of a file.
const MAX_TASKS: usize = 1 << 20;
/// Why a file has no tasks.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] DatasetError),
    /// None of its records is one.
    #[error("{} holds no task: {first}", .file.display())]
    None {
        /// The file.
        file: PathBuf,
        /// Why the first record is none, with its line.
        first: String,
    },
    /// More than a run holds in memory.
    #[error("{}: more than {MAX_TASKS} tasks; give fewer of them", .0.display())]
    TooMany(PathBuf),
    /// Nothing in it.
    #[error("{} holds no task: give a file with a question and an answer on each line", .0.display())]
    Empty(PathBuf),
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// Its tasks, in order.
    pub tasks: Vec<Task>,
    /// Records that are no tasks.
    pub left_out: usize,
    /// Where the first of those are, and why they are none.
    pub reasons: Vec<String>,
    /// Fields that nobody reads, with the number of records that have them.
    pub other_columns: BTreeMap<String, u64>,
}

impl Loaded {
    /// Whether something in the file was not used.
    pub fn is_partial(&self) -> bool {
        self.left_out > 0 || !self.other_columns.is_empty()
    }
}

/// What was read, and what was not, in one line.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks", self.tasks.len())?;
        if self.left_out > 0 {
            write!(
                f,
                "; {} records left out: {}",
                self.left_out,
                self.reasons.join("; ")
            )?;
            if self.left_out > self.reasons.len() {
                f.write_str("; and so on")?;
            }
        }
        if !self.other_columns.is_empty() {
            write!(f, "; unused columns: {}", columns(&self.other_columns))?;
        }
        Ok(())
    }
}

/// The tasks of a file.
///
/// # Errors
/// A file that cannot be read, or in which no record is a task that its verifier can check.
pub fn load(file: &Path) -> Result<Loaded, TaskError> {
    let mut intake = Intake::default();
    records_of(file, &mut intake)?;
    let Intake { loaded, too_many } = intake;
    if too_many {
        return Err(TaskError::TooMany(file.to_owned()));
    }
    match (loaded.tasks.is_empty(), loaded.reasons.first()) {
        (false, _) => Ok(loaded),
        (true, None) => Err(TaskError::Empty(file.to_owned())),
        (true, Some(first)) => Err(TaskError::None {
            file: file.to_owned(),
            first: first.clone(),
        }),
    }
}

#[derive(Debug, Default)]
struct Intake {
    loaded: Loaded,
    too_many: bool,
}

impl Intake {
    fn leave_out(&mut self, at: &Source, reason: &str) {
        self.loaded.left_out += 1;
        if self.loaded.reasons.len() < MAX_NAMED {
            let place = match &at.place {
                Place::Row(row) => format!("row {row}"),
                Place::Line(line) => format!("line {line}"),
                _ => at.to_string(),
            };
            self.loaded.reasons.push(format!("{place}: {reason}"));
        }
    }
}

impl Sink for Intake {
    fn reads(&self, _: &str) -> bool {
        true
    }

    fn other_column(&mut self, _: &str, _: u64) {}

    fn record(&mut self, at: &Source, object: Object) -> Result<(), DatasetError> {
        match layout::task(object.into_map()) {
            Err(reason) => self.leave_out(at, &reason),
            Ok(_) if self.loaded.tasks.len() == MAX_TASKS => self.too_many = true,
            Ok((task, others)) => {
                self.loaded.tasks.push(task);
                for name in others {
                    *self.loaded.other_columns.entry(name).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    fn unusable(&mut self, at: &Source, problem: Problem) -> Result<(), DatasetError> {
        let said = problem.to_string();
        self.leave_out(at, said.split(';').next().unwrap_or(&said));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verifier;
    use super::*;

    fn read(lines: impl AsRef<[u8]>) -> Result<Loaded, TaskError> {
        read_as("tasks.jsonl", lines)
    }

    fn read_as(name: &str, content: impl AsRef<[u8]>) -> Result<Loaded, TaskError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        load(&file)
    }

    fn answers(loaded: &Loaded) -> Vec<&str> {
        loaded
            .tasks
            .iter()
            .map(|task| task.answer.as_str())
            .collect()
    }

    #[test]
    fn four_layouts_are_known_by_their_fields() {
        let loaded = read(concat!(
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
            r#"{"problem": "y?", "solution": "\\boxed{x + 1}", "type": "Algebra"}"#,
        ))
        .unwrap();
        assert_eq!(
            answers(&loaded),
            ["4", "B", "1,024", "3.0", "\\frac{1}{2}", "x + 1"]
        );
        let tasks = &loaded.tasks;
        assert_eq!(
            (tasks[1].verifier, tasks[1].level),
            (Verifier::Choice, Some(2))
        );
        assert_eq!(
            tasks[2].solution.as_deref(),
            Some("He sold 48/2 = 24.\n#### 1,024")
        );
        assert_eq!(tasks[3].question, "He has 3 pens. How many?");
        assert_eq!(
            (tasks[4].level, tasks[4].verifier),
            (Some(5), Verifier::Number)
        );
        assert_eq!(tasks[5].verifier, Verifier::Math);
        for task in tasks.iter().filter(|task| task.solution.is_some()) {
            assert!(
                task.is_solved_by(task.solution.as_deref().unwrap()),
                "{task:?}"
            );
        }
        assert_eq!(
            loaded.to_string(),
            "6 tasks; unused columns: ID in 1 records, type in 1 records"
        );
    }

    /// Each line of these refused the whole file.
    #[test]
    fn lines_as_people_have_them() {
        let loaded = read(concat!(
            "\u{feff}",
            r#"{"problem": "2+3?", "answer": "5"}"#,
            "\r\n",
            r#"{"id": "gsm-7", "question": "Clips?", "answer": "48+24=<<48+24=72>>72\n#### 72"}"#,
            "\n",
            r#"{"problem": "x?", "solution": "so $x=\\boxed 5$."}"#,
            "\n",
            r#"{"question": "NaN?", "answer": 6, "score": NaN, "level": NaN, "best": -Infinity}"#,
            "\n",
            r#"{"problem": "p", "solution": "Long. $\\boxed{8}$", "answer": "8", "subject": "s", "unique_id": "u"}"#,
            "\n",
            r#"{"problem": "q", "answer": "The sum is\n#### 9", "user": 7}"#,
        ))
        .unwrap();
        assert_eq!(answers(&loaded), ["5", "72", "5", "6", "8", "9"]);
        assert_eq!(loaded.left_out, 0, "{loaded}");
        assert_eq!(loaded.tasks[3].level, None);
        assert_eq!(loaded.tasks[5].user.as_ref().unwrap().as_str(), "7");
        let others: Vec<&str> = loaded.other_columns.keys().map(String::as_str).collect();
        assert_eq!(others, ["best", "id", "score", "subject", "unique_id"]);
    }

    #[test]
    fn what_is_no_task_is_left_out_and_named_by_line_and_field() {
        let good = r#"{"question": "2+2?", "answer": "4"}"#;
        for (line, named) in [
            (r#"{"question": "2+2?"}"#, "answer"),
            (r#"{"question": "2+2?", "answer": "four"}"#, "no number"),
            (r#"{"question": " ", "answer": "4"}"#, "question"),
            (
                r#"{"question": "q", "answer": "4", "verifyer": "exact"}"#,
                "verifyer",
            ),
            (
                r#"{"question": "q", "answer": "4", "verifier": "exakt"}"#,
                "exakt",
            ),
            (r#"{"question": "q", "answers": "4"}"#, "answers"),
            (r#"{"question": "q", "answer": "no mark ####"}"#, "####"),
            (r#"{"question": "q", "answer": NaN}"#, "answer"),
            (r#"{"problem": "q", "solution": "no box"}"#, "boxed"),
            (r#"{"problem": "q"}"#, "solution"),
            (r#"{"Body": "b", "Question": "q", "Answer": []}"#, "Answer"),
            (
                r#"{"question": "q", "answer": 123456789012345678901234567890}"#,
                "more digits",
            ),
            ("nonsense", "expected"),
            (r#"{"question": "cut"#, "column"),
            ("[1]", "a record"),
        ] {
            let loaded = read(format!("{good}\n{line}\n{good}\n")).unwrap();
            assert_eq!((loaded.tasks.len(), loaded.left_out), (2, 1), "{line}");
            let said = loaded.to_string();
            assert!(
                said.starts_with("2 tasks; 1 records left out: line 2: ") && said.contains(named),
                "{said}"
            );
            // Where nothing else is there, it is the reason why the file is of no use.
            let error = read(line).unwrap_err().to_string();
            assert!(
                error.contains("line 1: ") && error.contains(named),
                "{error}"
            );
        }
        let long = format!("{}\n{good}", "x".repeat(17 << 20));
        assert_eq!(read(long).unwrap().left_out, 1);
        let bytes = [good.as_bytes(), b"\n{\"question\": \"\xff\"}\n"].concat();
        assert!(read(bytes)
            .unwrap()
            .to_string()
            .contains("line 2: this is not UTF-8"));
        assert!(matches!(read("\n\n"), Err(TaskError::Empty(_))));
        assert!(matches!(
            load(Path::new("/not/there")),
            Err(TaskError::File(DatasetError::Io { .. }))
        ));
    }

    #[test]
    fn many_that_are_none_are_counted_and_the_first_named() {
        let lines = "nonsense\n".repeat(5) + r#"{"question": "q", "answer": "4"}"#;
        let said = read(lines).unwrap().to_string();
        assert!(
            said.starts_with("1 tasks; 5 records left out: line 1: "),
            "{said}"
        );
        assert!(
            said.contains("line 3: ") && !said.contains("line 4: "),
            "{said}"
        );
        assert!(said.ends_with("; and so on"), "{said}");
    }

    #[test]
    fn parquet_as_the_hub_has_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let loaded = load(&root.join("../../tests/fixtures/maths/tasks.parquet")).unwrap();
        assert_eq!(answers(&loaded), ["5", "\\frac12"]);
        assert_eq!(loaded.tasks[1].level, Some(5));
        assert_eq!(
            loaded.to_string(),
            "2 tasks; 1 records left out: row 3: the solution has no \\boxed answer; unused columns: \
             score in 2 records"
        );
    }

    #[test]
    fn an_element_of_an_array_that_is_no_task_is_left_out_as_a_line_is() {
        let good = r#"{"question": "q", "answer": "4"}"#;
        for bad in [
            "7",
            r#"{"answer": 1, "answer": 2}"#,
            "[1]",
            "null",
            r#""text""#,
        ] {
            let loaded = read_as("a.json", format!("[{good}, {bad}, {good}]")).unwrap();
            assert_eq!((loaded.tasks.len(), loaded.left_out), (2, 1), "{bad}");
            assert!(loaded.reasons[0].starts_with("row 2: "), "{loaded}");
        }
    }

    #[test]
    fn lines_of_tables_are_counted_whatever_ends_them() {
        for end in ["\n", "\r\n"] {
            let table = ["question,answer", "p,5", "q", "r,x", "s,6"].join(end);
            let loaded = read_as("a.csv", table).unwrap();
            assert_eq!(loaded.left_out, 2);
            assert!(loaded.reasons[0].starts_with("line 3: "), "{loaded}");
            assert!(loaded.reasons[1].starts_with("line 4: "), "{loaded}");
        }
    }

    #[test]
    fn columns_that_are_no_mistakes_are_only_named() {
        let line = r#"{"question": "q", "answer": "4", "used": true}"#;
        let loaded = read(line).unwrap();
        let others: Vec<&str> = loaded.other_columns.keys().map(String::as_str).collect();
        assert_eq!(others, ["used"]);
    }

    #[test]
    fn arrays_and_tables_are_files_of_tasks_too() {
        let array = "\u{feff}[{\"problem\": \"p\", \"answer\": 5, \"x\": NaN}]";
        let lines = "{\"problem\": \"p\", \"answer\": 5}\n{\"problem\": \"q\", \"answer\": 5}";
        for (name, content, tasks) in [
            ("a.json", array, 1),
            ("a.json", lines, 2),
            ("a.txt", lines, 2),
            ("a", lines, 2),
            ("a.csv", "question,answer,level\np,5,2\nq,7,\nr,1\n", 2),
        ] {
            let loaded = read_as(name, content).unwrap();
            assert_eq!(loaded.tasks.len(), tasks, "{name}");
            assert_eq!(loaded.tasks[0].answer, "5");
        }
    }
}
