//! Tokens that may not be chosen now, whatever their logits: the place of every constraint on what comes next.
//!
//! Today it is the ids that would end an answer too soon. Which tokens a grammar allows is a matter of the tokens made
//! so far, too, so it belongs here: [`Mask::is_off`] says whether logits pass as they are (a device may then
//! choose), and [`Mask::apply`] makes the others impossible.

use std::sync::Arc;

/// What one answer may not choose.
#[derive(Debug)]
pub struct Mask {
    end_ids: Arc<[u32]>,
    /// Tokens that are made before one of `end_ids`.
    min_tokens: usize,
}

impl Mask {
    /// `end_ids` are not chosen before `min_tokens` tokens.
    pub fn new(end_ids: Arc<[u32]>, min_tokens: usize) -> Self {
        Self {
            end_ids,
            min_tokens,
        }
    }

    /// Whether all tokens may be chosen after `made` of them.
    pub fn is_off(&self, made: usize) -> bool {
        made >= self.min_tokens
    }

    /// Makes impossible what may not be chosen after `made` tokens: negative infinity.
    pub fn apply(&self, made: usize, logits: &mut [f32]) {
        if self.is_off(made) {
            return;
        }
        for id in self.end_ids.iter() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
