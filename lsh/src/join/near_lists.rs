//! Radius joins in memory by lists: each left row is compared with the right rows of the lists near it,
//! where a radius is so small that these are few (see [`bisectors`](crate::ivf::bisectors)).

use lshjoin_kernels::{Quantised, Scalar, code_distances, memory};

use crate::{
    base::{context::Context, error::Result, keys::PairKeys, median::median, plan::lists_for},
    ivf::{
        bisectors::{Bisectors, Looking, MOST_BISECTED, OF_FEW},
        centroids::ROUNDS,
        coarse_quantiser::{CoarseQuantiser, LEARNT_FROM},
        list_offsets::ListOffsets,
        probes::RightLists,
    },
    join::radius_blocks::RadiusBlocks,
    pairs::{
        results::{PAIRS, Pair},
        top_k_join::EXACT_BELOW,
    },
    vectors::{Sides, Vectors},
};

/// Lists are learnt where that compares at most this share of all pairs, and used where by them it takes
/// at most this share of the time: leading axes may take less than whole rows do, too. Counted in pairs,
/// so that batches are the same on every instruction set.
const LEARNING: f64 = 0.1;
const WORTH: f64 = 0.25;

/// Lists are tried for radii up to this share of the distance of two random rows, which is a median of so
/// many pairs of each of so many rows: by larger ones nearly all lists are near.
const SMALL: f64 = 1.0 / 7.0;
const SAMPLE: usize = 48;

/// Right rows by list.
pub(crate) struct NearLists {
    quantiser: CoarseQuantiser,
    right: RightLists,
    /// The list of each right row, by internal id.
    of_rows: Vec<u32>,
}

impl NearLists {
    /// Learns lists of the right side; `None` where it is clear beforehand that a join by them, for a
    /// radius of `bound` in the measure of codes, would not take much less than one of all `pairs`.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn learn<T: Scalar>(
        (left, right): Sides<'_, '_, T>,
        bound: f32,
        pairs: u64,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        let lefts = left.unwrap_or(right);
        let count = lists_for(right.len()).min(MOST_BISECTED);
        let learnt_from = ROUNDS * LEARNT_FROM * count + right.len();
        let learning = learnt_from as f64 * count as f64;
        let few = lefts.len().min(right.len()) < EXACT_BELOW;
        // An index has lists of its own.
        let (Some(of_left), Some(of_right), false) = (&lefts.codes, &right.codes, right.is_kept())
        else {
            return Ok(None);
        };
        if few || learning > LEARNING * pairs as f64 {
            return Ok(None);
        }
        if f64::from(bound) > SMALL * random_distance((lefts, of_left), (right, of_right), ctx)? {
            return Ok(None);
        }
        ctx.begin_stage("lists");
        let quantiser = CoarseQuantiser::of_side(right, count, None, 0, ctx)?;
        let of_rows = quantiser.assign(of_right, &right.internal_ids()?, ctx)?;
        let positions = ListOffsets::new(of_rows.iter().copied(), quantiser.len());
        Ok(Some(Self {
            right: RightLists {
                order: positions.order(&of_rows)?,
                positions,
            },
            quantiser,
            of_rows,
        }))
    }

    /// Hands over the pairs nearer than `radius` that `keys` let in, of the sides that it was made for;
    /// whether that takes much less than to compare all `pairs`, or else nothing is done.
    ///
    /// # Errors
    /// When the run is cancelled, there is no memory, or what `hand_over` returns.
    pub(crate) fn join<T: Scalar>(
        &self,
        (left, right): Sides<'_, '_, T>,
        keys: PairKeys<'_>,
        (radius, bound, pairs): (f64, f32, u64),
        ctx: &Context,
        mut hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
    ) -> Result<bool> {
        let lefts = left.unwrap_or(right);
        let (Some(of_left), Some(of_right)) = (&lefts.codes, &right.codes) else {
            return Ok(false);
        };
        let bisectors = Bisectors::new(&self.quantiser, (of_right, &self.right), bound, ctx)?;
        let Some(bisectors) = bisectors else {
            return Ok(false);
        };
        // In a self-join it is enough that one of two rows looks.
        let looking = match left {
            Some(_) => Looking::Alone,
            None => Looking::Ahead,
        };
        let rows = lefts.internal_ids()?;
        let share = bisectors.share(of_left, &rows, &looking, ctx)?;
        let near = share * lefts.len() as f64 * right.len() as f64;
        let looked_at = lefts.len() as f64 * self.quantiser.len() as f64;
        if looked_at + OF_FEW * near >= WORTH * pairs as f64 {
            return Ok(false);
        }
        ctx.begin_stage("radius");
        let join = RadiusBlocks::new(lefts, (right, &self.right.order), radius, ctx).keys(keys);
        if left.is_some() {
            join.by_lists(&rows, &bisectors, &looking, hand_over)?;
            return Ok(true);
        }
        let list = |row: u32| self.of_rows[row as usize];
        join.by_lists(&rows, &bisectors, &looking, |mut found| {
            found.retain(|pair| pair.0 != pair.1);
            // Rows of one list have both looked, of others one alone.
            for pair in 0..found.len() {
                let (row, other, distance) = found[pair];
                if list(row) != list(other) {
                    memory::push(&mut found, (other, row, distance), PAIRS)?;
                }
            }
            found.sort_unstable_by_key(|&(row, other, _)| (row, other));
            hand_over(found)
        })?;
        Ok(true)
    }
}

/// How far random rows are, in the measure of codes.
fn random_distance<T: Scalar>(
    (left, of_left): (&Vectors<'_, T>, &Quantised<'_>),
    (right, of_right): (&Vectors<'_, T>, &Quantised<'_>),
    ctx: &Context,
) -> Result<f64> {
    let others = right.sample(SAMPLE);
    let others: Vec<u32> = others.iter().map(|&row| right.internal_id(row)).collect();
    let (mut all, mut of_row) = (Vec::new(), Vec::new());
    for row in left.sample(SAMPLE) {
        let row = (of_left, left.internal_id(row));
        code_distances(
            row,
            &of_right.without_errors(),
            &others,
            &mut of_row,
            ctx.isa(),
        )?;
        all.extend(of_row.iter().copied().map(f64::from));
    }
    Ok(median(&all).unwrap_or(0.0))
}
