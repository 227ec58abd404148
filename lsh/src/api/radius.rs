//! All pairs within a radius.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{context::Context, error::Result, input::Input, keys::Keys, metric::Distance},
    join::radius::{radius_join, radius_join_batches},
    pairs::results::{JoinedPairs, RadiusNeighbors},
};

/// A join for every item nearer than a radius (strictly) to each query; without queries, of `items`
/// with themselves, a row then not being its own neighbour. By Euclidean distance, unless another
/// is given.
///
/// Exact: all pairs are compared, as tiles, or what cannot be left out: where a radius is far below
/// the distance of two random rows, the rows of inverted lists near each other (J. Uhlmann, "Satisfying
/// general proximity/similarity queries with metric trees", 1991); where that rules out most pairs, what
/// is near along the leading principal axes.
///
/// ```
/// use lshjoin::{RadiusJoin, Rows, Context};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let near = RadiusJoin::new(items, 2.0).run(&Context::new()?)?;
/// assert_eq!((near.lims, near.indices), (vec![0, 1, 2, 2], vec![1, 0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is joined before `run`"]
pub struct RadiusJoin<'a, T> {
    items: Rows<'a, T>,
    queries: Option<Rows<'a, T>>,
    radius: f64,
    distance: Distance,
    within: Option<Keys<'a>>,
    apart: Option<Keys<'a>>,
}

impl<'a, T: Scalar> RadiusJoin<'a, T> {
    /// A join of these items with themselves; the radius is in the distance's own unit.
    pub fn new(items: Rows<'a, T>, radius: f64) -> Self {
        Self {
            items,
            queries: None,
            radius,
            distance: Distance::Euclidean,
            within: None,
            apart: None,
        }
    }

    /// Joins these queries, of the same dimension, with the items; `None` for the items themselves.
    pub fn queries(self, queries: impl Into<Option<Rows<'a, T>>>) -> Self {
        let queries = queries.into();
        Self { queries, ..self }
    }

    /// What "near" means.
    pub fn distance(self, distance: Distance) -> Self {
        Self { distance, ..self }
    }

    /// Only rows of equal keys are each other's neighbours; `None` for all. A row of no key has none.
    ///
    /// ```
    /// use lshjoin::{Context, Keys, NO_KEY, RadiusJoin, Rows};
    ///
    /// let items = Rows::new(&[0.0_f32, 1.0, 1.5, 2.0], 1)?;
    /// let countries = Keys::new(&[7, 7, 8, NO_KEY]);
    /// let near = RadiusJoin::new(items, 2.0).within(countries).run(&Context::new()?)?;
    /// assert_eq!((near.lims, near.indices), (vec![0, 1, 2, 2, 2], vec![1, 0]));
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    pub fn within(self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        let within = keys.into();
        Self { within, ..self }
    }

    /// Rows of equal keys are not each other's neighbours; `None` for none. A row of no key is kept
    /// apart from no other.
    pub fn apart(self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        let apart = keys.into();
        Self { apart, ..self }
    }

    /// Joins.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, there are not as many keys as rows, the
    /// radius is negative or NaN, or the run is cancelled.
    pub fn run(&self, ctx: &Context) -> Result<RadiusNeighbors<T>> {
        radius_join(self.input(), self.within, self.radius, self.distance, ctx)
    }

    fn input(&self) -> Input<'a, T> {
        Input {
            queries: self.queries,
            items: self.items,
            apart: self.apart,
        }
    }

    /// The pairs of [`RadiusJoin::run`] in batches of `batch_size`, the last one smaller: for
    /// results that need not fit in memory.
    ///
    /// The same arguments give the same batches on any number of threads and every instruction set,
    /// but not sorted: blocks of pairs come as they are found, each by left row, then by right row.
    /// `deliver` is called on threads of the pool, one batch at a time; while it takes its time,
    /// the join waits. It may end the join by [`Context::cancel`], and is then not called again.
    ///
    /// Beside the rows and their codes, memory holds a batch and, for each thread, what two panels
    /// of some thousand rows bring.
    ///
    /// ```
    /// use lshjoin::{RadiusJoin, Rows, Context};
    ///
    /// let items = Rows::new(&[0.0_f32, 1.0, 5.0, 1.5], 1)?;
    /// let mut lengths = Vec::new();
    /// RadiusJoin::new(items, 2.0).run_batches(4, &Context::new()?, |pairs| {
    ///     lengths.push(pairs.left.len());
    /// })?;
    /// assert_eq!(lengths, [4, 2]);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`RadiusJoin::run`], and when `batch_size` is 0.
    pub fn run_batches(
        &self,
        batch_size: usize,
        ctx: &Context,
        deliver: impl FnMut(JoinedPairs<T>) + Send,
    ) -> Result<()> {
        let Self {
            within,
            radius,
            distance,
            ..
        } = *self;
        let input = self.input();
        radius_join_batches(input, within, radius, distance, batch_size, ctx, deliver)
    }
}
