//! Preference pairs as token ids, ready to be learned from.

use super::pack::Completion;

/// One pair.
#[derive(Debug, Clone, PartialEq)]
pub struct IdPair {
    /// The user row of whoever prefers, 1 ..= N; 0 is nobody in particular.
    pub user: usize,
    /// Prompt ids without BOS.
    pub prompt: Vec<u32>,
    /// The preferred response with its end-of-turn token.
    pub chosen: Vec<u32>,
    /// The other response.
    pub rejected: Vec<u32>,
    /// Its share of the loss: 1, or less for people who say more than others.
    pub weight: f64,
    /// The reference policy's log-probability sums of chosen and rejected; 0 until they are computed.
    pub reference: [f64; 2],
    /// Which tokens of chosen and of rejected count; `None`: all.
    pub kept: Option<[Vec<bool>; 2]>,
    /// What a learned mask has to know; `None`: there is none.
    pub gated: Option<Box<Gated>>,
}

/// What a learned mask has to know of a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gated {
    /// Tokens of chosen and of rejected that count fully.
    pub contrastive: [Vec<bool>; 2],
    /// The reference policy's log-probability of each token; empty until they are computed.
    pub reference: [Vec<f32>; 2],
}

impl IdPair {
    /// Chosen and rejected as `user` sees them.
    pub fn completions(&self, user: Option<usize>) -> [Completion<'_>; 2] {
        [0, 1].map(|side| Completion {
            user,
            prompt: &self.prompt,
            response: [&self.chosen, &self.rejected][side],
            kept: self.kept.as_ref().map(|kept| &kept[side][..]),
        })
    }

    /// Tokens of chosen and of rejected that count.
    pub fn lengths(&self) -> [usize; 2] {
        match &self.kept {
            None => [self.chosen.len(), self.rejected.len()],
            Some(kept) => kept
                .each_ref()
                .map(|kept| kept.iter().filter(|k| **k).count()),
        }
    }
}
