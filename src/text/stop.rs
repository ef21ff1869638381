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
#[derive(Debug)]
pub struct StopMatcher {}

impl StopMatcher {
    /// For one answer; no stop strings means that text passes as it is.
    pub fn new(_stops: Vec<String>) -> Self {
        unimplemented!()
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, _text: &str) -> StopOutcome {
        unimplemented!()
    }

    /// What was held back, at the end of the answer.
    pub fn finish(&mut self) -> String {
        unimplemented!()
    }
}
