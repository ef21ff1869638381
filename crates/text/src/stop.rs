//! Stop strings over a stream of text.

/// What came of a piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOutcome {
    /// Text that is safe to show: no stop string begins in it.
    pub text: String,
    /// The stop string that was met; nothing follows after it.
    pub matched: Option<String>,
}

/// Finds the first of several stop strings and holds back what may become one.
///
/// First is the one that is complete first, so that an answer ends as soon as it contains a stop
/// string and does not depend on how it was cut into pieces. Of several that are complete at the
/// same character, the longest wins. The text never contains any part of the one that was met.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<Stop>,
    /// The longest end of the text so far that begins a stop string.
    held: String,
    is_over: bool,
}

impl StopMatcher {
    /// For one answer; no stop strings means that text passes as it is. Empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        let stops = stops.into_iter().filter(|text| !text.is_empty());
        Self {
            stops: stops.map(Stop::new).collect(),
            held: String::new(),
            is_over: false,
        }
    }

    /// Takes the next piece of text. After a match nothing passes any more.
    pub fn push(&mut self, text: &str) -> StopOutcome {
        let mut outcome = StopOutcome {
            text: String::new(),
            matched: None,
        };
        if self.is_over {
            return outcome;
        }
        let known = self.held.len();
        let mut all = std::mem::take(&mut self.held);
        all.push_str(text);
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            if let Some(stop) = self.advance(byte) {
                // The match began no earlier than what was held back.
                all.truncate(known + at + 1 - stop.len());
                outcome.text = all;
                outcome.matched = Some(stop);
                self.is_over = true;
                return outcome;
            }
        }
        let held = self.stops.iter().map(|stop| stop.matched).max();
        self.held = all.split_off(all.len() - held.unwrap_or(0));
        outcome.text = all;
        outcome
    }

    /// What was held back, at the end of the answer.
    pub fn finish(&mut self) -> String {
        self.is_over = true;
        std::mem::take(&mut self.held)
    }

    /// The longest stop string that `byte` completes.
    fn advance(&mut self, byte: u8) -> Option<String> {
        let mut complete: Option<&str> = None;
        for stop in &mut self.stops {
            stop.advance(byte);
            let is_longer = complete.is_none_or(|other| stop.text.len() > other.len());
            if stop.matched == stop.text.len() && is_longer {
                complete = Some(&stop.text);
            }
        }
        complete.map(str::to_owned)
    }
}

/// One stop string and how much of it the text ends with (Knuth, Morris and Pratt).
#[derive(Debug)]
struct Stop {
    text: String,
    /// For each length: the longest shorter beginning that is also its end.
    shorter: Vec<usize>,
    /// Bytes of `text` that the text so far ends with.
    matched: usize,
}

impl Stop {
    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut shorter = vec![0; bytes.len() + 1];
        let mut length = 0;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = shorter[length];
            }
            if bytes[at] == bytes[length] {
                length += 1;
            }
            shorter[at + 1] = length;
        }
        Self {
            text,
            shorter,
            matched: 0,
        }
    }

    /// Only called while nothing is complete.
    fn advance(&mut self, byte: u8) {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        if bytes[self.matched] == byte {
            self.matched += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<S: AsRef<str>>(stops: &[&str], pieces: &[S]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|&s| s.to_owned()).collect());
        let mut text = String::new();
        for piece in pieces {
            let outcome = matcher.push(piece.as_ref());
            text.push_str(&outcome.text);
            if outcome.matched.is_some() {
                assert_eq!(matcher.push("after").text, "");
                assert_eq!(matcher.finish(), "");
                return (text, outcome.matched);
            }
        }
        text.push_str(&matcher.finish());
        (text, None)
    }

    #[test]
    fn a_partial_match_is_held_back_and_given_back() {
        let mut matcher = StopMatcher::new(vec!["\n\nUser:".to_owned()]);
        assert_eq!(matcher.push("Hi\n").text, "Hi");
        assert_eq!(matcher.push("\n").text, "");
        assert_eq!(matcher.push("\nUs").text, "\n");
        assert_eq!(matcher.push("!").text, "\n\nUs!");
        assert_eq!(matcher.push("\n").text, "");
        assert_eq!(matcher.finish(), "\n");
    }

    #[test]
    fn the_match_and_what_follows_are_left_out() {
        let met = run(&["END"], &["a E", "N", "D b"]);
        assert_eq!(met, ("a ".to_owned(), Some("END".to_owned())));
    }

    #[test]
    fn the_first_to_be_complete_wins_then_the_longest() {
        let met = run(&["abcd", "bc"], &["xabcd"]);
        assert_eq!(met, ("xa".to_owned(), Some("bc".to_owned())));
        let met = run(&["bc", "abc"], &["xabc"]);
        assert_eq!(met, ("x".to_owned(), Some("abc".to_owned())));
    }

    #[test]
    fn without_stop_strings_text_passes() {
        assert_eq!(run(&[], &["a", "b"]).0, "ab");
        assert_eq!(run(&[""], &["a", "b"]), ("ab".to_owned(), None));
    }

    /// The definition, on the whole text.
    fn naive(stops: &[String], text: &str) -> (String, Option<String>) {
        for end in 1..=text.len() {
            let complete = stops
                .iter()
                .filter(|stop| {
                    !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes())
                })
                .max_by_key(|stop| stop.len());
            if let Some(stop) = complete {
                return (text[..end - stop.len()].to_owned(), Some(stop.clone()));
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_give_what_the_whole_text_gives(
            stops in prop::collection::vec("[ab\u{e9}\u{e8}]{0,5}", 0..4),
            pieces in prop::collection::vec("[ab\u{e9}\u{e8}]{0,4}", 0..12),
        ) {
            let slices: Vec<&str> = stops.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&slices, &pieces), naive(&stops, &pieces.concat()));
        }

        #[test]
        fn no_more_is_held_back_than_a_stop_string_begins_with(
            stop in "[ab]{1,5}",
            pieces in prop::collection::vec("[ab]{0,4}", 0..12),
        ) {
            let mut matcher = StopMatcher::new(vec![stop.clone()]);
            for piece in &pieces {
                let outcome = matcher.push(piece);
                prop_assert!(outcome.matched.is_some() || stop.starts_with(&matcher.held));
                prop_assert!(matcher.held.len() < stop.len());
            }
        }
    }
}
