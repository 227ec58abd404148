//! The k nearest of all that a row is compared with: the lists, and the sinks that fill them.

use lshjoin_kernels::{LeftPanel, Near, RightPanel, Scalar, memory, near_pairs, nearest_pairs};

use crate::{
    base::{check::positive, context::Context, counting_sort::sort_by_row, error::Result},
    pairs::{
        apart::Apart,
        results::{NEIGHBORS, Neighbors},
        tile_join::PairSink,
        top_k_lists::{Candidate, Merging, TopKLists},
    },
    vectors::Vectors,
};

/// The k nearest of each left row.
pub(crate) struct TopK<'a, T> {
    pub(crate) lists: TopKLists<'a, T>,
    pub(crate) k: usize,
    /// Whether it is a self-join, in which a row is not its own neighbour.
    with_itself: bool,
    pub(crate) apart: Option<Apart<'a>>,
    ctx: &'a Context,
}

/// Adds near pairs to the top-k of their left rows and, in a self-join that compares each pair
/// once, to those of their right rows.
pub(crate) struct TopKSink<'a, T> {
    nearest: &'a TopK<'a, T>,
    both_ways: bool,
    /// Take from each panel only what may be among its own k nearest: for rows that have no bound
    /// yet.
    of_panel: bool,
}

impl<'a, T: Scalar> TopK<'a, T> {
    /// For a self-join of `left` when `right` is `None`.
    pub(crate) fn new(
        left: &'a Vectors<'a, T>,
        right: Option<&'a Vectors<'a, T>>,
        k: usize,
        ctx: &'a Context,
    ) -> Result<Self> {
        positive("k", k)?;
        let with_itself = right.is_none();
        let apart = match right {
            None => Apart::of(None, left)?,
            Some(right) => Apart::of(Some(left), right)?,
        };
        let right = right.unwrap_or(left);
        // No list gets longer than there are other rows, whatever k asks for.
        let others = right.len().max(1);
        Ok(Self {
            lists: TopKLists::new(left, right, k.min(others))?,
            k,
            with_itself,
            apart,
            ctx,
        })
    }

    /// For the first comparisons, of rows that have no neighbours yet. Serves left rows only.
    pub(crate) fn unbounded(&self) -> TopKSink<'_, T> {
        TopKSink {
            nearest: self,
            both_ways: false,
            of_panel: true,
        }
    }

    /// For comparisons in which a pair serves its left row only: those of another row come when
    /// that is a left one.
    pub(crate) fn one_way(&self) -> TopKSink<'_, T> {
        TopKSink {
            nearest: self,
            both_ways: false,
            of_panel: false,
        }
    }

    /// For comparisons that bring each pair once: in a self-join it serves both rows.
    pub(crate) fn symmetric(&self) -> TopKSink<'_, T> {
        TopKSink {
            nearest: self,
            both_ways: self.with_itself,
            of_panel: false,
        }
    }

    pub(crate) fn finish(self) -> Result<Neighbors<T>> {
        self.lists.finish(self.ctx)?.with_k(self.k)
    }
}

/// A thread's buffers for one block of pairs.
#[derive(Default)]
pub(crate) struct Groups {
    bounds: Vec<f32>,
    found: Vec<(u32, Candidate)>,
    /// Where the candidates of each row end, once they are in the order of rows.
    ends: Vec<usize>,
    candidates: Vec<Candidate>,
    merging: Merging,
}

impl<T: Scalar> TopKSink<'_, T> {
    /// Adds to the top-k of each of `rows` those of `others` that are near: given as positions in
    /// both, with the interval of their distance.
    fn insert(
        &self,
        rows: &[u32],
        others: &[u32],
        near: impl ExactSizeIterator<Item = (u32, u32, Near)>,
        groups: &mut Groups,
    ) -> Result<()> {
        let TopK { lists, ctx, .. } = self.nearest;
        let Groups {
            bounds,
            found,
            ends,
            candidates,
            merging,
        } = groups;
        bounds.clear();
        bounds.extend(rows.iter().map(|&row| lists.bound(row)));
        found.clear();
        memory::reserve(found, near.len(), NEIGHBORS)?;
        ends.clear();
        ends.resize(rows.len(), 0);
        for (row, other, pair) in near {
            if pair.lower <= bounds[row as usize] {
                ends[row as usize] += 1;
                let candidate = Candidate {
                    index: others[other as usize],
                    lower: pair.lower,
                    upper: pair.upper,
                };
                found.push((row, candidate));
            }
        }
        // So that each list is locked once for all that is new to it.
        sort_by_row(found, ends, candidates, Candidate::default(), NEIGHBORS)?;
        let mut start = 0;
        for (&row, &end) in rows.iter().zip(ends.iter()) {
            let group = &mut candidates[start..end];
            if !group.is_empty() {
                group.sort_unstable_by(|x, y| {
                    x.upper.total_cmp(&y.upper).then(x.index.cmp(&y.index))
                });
                lists.insert(row, group, merging, ctx)?;
            }
            start = end;
        }
        Ok(())
    }
}

impl<T: Scalar> PairSink<T> for TopKSink<'_, T> {
    type Scratch = Groups;

    fn scratch(&self) -> Groups {
        Groups::default()
    }

    fn left_bound(&self, row: u32) -> f32 {
        self.nearest.lists.bound(row)
    }

    fn right_bound(&self, row: u32) -> f32 {
        if self.both_ways {
            self.nearest.lists.bound(row)
        } else {
            -1.0
        }
    }

    fn pairs(&self, left: &LeftPanel, right: &RightPanel, near: &mut Vec<Near>) -> Result<()> {
        if self.of_panel {
            // One more, since a row may be among the nearest to itself.
            let k = self.nearest.lists.k() + usize::from(self.nearest.with_itself);
            nearest_pairs(left, right, k, near)?;
        } else {
            near_pairs(left, right, near)?;
        }
        Ok(())
    }

    fn consume(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        groups: &mut Groups,
    ) -> Result<()> {
        if self.nearest.with_itself {
            near.retain(|pair| left[pair.left as usize] != right[pair.right as usize]);
        }
        if let Some(apart) = &self.nearest.apart {
            near.retain(|pair| apart.lets_in(left[pair.left as usize], right[pair.right as usize]));
        }
        if self.both_ways {
            let turned = near.iter().map(|&pair| (pair.right, pair.left, pair));
            self.insert(right, left, turned, groups)?;
        }
        let straight = near.iter().map(|&pair| (pair.left, pair.right, pair));
        self.insert(left, right, straight, groups)
    }
}
