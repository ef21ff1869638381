//! The names of a model's parts: `NAME-00001-of-00003.gguf`.

use std::path::{Path, PathBuf};

/// Parts that a model may have; names have five digits.
pub(super) const MAX_PARTS: usize = 99_999;

/// The paths of all `n` parts of a model whose part `number` (from 1) is at `path`; `None` if it is not named as
/// such a part.
pub(super) fn paths(path: &Path, number: usize, n: usize) -> Option<Vec<PathBuf>> {
    let name = path.file_name()?.to_str()?;
    let end = |number: usize| format!("-{number:05}-of-{n:05}.gguf");
    let stem = name.strip_suffix(&end(number))?;
    let part = |number: usize| path.with_file_name(format!("{stem}{}", end(number)));
    Some((1..=n).map(part).collect())
}

/// A file's name without what makes it a part, `-00001-of-00003`.
pub fn without_part(stem: &str) -> &str {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let cut = || {
        let (rest, n) = stem.rsplit_once("-of-")?;
        let (name, number) = rest.rsplit_once('-')?;
        (is_number(n) && is_number(number) && !name.is_empty()).then_some(name)
    };
    cut().unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{paths, without_part};

    #[test]
    fn parts_have_the_names_of_llama_gguf_split() {
        let first = Path::new("/m/x-00001-of-00002.gguf");
        let all = [first.to_owned(), "/m/x-00002-of-00002.gguf".into()];
        assert_eq!(paths(first, 1, 2).unwrap(), all);
        assert_eq!(paths(first, 1, 3), None);
        assert_eq!(paths(Path::new("/m/x.gguf"), 1, 2), None);
        assert_eq!(without_part("x-Q8_0-00001-of-00002"), "x-Q8_0");
        for whole in ["x", "x-1-of-2", "one-of-them", "-00001-of-00002"] {
            assert_eq!(without_part(whole), whole);
        }
    }
}
