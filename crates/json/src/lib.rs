//! JSON in which nobody sees a line break that is none.
//!
//! U+0085, U+2028 and U+2029 may stand in JSON as they are. Readers that split text into lines as Unicode has them
//! (Python's `splitlines`, which clients use for events and for JSON lines) cut the text there, and both halves are
//! no JSON. Escaped, they mean the same and break nothing. (All other line breaks are control characters, which
//! JSON always escapes.)

use std::borrow::Cow;

/// What is escaped, in UTF-8, and what stands for it.
const BREAKS: [(&[u8], &[u8]); 3] = [
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
];

/// `json`, which is JSON in UTF-8, with these characters escaped.
///
/// In JSON they stand in strings only, and the bytes of a character begin no other one, so that the bytes alone
/// are enough to go by.
pub fn escaped(json: &[u8]) -> Cow<'_, [u8]> {
    let mut escaped = Vec::new();
    let mut done = 0;
    while let Some((at, (bytes, escape))) = next(json, done) {
        escaped.extend_from_slice(&json[done..at]);
        escaped.extend_from_slice(escape);
        done = at + bytes.len();
    }
    if done == 0 {
        return Cow::Borrowed(json);
    }
    escaped.extend_from_slice(&json[done..]);
    Cow::Owned(escaped)
}

type Break = (&'static [u8], &'static [u8]);

/// The first of them at or behind `from`, and where it is.
fn next(json: &[u8], from: usize) -> Option<(usize, Break)> {
    let begins = |at: &usize| matches!(json[*at], 0xc2 | 0xe2);
    let here = |at: usize| {
        let is_here = |(bytes, _): &&Break| json[at..].starts_with(bytes);
        BREAKS.iter().find(is_here).map(|found| (at, *found))
    };
    (from..json.len()).filter(begins).find_map(here)
}

#[cfg(test)]
mod tests {
    use serde_json::{json, Value};

    use super::*;

    #[test]
    fn only_these_characters_change_and_the_value_does_not() {
        for (text, written) in [
            ("", r#""""#),
            ("a\u{2028}b", r#""a\u2028b""#),
            ("\u{2029}", r#""\u2029""#),
            ("\u{85}\u{85}", r#""\u0085\u0085""#),
            (
                "\u{2027}\u{202a}\u{a0}\u{84}",
                "\"\u{2027}\u{202a}\u{a0}\u{84}\"",
            ),
            ("\\\u{2028}\n", r#""\\\u2028\n""#),
            ("\u{20ac}\u{c5}\u{10ffff}", "\"\u{20ac}\u{c5}\u{10ffff}\""),
        ] {
            let plain = serde_json::to_vec(text).unwrap();
            let json = escaped(&plain);
            assert_eq!(std::str::from_utf8(&json).unwrap(), written);
            assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), json!(text));
        }
        let keys = json!({"a\u{2028}": ["\u{85}"]});
        let plain = serde_json::to_vec(&keys).unwrap();
        let json = escaped(&plain);
        assert_eq!(&*json, br#"{"a\u2028":["\u0085"]}"#);
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), keys);
    }

    #[test]
    fn every_line_break_of_pythons_splitlines_is_escaped() {
        let breaks = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";
        let json = serde_json::to_vec(breaks).unwrap();
        let text = String::from_utf8(escaped(&json).into_owned()).unwrap();
        assert!(!text.contains(|c| breaks.contains(c)), "{text}");
    }
}
