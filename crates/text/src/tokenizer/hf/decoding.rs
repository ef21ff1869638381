//! What `decoder` in `tokenizer.json` says.

use serde_json::Value;

use crate::tokenizer::pieces::Spelling;

/// How ids become text.
#[derive(Debug, PartialEq)]
pub(super) struct Decoding {
    pub spelling: Spelling,
    pub strips_leading_space: bool,
}

impl Decoding {
    /// Reads the kinds that turn each token into bytes by itself.
    pub(super) fn parse(decoder: &Value) -> Result<Self, String> {
        let mut steps = Steps::default();
        steps.read(decoder)?;
        Ok(Self {
            spelling: if steps.is_byte_level {
                Spelling::byte_level()
            } else {
                Spelling::Text {
                    replacements: steps.replacements,
                    byte_tokens: steps.byte_tokens,
                }
            },
            strips_leading_space: steps.strips_leading_space,
        })
    }
}

#[derive(Default)]
struct Steps {
    is_byte_level: bool,
    replacements: Vec<(String, String)>,
    byte_tokens: bool,
    is_fused: bool,
    strips_leading_space: bool,
}

impl Steps {
    fn read(&mut self, step: &Value) -> Result<(), String> {
        let unsupported = || Err(format!("decoder {step} is not supported"));
        match step["type"].as_str() {
            Some("Sequence") => {
                let steps = step["decoders"].as_array();
                for inner in steps.into_iter().flatten() {
                    self.read(inner)?;
                }
            }
            Some("ByteLevel") => self.is_byte_level = true,
            Some("ByteFallback") => self.byte_tokens = true,
            Some("Fuse") => self.is_fused = true,
            Some("Replace") => {
                let from = step["pattern"]["String"].as_str();
                let (Some(from), Some(to)) = (from, step["content"].as_str()) else {
                    return unsupported();
                };
                self.replacements.push((from.to_owned(), to.to_owned()));
            }
            Some("Metaspace") => {
                let from = step["replacement"].as_str().unwrap_or("\u{2581}");
                self.replacements.push((from.to_owned(), " ".to_owned()));
                let never = step["prepend_scheme"] == "never" || step["add_prefix_space"] == false;
                self.strips_leading_space |= !never;
            }
            // Before the pieces are joined this would strip every piece: nobody's tokenizer.
            Some("Strip") if self.is_fused => {
                if step["content"] != " " || step["start"] != 1 || step["stop"] != 0 {
                    return unsupported();
                }
                self.strips_leading_space = true;
            }
            _ => return unsupported(),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(byte_tokens: bool, strips_leading_space: bool) -> Decoding {
        Decoding {
            spelling: Spelling::Text {
                replacements: vec![("\u{2581}".to_owned(), " ".to_owned())],
                byte_tokens,
            },
            strips_leading_space,
        }
    }

    #[test]
    fn llama_2_and_gemma_differ_in_the_first_space() {
        let replace = json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "});
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
        let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
        let llama = json!({"type": "Sequence", "decoders": [&replace, &bytes, &fuse, &strip]});
        assert_eq!(Decoding::parse(&llama), Ok(text(true, true)));
        let gemma = json!({"type": "Sequence", "decoders": [&replace, &bytes, &fuse]});
        assert_eq!(Decoding::parse(&gemma), Ok(text(true, false)));
        let early = json!({"type": "Sequence", "decoders": [&strip, &fuse]});
        assert!(Decoding::parse(&early).is_err());
    }

    #[test]
    fn metaspace_follows_its_scheme() {
        let metaspace = |scheme: &str| {
            let decoder =
                json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme});
            Decoding::parse(&decoder)
        };
        assert_eq!(metaspace("always"), Ok(text(false, true)));
        assert_eq!(metaspace("never"), Ok(text(false, false)));
    }

    #[test]
    fn an_unknown_decoder_is_named() {
        let error = Decoding::parse(&json!({"type": "CTC"})).unwrap_err();
        assert!(error.contains("CTC"), "{error}");
        assert!(Decoding::parse(&Value::Null).is_err());
    }
}
