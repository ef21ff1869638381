//! Where prompts come from.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use rand::Rng;
use serde::{Deserialize, Serialize};

/// The prompts of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Prompts {
    /// The texts.
    #[serde(flatten)]
    pub source: PromptSource,
    /// Put a marker that occurs once per run before each prompt, so that a prefix cache finds
    /// nothing in common between two requests beyond the chat template's own header.
    pub nonce: bool,
}

/// One of three sources.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum PromptSource {
    /// Texts from the scenario file, in turn.
    Inline {
        /// At least one.
        texts: Vec<String>,
    },
    /// First turns of a file in MT-bench's format, in turn.
    MtBench {
        /// JSON lines with a field `turns`.
        file: PathBuf,
        /// At least one.
        #[serde(skip)]
        texts: Vec<String>,
    },
    /// Random common English words; most tokenizers give one token for each.
    Synthetic {
        /// Words, hence tokens by and large. What the server counted is in the report.
        tokens: usize,
    },
}

/// Why a prompt file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The file is missing or not readable.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The prompt file.
        file: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// A line is not what is expected there.
    #[error("{} line {line}: {problem}; each line needs {{\"turns\": [\"...\"]}}", file.display())]
    Line {
        /// The prompt file.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// No line at all.
    #[error("{} holds no prompt", file.display())]
    Empty {
        /// The prompt file.
        file: PathBuf,
    },
}

#[derive(Deserialize)]
struct MtBenchLine {
    turns: Vec<String>,
}

impl PromptSource {
    /// Reads the first turn of each line.
    ///
    /// # Errors
    /// The file cannot be read, a line has no turn, or there is no line.
    pub fn read_mt_bench(file: &Path) -> Result<Self, PromptError> {
        let read_error = |source| PromptError::Read {
            file: file.to_owned(),
            source,
        };
        let reader = BufReader::new(std::fs::File::open(file).map_err(read_error)?);
        let mut texts = Vec::new();
        for (index, line) in reader.lines().enumerate() {
            let line = line.map_err(read_error)?;
            if line.trim().is_empty() {
                continue;
            }
            let bad = |problem| PromptError::Line {
                file: file.to_owned(),
                line: index + 1,
                problem,
            };
            let parsed: MtBenchLine =
                serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
            let first = parsed.turns.into_iter().next();
            texts.push(first.ok_or_else(|| bad("`turns` is empty".to_owned()))?);
        }
        if texts.is_empty() {
            return Err(PromptError::Empty {
                file: file.to_owned(),
            });
        }
        Ok(Self::MtBench {
            file: file.to_owned(),
            texts,
        })
    }
}

impl Prompts {
    /// The prompt of request `index`. `tokens` overrides the length of synthetic prompts;
    /// `unique` names the request within the run.
    pub fn text(
        &self,
        index: usize,
        tokens: Option<usize>,
        unique: &str,
        rng: &mut impl Rng,
    ) -> String {
        let text = match &self.source {
            PromptSource::Inline { texts } | PromptSource::MtBench { texts, .. } => {
                texts[index % texts.len()].clone()
            }
            PromptSource::Synthetic { tokens: default } => {
                synthetic(tokens.unwrap_or(*default), rng)
            }
        };
        if self.nonce {
            return format!("[{unique}] {text}");
        }
        text
    }
}

/// So many random common words.
pub(crate) fn synthetic(words: usize, rng: &mut impl Rng) -> String {
    let mut text = String::with_capacity(words * 6);
    for position in 0..words {
        if position > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
    }
    text
}

/// Short, frequent words: one token each (with the space before it) in the usual vocabularies.
const WORDS: [&str; 64] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "law",
    "car",
];

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    #[test]
    fn synthetic_prompts_have_the_asked_number_of_words() {
        let prompts = Prompts {
            source: PromptSource::Synthetic { tokens: 30 },
            nonce: false,
        };
        let text = prompts.text(0, None, "", &mut rng());
        assert_eq!(text.split(' ').count(), 30);
        assert_eq!(
            text,
            prompts.text(5, None, "", &mut rng()),
            "same generator, same text"
        );
        assert_eq!(
            prompts.text(0, Some(3), "", &mut rng()).split(' ').count(),
            3
        );
    }

    #[test]
    fn lists_are_used_in_turn_and_nonces_lead() {
        let texts = vec!["a".to_owned(), "b".to_owned()];
        let prompts = Prompts {
            source: PromptSource::Inline { texts },
            nonce: true,
        };
        assert_eq!(prompts.text(3, None, "1-3", &mut rng()), "[1-3] b");
    }

    #[test]
    fn mt_bench_takes_first_turns_and_names_bad_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("q.jsonl");
        std::fs::write(
            &file,
            "{\"turns\": [\"one\", \"x\"], \"id\": 1}\n\n{\"turns\": [\"two\"]}\n",
        )
        .unwrap();
        let PromptSource::MtBench { texts, .. } = PromptSource::read_mt_bench(&file).unwrap()
        else {
            panic!("wrong source");
        };
        assert_eq!(texts, ["one", "two"]);

        std::fs::write(&file, "{\"turns\": [\"one\"]}\n{\"turns\": []}\n").unwrap();
        let error = PromptSource::read_mt_bench(&file).unwrap_err().to_string();
        assert!(
            error.contains("q.jsonl line 2: `turns` is empty"),
            "{error}"
        );

        std::fs::write(&file, "\n").unwrap();
        let error = PromptSource::read_mt_bench(&file).unwrap_err().to_string();
        assert!(error.contains("holds no prompt"), "{error}");
    }
}
