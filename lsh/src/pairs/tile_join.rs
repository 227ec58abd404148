//! Ranges of rows compared with ranges of rows, as tiles: the loop that every join runs.

use std::ops::Range;

use lshjoin_kernels::{LeftPanel, Near, Quantised, RightPanel, Scalar, memory, near_pairs};
use rayon::prelude::*;

use crate::{
    base::{context::Context, error::Result, per_thread::PerThread},
    pairs::ordered::InOrder,
    vectors::{Vectors, interval::filter_interval},
};

/// Rows of a left and of a right panel: both fit a second-level cache at a few hundred dimensions.
pub(crate) const LEFT: usize = 512;
const RIGHT: usize = 2048;
/// Left rows, at most, that one task compares with its right panel; the rest are other tasks'.
const LEFT_OF_TASK: usize = 1 << 15;
/// Pairs that are kept, at most, until those before them are handed over: as many as a pair of
/// panels can bring.
const CAPACITY: usize = LEFT * RIGHT;

/// Two ranges of rows to be compared: of positions in the orders of a [`TileJoin`].
pub(crate) struct BlockPair {
    pub(crate) left: Range<usize>,
    pub(crate) right: Range<usize>,
}

/// The two sides of a join, and the order in which the rows of each are compared, as internal ids.
/// A self-join (`right` is `None`) compares each pair once, and no row with itself.
pub(crate) struct TileJoin<'a, T> {
    pub(crate) left: &'a Vectors<'a, T>,
    pub(crate) left_order: &'a [u32],
    pub(crate) right: Option<(&'a Vectors<'a, T>, &'a [u32])>,
    /// Codes to compare in place of the sides' own: shorter ones, whose distances are lower bounds.
    /// Only the lower ends of the intervals that tiles find are right then.
    pub(crate) codes: Option<(&'a Quantised<'a>, &'a Quantised<'a>)>,
    pub(crate) ctx: &'a Context,
}

/// What a join does with the pairs that pass the filter on codes (FAISS's result handler). Rows are
/// given by internal id.
pub(crate) trait PairSink<T>: Sync {
    /// What a thread keeps from one block of pairs to the next.
    type Scratch: Send;

    fn scratch(&self) -> Self::Scratch;

    /// The Euclidean distance beyond which a left row has no use for a pair; negative for no use at
    /// all.
    fn left_bound(&self, row: u32) -> f32;

    /// The same for a right row.
    fn right_bound(&self, row: u32) -> f32;

    /// Appends the pairs of two panels that may be of use.
    fn pairs(&self, left: &LeftPanel, right: &RightPanel, near: &mut Vec<Near>) -> Result<()> {
        Ok(near_pairs(left, right, near)?)
    }

    /// Takes these pairs, given as positions in `left` and `right`.
    fn consume(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        scratch: &mut Self::Scratch,
    ) -> Result<()>;
}

/// A thread's buffers.
struct TileBuffers<N> {
    left: LeftPanel,
    right: RightPanel,
    /// The rows that the right panel holds.
    gathered: Range<usize>,
    near: Vec<Near>,
    scratch: N,
}

/// One right panel with all the left rows it is compared with.
struct Task {
    left: Range<usize>,
    right: Range<usize>,
}

impl Task {
    fn pairs(&self) -> usize {
        self.left.len() * self.right.len()
    }
}

impl<T: Scalar> TileJoin<'_, T> {
    /// Compares these pairs of blocks, on the current rayon pool.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn run<J: PairSink<T>>(
        &self,
        blocks: impl Iterator<Item = BlockPair>,
        sink: &J,
    ) -> Result<()> {
        let ctx = self.ctx;
        let tasks = self.tasks(blocks, LEFT_OF_TASK)?;
        let buffers = self.buffers(sink);
        tasks.par_iter().try_for_each(|task| {
            ctx.check()?;
            self.work(task, &mut buffers.own(), sink)?;
            ctx.advance(task.pairs());
            Ok(())
        })
    }

    /// Compares these pairs of blocks, on the current rayon pool, one left panel with one right
    /// panel a task. Hands over what `take` makes of a thread's scratch after each task: in the
    /// same order on any number of threads, and in bounded memory when `hand_over` is slow.
    ///
    /// # Errors
    /// When the run is cancelled, or what `hand_over` returns.
    pub(crate) fn run_ordered<J: PairSink<T>, V: Send>(
        &self,
        blocks: impl Iterator<Item = BlockPair>,
        sink: &J,
        take: impl Fn(&mut J::Scratch) -> Result<Vec<V>> + Sync,
        hand_over: impl FnMut(Vec<V>) -> Result<()> + Send,
    ) -> Result<()> {
        let ctx = self.ctx;
        let tasks = self.tasks(blocks, LEFT)?;
        let buffers = self.buffers(sink);
        let order = InOrder::new(CAPACITY, hand_over);
        // A bridge takes tasks up one by one; a parallel iterator would start in several places.
        tasks
            .iter()
            .enumerate()
            .par_bridge()
            .try_for_each(|(index, task)| {
                let ticket = order.ticket(index);
                ctx.check()?;
                let mut buffer = buffers.own();
                self.work(task, &mut buffer, sink)?;
                ticket.finish(take(&mut buffer.scratch)?)?;
                ctx.advance(task.pairs());
                Ok(())
            })
    }

    fn buffers<J: PairSink<T>>(&self, sink: &J) -> PerThread<TileBuffers<J::Scratch>> {
        PerThread::new(|| TileBuffers {
            left: LeftPanel::new(self.ctx.isa()),
            right: RightPanel::new(self.ctx.isa()),
            gathered: 0..0,
            near: Vec::new(),
            scratch: sink.scratch(),
        })
    }

    /// A task for each right panel and each range of `length` left rows; progress counts pairs.
    fn tasks(&self, blocks: impl Iterator<Item = BlockPair>, length: usize) -> Result<Vec<Task>> {
        let with_itself = self.right.is_none();
        let of_block = |BlockPair { left, right }: BlockPair| {
            right.clone().step_by(RIGHT).flat_map(move |first| {
                let right = first..right.end.min(first + RIGHT);
                let left = left.start..if with_itself { right.end } else { left.end };
                let starts = left.clone().step_by(length);
                starts.map(move |start| Task {
                    left: start..left.end.min(start + length),
                    right: right.clone(),
                })
            })
        };
        let tasks = memory::collect(blocks.flat_map(of_block), "pairs of panels")?;
        self.ctx.expect(tasks.iter().map(Task::pairs).sum());
        Ok(tasks)
    }

    fn work<J: PairSink<T>>(
        &self,
        task: &Task,
        buffer: &mut TileBuffers<J::Scratch>,
        sink: &J,
    ) -> Result<()> {
        let (right_side, right_order) = self.right.unwrap_or((self.left, self.left_order));
        let right_rows = &right_order[task.right.clone()];
        let (of_left, of_right) = match self.codes {
            Some((left, right)) => (Some(left), Some(right)),
            None => (self.left.codes.as_ref(), right_side.codes.as_ref()),
        };
        if let Some(codes) = of_right
            && buffer.gathered != task.right
        {
            let bounds = bounds(right_rows, |row| sink.right_bound(row));
            buffer.right.gather(codes, right_rows, &bounds)?;
            buffer.gathered = task.right.clone();
        }
        // In a self-join left blocks end where the right panel starts, so that only blocks from
        // there on share rows with it.
        let mut start = task.left.start;
        while start < task.left.end {
            self.ctx.check()?;
            let mut end = task.left.end.min(start + LEFT);
            if self.right.is_none() && start < task.right.start {
                end = end.min(task.right.start);
            }
            let left_rows = &self.left_order[start..end];
            buffer.near.clear();
            match of_left {
                Some(codes) => {
                    let bounds_left = bounds(left_rows, |row| sink.left_bound(row));
                    buffer.left.gather(codes, left_rows, &bounds_left)?;
                    buffer
                        .right
                        .set_bounds(&bounds(right_rows, |row| sink.right_bound(row)))?;
                    sink.pairs(&buffer.left, &buffer.right, &mut buffer.near)?;
                }
                None => self.score_all(left_rows, right_rows, sink, &mut buffer.near)?,
            }
            if self.right.is_none() && start >= task.right.start {
                // Each pair once, and no row with itself.
                let ahead = start - task.right.start;
                buffer
                    .near
                    .retain(|pair| ahead + (pair.left as usize) < pair.right as usize);
            }
            sink.consume(left_rows, right_rows, &mut buffer.near, &mut buffer.scratch)?;
            start = end;
        }
        Ok(())
    }

    /// Where there are no codes to filter on, computes the distances.
    fn score_all<J: PairSink<T>>(
        &self,
        left_rows: &[u32],
        right_rows: &[u32],
        sink: &J,
        near: &mut Vec<Near>,
    ) -> Result<()> {
        let (right_side, _) = self.right.unwrap_or((self.left, self.left_order));
        let (metric, dim) = (self.left.metric, self.left.rows.dim());
        let of_left = bounds(left_rows, |row| sink.left_bound(row));
        let of_right = bounds(right_rows, |row| sink.right_bound(row));
        let mut listed = Ok(());
        let mut found = |left: u32, right: u32, distance: T| {
            let (lower, upper) = filter_interval::<T>(metric, distance.to_f64(), dim);
            let near_enough = lower <= of_left[left as usize].max(of_right[right as usize]);
            if near_enough && listed.is_ok() {
                let pair = Near {
                    left,
                    right,
                    lower,
                    upper,
                };
                listed = memory::push(near, pair, "pairs that may be near");
            }
        };
        let isa = self.ctx.isa();
        self.left.within(
            (left_rows, &of_left),
            (right_side, right_rows, &of_right),
            isa,
            &mut found,
        )?;
        Ok(listed?)
    }
}

/// The bound of each of these rows.
pub(crate) fn bounds(rows: &[u32], bound: impl Fn(u32) -> f32) -> Vec<f32> {
    rows.iter().map(|&row| bound(row)).collect()
}
