//! Queries, or the items themselves, joined with the items of an index within a radius.

use std::ops::Range;

use lshjoin_kernels::{Rows, memory};

use crate::{
    base::{
        ROW_NUMBERS, check::not_negative, context::Context, error::Result, input::Input,
        keys::PairKeys,
    },
    index::{Index, lists::SegmentLists},
    ivf::{
        bisectors::{Bisectors, Looking, OF_FEW},
        probes::RightLists,
    },
    join::{
        radius::{radius_join, stream_sides},
        radius_blocks::RadiusBlocks,
    },
    pairs::{
        apart::Apart,
        results::{PAIRS, Pair, RadiusNeighbors},
        top_k_join::EXACT_BELOW,
    },
    vectors::{Vectors, interval::filter_interval},
};

/// Up to this share of the time of all pairs, those of lists near each other are compared alone.
const MOST_NEAR: f64 = 0.9;

impl Index {
    /// Every item nearer than `radius` (strictly) to each query, ids in place of rows.
    ///
    /// # Errors
    /// When the metric is the inner product, dimensions differ, a query holds NaN or infinity, the
    /// radius is negative or NaN, the index is damaged, or the run is cancelled.
    pub fn radius(
        &self,
        queries: Rows<'_, f32>,
        radius: f64,
        ctx: &Context,
    ) -> Result<RadiusNeighbors<f32>> {
        self.check_dimension(queries)?;
        let distance = self.distance()?;
        let right = self.items(usize::MAX, ctx)?;
        let left = self.asked(right.prepare_other("queries", queries, ctx)?)?;
        let mut pairs = self.within(&left, &right, radius, None, ctx)?;
        if self.changes.added.len() > 0 {
            let (ids, values) = self.changes.added.rows()?;
            let added = Rows::new(&values, self.segment.dim)?;
            let added = radius_join(
                Input::new(Some(queries), added),
                None,
                radius,
                distance,
                ctx,
            )?;
            add_pairs(&mut pairs, &added, &ids)?;
        }
        RadiusNeighbors::sorted(pairs, queries.len())
    }

    /// The ids of some of the items, by list, and every other item nearer than `radius` to each:
    /// see [`Index::knn_of_chunk`].
    ///
    /// # Errors
    /// When the chunk is not one, something was added or removed, or as [`Index::radius`].
    pub fn radius_of_chunk(
        &self,
        chunk: Range<usize>,
        radius: f64,
        ctx: &Context,
    ) -> Result<(Vec<i64>, RadiusNeighbors<f32>)> {
        self.distance()?;
        let (left, right) = self.chunk(&chunk, usize::MAX, ctx)?;
        let pairs = self.within(&left, &right, radius, Some(&chunk), ctx)?;
        let ids = &self.segment.ids(ctx)?[chunk];
        let ids = memory::copied(ids, ROW_NUMBERS)?;
        let found = RadiusNeighbors::sorted(pairs, ids.len())?;
        Ok((ids, found))
    }

    /// The pairs nearer than `radius`, with the ids of the right rows. Left rows are a chunk of the
    /// right ones, where it is given: none is a pair with itself, and some pairs come twice.
    fn within(
        &self,
        left: &Vectors<'_, f32>,
        right: &Vectors<'_, f32>,
        radius: f64,
        chunk: Option<&Range<usize>>,
        ctx: &Context,
    ) -> Result<Vec<(u32, i64, f32)>> {
        not_negative("radius", radius)?;
        let ids = self.segment.ids(ctx)?;
        let apart = Apart::of(Some(left), right)?;
        let mut pairs = Vec::new();
        let mut add = |(left, other, distance): Pair<f32>| {
            let is_itself =
                chunk.is_some_and(|chunk| chunk.start + left as usize == other as usize);
            let apart = apart.as_ref();
            if !is_itself && apart.is_none_or(|apart| apart.lets_in(left, other)) {
                memory::push(&mut pairs, (left, ids[other as usize], distance), PAIRS)?;
            }
            Ok(())
        };
        let few = left.len().min(right.rows.len()) < EXACT_BELOW;
        let lists = self.segment.lists(ctx)?.filter(|_| !few);
        let is_done = match &lists {
            Some(lists) => by_lists(left, right, lists, (radius, chunk), ctx, &mut add)?,
            None => false,
        };
        if !is_done {
            let hand_over = |found: Vec<Pair<f32>>| found.into_iter().try_for_each(&mut add);
            stream_sides(
                Some(left),
                right,
                PairKeys::default(),
                radius,
                ctx,
                hand_over,
            )?;
        }
        ctx.check()?;
        Ok(pairs)
    }
}

/// Adds what was found, by query, with these ids in place of rows.
pub(crate) fn add_pairs(
    pairs: &mut Vec<(u32, i64, f32)>,
    found: &RadiusNeighbors<f32>,
    ids: &[i64],
) -> Result<()> {
    for (query, ends) in (0..).zip(found.lims.windows(2)) {
        let of_query = ends[0] as usize..ends[1] as usize;
        let near = found.indices[of_query.clone()]
            .iter()
            .zip(&found.distances[of_query]);
        let near = near.map(|(&row, &distance)| (query, ids[row as usize], distance));
        memory::extend(pairs, near, PAIRS)?;
    }
    Ok(())
}

/// Compares left rows with those of lists near them, and adds the pairs nearer than `radius`; whether
/// that is quicker than to compare all, or else nothing is done.
fn by_lists(
    left: &Vectors<'_, f32>,
    right: &Vectors<'_, f32>,
    lists: &SegmentLists,
    (radius, chunk): (f64, Option<&Range<usize>>),
    ctx: &Context,
    mut add: impl FnMut(Pair<f32>) -> Result<()> + Send,
) -> Result<bool> {
    let (Some(of_left), Some(of_right)) = (&left.codes, &right.codes) else {
        return Ok(false);
    };
    ctx.begin_stage("lists");
    let starts = &lists.starts;
    let (_, bound) = filter_interval::<f32>(left.metric, radius, left.rows.dim());
    let by_list = RightLists::of_items(right, starts, |_| true)?;
    let bisectors = Bisectors::new(&lists.quantiser, (of_right, &by_list), bound, ctx)?;
    let (rows, none) = (left.internal_ids()?, 0..0);
    let of_chunk = chunk.unwrap_or(&none);
    let looking = chunk.map_or(Looking::Alone, |chunk| Looking::InChunk(chunk.clone()));
    let Some(bisectors) = bisectors else {
        return Ok(false);
    };
    if OF_FEW * bisectors.share(of_left, &rows, &looking, ctx)? > MOST_NEAR {
        return Ok(false);
    }
    ctx.begin_stage("radius");
    let hand_over = |found: Vec<Pair<f32>>| {
        found.into_iter().try_for_each(|(row, other, distance)| {
            add((row, other, distance))?;
            // Rows of one list all probe it. Of others it may be this one alone that has probed.
            let own = of_chunk.start as u32 + row;
            if of_chunk.contains(&(other as usize)) && starts.list_of(own) != starts.list_of(other)
            {
                add((other - of_chunk.start as u32, own, distance))?;
            }
            Ok(())
        })
    };
    let join = RadiusBlocks::new(left, (right, &by_list.order), radius, ctx);
    join.by_lists(&rows, &bisectors, &looking, hand_over)?;
    Ok(true)
}
