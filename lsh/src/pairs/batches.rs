//! Blocks of pairs cut into batches of one length.

use lshjoin_kernels::Scalar;

use crate::{
    base::{context::Context, error::Result},
    pairs::results::{JoinedPairs, Pair},
};

/// Hands over pairs `size` at a time, and what is left at the end.
pub(crate) struct Batches<'a, T, D> {
    size: usize,
    /// The batch that is being filled.
    filling: JoinedPairs<T>,
    deliver: D,
    ctx: &'a Context,
}

impl<'a, T: Scalar, D: FnMut(JoinedPairs<T>)> Batches<'a, T, D> {
    pub(crate) fn new(size: usize, deliver: D, ctx: &'a Context) -> Self {
        Self {
            size,
            filling: JoinedPairs::new(),
            deliver,
            ctx,
        }
    }

    /// Adds pairs, and delivers each batch that they fill.
    ///
    /// # Errors
    /// When the run is cancelled, which the receiver of a batch may have done, or there is no
    /// memory for a batch.
    pub(crate) fn add(&mut self, mut pairs: &[Pair<T>]) -> Result<()> {
        while !pairs.is_empty() {
            let free = self.size - self.filling.left.len();
            let (now, later) = pairs.split_at(free.min(pairs.len()));
            self.filling.extend(now)?;
            if now.len() == free {
                self.deliver()?;
            }
            pairs = later;
        }
        Ok(())
    }

    /// Delivers what is left.
    ///
    /// # Errors
    /// As of [`Batches::add`].
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.filling.left.is_empty() {
            return Ok(());
        }
        self.deliver()
    }

    fn deliver(&mut self) -> Result<()> {
        self.ctx.check()?;
        (self.deliver)(std::mem::replace(&mut self.filling, JoinedPairs::new()));
        self.ctx.check()
    }
}
