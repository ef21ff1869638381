//! Ids that the model has no embedding for: a `[PAD]` that was added to a tokenizer and not to its model.

use super::{TextError, Tokenizer};

impl Tokenizer {
    /// The tokenizer of a model with `n` embeddings. Tokens that were added behind them stay, as nothing needs them:
    /// a text that has one is refused, and none ends an answer, as the model cannot write it.
    ///
    /// # Errors
    /// The name of a token without an embedding that texts are made of or begin with, or of the first that ends them
    /// if none that does has one: the tokenizer is another model's.
    pub fn with_embeddings(mut self, n: usize) -> Result<Self, String> {
        let ends = self.roles.ends.iter().copied();
        let written: Vec<u32> = ends.filter(|id| (*id as usize) < n).collect();
        if !written.is_empty() {
            self.roles.eos = self.roles.eos.filter(|id| written.contains(id));
            self.roles.eos = self.roles.eos.or(written.first().copied());
            self.roles.ends = written;
        }
        let beyond =
            u32::try_from(n).unwrap_or(u32::MAX)..u32::try_from(self.len()).unwrap_or(u32::MAX);
        let added = self.plain.added_ids();
        let is_needed = |id: &u32| {
            let is_token = !self.pieces.bytes(*id).is_empty();
            let is_role = self.roles.bos == Some(*id) || self.roles.ends.contains(id);
            let is_unknown = self.plain.unknown() == Some(*id);
            let is_added = added.contains(id) || self.is_special(*id);
            is_token && (!is_added || is_role || is_unknown)
        };
        if let Some(id) = beyond.into_iter().find(is_needed) {
            return Err(self.spelled(id));
        }
        self.embeddings = n;
        Ok(self)
    }

    /// `id`, if the model has an embedding for it.
    pub(super) fn embedded(&self, id: u32) -> Result<u32, TextError> {
        match (id as usize) < self.embeddings {
            true => Ok(id),
            false => Err(TextError::NoEmbedding {
                token: self.spelled(id),
            }),
        }
    }

    fn spelled(&self, id: u32) -> String {
        String::from_utf8_lossy(self.pieces.bytes(id)).into_owned()
    }
}
