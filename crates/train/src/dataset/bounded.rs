//! Input that may not grow without end: parsers ask for more until a record is whole.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes that may still be read for the current record. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<u64>>,
    whole: u64,
}

impl Budget {
    /// `whole` bytes per record, and what a parser's buffers read ahead.
    pub(super) fn new(whole: u64) -> Self {
        Self {
            left: Rc::new(Cell::new(whole)),
            whole,
        }
    }

    /// A record is whole: the next one may have as many bytes.
    pub(super) fn renew(&self) {
        self.left.set(self.whole);
    }

    /// Whether reading ended because of it.
    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

/// A reader that fails once the budget is spent.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Bounded<R> {
    pub(super) fn new(inner: R, budget: Budget) -> Self {
        Self { inner, budget }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 {
            return Err(io::Error::other("the record is too long"));
        }
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = self.inner.read(&mut buffer[..most])?;
        self.budget.left.set(left - got as u64);
        Ok(got)
    }
}
