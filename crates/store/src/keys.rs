//! The bytes of a key.
//!
//! A key is a list of parts. Each part is written as its bytes, with `00` written as `00 FF`, and
//! ended by `00 00`. So a key reads back to exactly one list of parts, keys sort as the lists of
//! parts do (byte by byte, part by part), and the keys that start with a part share a prefix that
//! no other key has.

/// Ends a part.
const END: [u8; 2] = [0x00, 0x00];
/// A zero byte inside a part.
const ZERO: [u8; 2] = [0x00, 0xFF];

/// The key of `parts`.
pub(super) fn encode(parts: &[&str]) -> Vec<u8> {
    let mut key = Vec::with_capacity(parts.iter().map(|part| part.len() + END.len()).sum());
    for part in parts {
        for &byte in part.as_bytes() {
            match byte {
                0 => key.extend_from_slice(&ZERO),
                byte => key.push(byte),
            }
        }
        key.extend_from_slice(&END);
    }
    key
}

/// The parts of `key`; `None` if no list of parts has this key.
pub(super) fn decode(key: &[u8]) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut rest = key;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != 0 {
            part.push(byte);
            rest = after;
            continue;
        }
        let (&second, after) = after.split_first()?;
        match [byte, second] {
            ZERO => part.push(0),
            END => parts.push(String::from_utf8(std::mem::take(&mut part)).ok()?),
            _ => return None,
        }
        rest = after;
    }
    part.is_empty().then_some(parts)
}

/// `key` for people: its parts, or its bytes in hex if it is not a key of ours.
pub(super) fn show(key: &[u8]) -> String {
    match decode(key) {
        Some(parts) => format!("{parts:?}"),
        None => format!("0x{}", hex::encode(key)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Strings in which zero bytes, prefixes of each other and high characters are common.
    fn part() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            Just('\0'),
            Just('\u{1}'),
            Just('a'),
            Just('b'),
            Just('\u{ff}'),
            Just('\u{10ffff}'),
            any::<char>(),
        ];
        proptest::collection::vec(letter, 0..6).prop_map(String::from_iter)
    }

    fn parts() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(part(), 0..4)
    }

    fn key(parts: &[String]) -> Vec<u8> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        encode(&parts)
    }

    #[test]
    fn known_bytes() {
        assert_eq!(encode(&["ab", ""]), b"ab\0\0\0\0");
        assert_eq!(encode(&["a\0b"]), b"a\0\xffb\0\0");
        assert_eq!(show(b"ab\0\0"), r#"["ab"]"#);
        assert_eq!(show(b"ab"), "0x6162");
    }

    #[test]
    fn bytes_that_are_no_key() {
        for bad in [&b"a"[..], b"a\0", b"a\0\x01", b"a\0\0b", b"\xff\0\0"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn reads_back(parts in parts()) {
            prop_assert_eq!(decode(&key(&parts)), Some(parts));
        }

        #[test]
        fn sorts_as_the_parts_do(a in parts(), b in parts()) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn a_prefix_belongs_to_one_list_of_parts(a in parts(), b in parts()) {
            prop_assert_eq!(key(&b).starts_with(&key(&a)), b.starts_with(&a));
        }
    }
}
