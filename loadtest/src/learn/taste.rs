//! Hidden tastes. A taste is a number that a text has; of two texts the one with more of it is
//! better. Nothing here is random, so that two runs judge alike.

use serde::{Deserialize, Serialize};

/// What a simulated person likes about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Taste {
    /// Few words.
    Short,
    /// Many words.
    Long,
    /// Many list lines.
    List,
    /// No list lines.
    Prose,
    /// A question back at the end.
    Questions,
}

/// Words by which two texts must differ for anybody to notice, as a share of the longer one's.
const NOTICED: f64 = 0.2;

/// Of two texts, how the first one fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the better one.
    Win,
    /// They are as good.
    Tie,
    /// The other one is better.
    Loss,
}

impl Taste {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [
        Self::Short,
        Self::Long,
        Self::List,
        Self::Prose,
        Self::Questions,
    ];

    /// Its name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Long => "long",
            Self::List => "list",
            Self::Prose => "prose",
            Self::Questions => "questions",
        }
    }

    /// What [`Taste::count`] counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Short | Self::Long => "words",
            Self::List | Self::Prose => "list lines",
            Self::Questions => "questions back",
        }
    }

    /// How much of it a text has: words, list lines, or 1 for a question at the end.
    pub fn count(self, text: &str) -> f64 {
        match self {
            Self::Short | Self::Long => text.split_whitespace().count() as f64,
            Self::List | Self::Prose => {
                text.lines().filter(|line| is_list_line(line)).count() as f64
            }
            Self::Questions => f64::from(u8::from(ends_with_question(text))),
        }
    }

    /// How good a text is; more is better.
    pub fn score(self, text: &str) -> f64 {
        match self {
            Self::Short | Self::Prose => -self.count(text),
            Self::Long | Self::List | Self::Questions => self.count(text),
        }
    }

    /// How `text` fares against `other`. An empty text pleases nobody: it loses to any other one.
    pub fn judge(self, text: &str, other: &str) -> Verdict {
        let rank = |text: &str| (!text.trim().is_empty(), self.score(text));
        let (left, right) = (rank(text), rank(other));
        if left == right || (left.0 == right.0 && !self.notices(left.1, right.1)) {
            return Verdict::Tie;
        }
        if left > right {
            Verdict::Win
        } else {
            Verdict::Loss
        }
    }
}

impl Taste {
    /// Whether two different scores are far enough apart.
    fn notices(self, left: f64, right: f64) -> bool {
        match self {
            Self::Short | Self::Long => {
                (left - right).abs() >= NOTICED * left.abs().max(right.abs())
            }
            Self::List | Self::Prose | Self::Questions => true,
        }
    }
}

impl Verdict {
    /// Its share of a win rate: ties count half.
    pub fn points(self) -> f64 {
        match self {
            Self::Win => 1.0,
            Self::Tie => 0.5,
            Self::Loss => 0.0,
        }
    }
}

/// A dash, a star or a number with a dot, then a space: `**bold**` and `3.5 km` are no lists.
fn is_list_line(line: &str) -> bool {
    let line = line.trim_start();
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let after = match line.strip_prefix(['-', '*']) {
        Some(after) => Some(after),
        None if digits.len() < line.len() => digits.strip_prefix('.'),
        None => None,
    };
    after.is_some_and(|after| after.starts_with(' '))
}

/// Quotes, brackets and emphasis after the question mark do not count.
fn ends_with_question(text: &str) -> bool {
    text.trim_end_matches(|c: char| c.is_whitespace() || "\"'*_)\u{201d}\u{2019}".contains(c))
        .ends_with('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_count_words() {
        let (few, many) = ("Walk daily.", "Walk  every\nday, rain or shine.");
        assert_eq!(
            (Taste::Short.count(few), Taste::Long.count(many)),
            (2.0, 6.0)
        );
        assert_eq!(Taste::Short.score(many), -6.0);
        assert_eq!(Taste::Short.judge(few, many), Verdict::Win);
        assert_eq!(Taste::Short.judge(many, few), Verdict::Loss);
        assert_eq!(Taste::Long.judge(many, few), Verdict::Win);
        assert_eq!(Taste::Long.judge("a b", "c d"), Verdict::Tie);
        let nine = "a b c d e f g h i";
        assert_eq!(
            Taste::Short.judge(nine, &format!("{nine} j k")),
            Verdict::Tie
        );
        assert_eq!(
            Taste::Short.judge(nine, &format!("{nine} j k l")),
            Verdict::Win
        );
    }

    #[test]
    fn list_counts_lines_of_a_list() {
        let cases = [
            ("- milk\n- eggs", 2.0),
            ("Buy:\n\n  * milk\n  * eggs\n* tea", 3.0),
            ("1. go\n2. stay\n10. wait", 3.0),
            ("**Go** now.\n-5 degrees\n3.5 km\n-\n.", 0.0),
            ("a - b\nsee 1. and 2.", 0.0),
            ("", 0.0),
        ];
        for (text, lines) in cases {
            assert_eq!(Taste::List.count(text), lines, "{text:?}");
        }
        assert_eq!(Taste::List.judge("- a\n- b", "- a b c"), Verdict::Win);
        assert_eq!(Taste::List.judge("plain", "also plain"), Verdict::Tie);
        assert_eq!(Taste::Prose.judge("- a\n- b", "- a b c"), Verdict::Loss);
        assert_eq!(Taste::Prose.judge("plain", "- a"), Verdict::Win);
    }

    #[test]
    fn questions_wants_one_at_the_end() {
        for text in [
            "Which one?",
            "Tea. Or \"coffee?\"\n",
            "**Why?**",
            "Well (or not?)",
        ] {
            assert_eq!(Taste::Questions.count(text), 1.0, "{text:?}");
        }
        for text in ["Why? Because.", "No.", "", "? no"] {
            assert_eq!(Taste::Questions.count(text), 0.0, "{text:?}");
        }
    }

    #[test]
    fn an_empty_text_pleases_nobody() {
        for taste in Taste::ALL {
            assert_eq!(
                taste.judge(" \n", "a plain text"),
                Verdict::Loss,
                "{taste:?}"
            );
            assert_eq!(taste.judge("a plain text", ""), Verdict::Win, "{taste:?}");
            assert_eq!(taste.judge("", " "), Verdict::Tie, "{taste:?}");
        }
    }

    #[test]
    fn ties_count_half() {
        let points = [Verdict::Win, Verdict::Tie, Verdict::Loss].map(Verdict::points);
        assert_eq!(points, [1.0, 0.5, 0.0]);
    }
}
