//! How long answers are, by the version that gives them: what a request that asks for "at most 4096 tokens" will
//! really take.

use std::collections::HashMap;

use crate::request::EngineRequest;
use attune_ids::AdapterVersion;

/// What an answer counts before any was measured.
const FIRST_GUESS: f64 = 256.0;

/// The mean follows the last answers, about so many of them.
const MEMORY: u32 = 64;

/// Versions whose answers are told apart.
const MAX_VERSIONS: usize = 64;

/// Mean lengths in tokens.
#[derive(Debug, Default)]
pub struct Lengths {
    all: Mean,
    /// `None` is the bare base.
    by_version: HashMap<Option<AdapterVersion>, Mean>,
}

#[derive(Debug, Clone, Copy)]
struct Mean {
    value: f64,
    answers: u32,
}

impl Default for Mean {
    fn default() -> Self {
        Self {
            value: FIRST_GUESS,
            answers: 0,
        }
    }
}

impl Lengths {
    /// Remembers an answer of `made` tokens. One that `max_tokens` cut says only that it would have been longer;
    /// one that may not end by itself says nothing.
    pub fn record(&mut self, request: &EngineRequest, made: usize) {
        let cut = made >= request.max_tokens;
        if request.ignore_eos || (cut && made as f64 <= self.mean_of(request).value) {
            return;
        }
        self.all.add(made);
        let version = version(request);
        if self.by_version.len() >= MAX_VERSIONS && !self.by_version.contains_key(&version) {
            // Versions come and go over weeks; those that answer are measured again in a moment.
            self.by_version.clear();
        }
        self.by_version.entry(version).or_default().add(made);
    }

    /// Tokens that the whole answer is expected to have.
    pub fn expected(&self, request: &EngineRequest) -> usize {
        if request.ignore_eos {
            return request.max_tokens;
        }
        let mean = self.mean_of(request).value.ceil() as usize;
        mean.max(request.min_tokens)
            .clamp(1, request.max_tokens.max(1))
    }

    /// Tokens that are still expected of an answer that has `made`. Whoever is longer than most goes on for a
    /// while.
    pub fn left(&self, request: &EngineRequest, made: usize) -> usize {
        let expected = self.expected(request);
        let left = expected.saturating_sub(made).max(expected / 4).max(1);
        left.min(request.max_tokens.saturating_sub(made))
    }

    /// Tokens of an answer, whoever gives it.
    pub fn usual(&self) -> usize {
        self.all.value.ceil() as usize
    }

    fn mean_of(&self, request: &EngineRequest) -> Mean {
        let own = self.by_version.get(&version(request));
        own.copied().unwrap_or(self.all)
    }
}

impl Mean {
    fn add(&mut self, tokens: usize) {
        self.answers = (self.answers + 1).min(MEMORY);
        self.value += (tokens as f64 - self.value) / f64::from(self.answers);
    }
}

fn version(request: &EngineRequest) -> Option<AdapterVersion> {
    request.adapter.as_ref().map(|a| a.version.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admission::door::tests::request;
    use crate::request::EngineAdapter;

    fn of_version(digit: char, request: EngineRequest) -> EngineRequest {
        let version = AdapterVersion::new(digit.to_string().repeat(64)).unwrap();
        let adapter = EngineAdapter {
            version,
            lora: Arc::default(),
            lease: Arc::new(()),
        };
        EngineRequest {
            adapter: Some(adapter),
            ..request
        }
    }

    #[test]
    fn a_huge_bound_is_replaced_by_what_answers_are() {
        let mut lengths = Lengths::default();
        let (huge, short) = (request(1, 4096), request(1, 16));
        assert_eq!(lengths.expected(&huge), FIRST_GUESS as usize);
        for made in [30, 50] {
            lengths.record(&huge, made);
        }
        assert_eq!(
            (lengths.expected(&huge), lengths.expected(&short)),
            (40, 16)
        );
        assert_eq!(lengths.usual(), 40);
        let least = EngineRequest {
            min_tokens: 100,
            ..huge.clone()
        };
        assert_eq!(lengths.expected(&least), 100);
        let endless = EngineRequest {
            ignore_eos: true,
            ..huge
        };
        lengths.record(&endless, 4096);
        assert_eq!((lengths.expected(&endless), lengths.usual()), (4096, 40));
    }

    #[test]
    fn an_answer_that_was_cut_says_that_it_would_have_been_longer() {
        let mut lengths = Lengths::default();
        lengths.record(&request(1, 4096), 100);
        lengths.record(&request(1, 16), 16);
        assert_eq!(lengths.usual(), 100, "16 of 16 is no news");
        lengths.record(&request(1, 300), 300);
        assert_eq!(lengths.usual(), 200);
    }

    #[test]
    fn versions_are_told_apart_and_bounded() {
        let mut lengths = Lengths::default();
        let (a, b) = (of_version('a', request(1, 999)), request(1, 999));
        lengths.record(&a, 10);
        lengths.record(&b, 30);
        assert_eq!((lengths.expected(&a), lengths.expected(&b)), (10, 30));
        let unknown = of_version('c', request(1, 999));
        assert_eq!(lengths.expected(&unknown), 20, "as all of them");
        for i in 0..200 {
            let version = AdapterVersion::new(format!("{i:064x}")).unwrap();
            let mut one = a.clone();
            one.adapter
                .iter_mut()
                .for_each(|a| a.version = version.clone());
            lengths.record(&one, 10);
        }
        assert!(lengths.by_version.len() <= MAX_VERSIONS);
    }

    #[test]
    fn what_is_left_shrinks_and_stays_within_the_bound() {
        let mut lengths = Lengths::default();
        lengths.record(&request(1, 4096), 100);
        let ask = request(1, 120);
        let left = [0, 60, 99, 110, 120, 130].map(|made| lengths.left(&ask, made));
        assert_eq!(left, [100, 40, 21, 10, 0, 0]);
    }
}
