//! The warm start: before rows probe lists, their top-k is filled from their own list and the
//! nearest ones. From then on most pairs fail the filter on codes.

use lshjoin_kernels::Scalar;

use crate::{
    base::{context::Context, error::Result},
    ivf::{coarse_quantiser::CoarseQuantiser, list_offsets::ListOffsets},
    vectors::Vectors,
};

/// Sampled rows for each list, which tell how many rows lists have.
const ROWS_OF_LIST: usize = 8;

/// For each list, the lists whose right rows fill the top-k of its left rows. Chosen by a sample,
/// before it is known which rows lists have: when rows are assigned to lists, it is known which
/// ones they need not probe.
pub(crate) struct WarmStart {
    /// The share of the right rows that each list has, by a sample.
    shares: Vec<f64>,
    of_lists: Vec<OfList>,
    /// The lists that the left rows of each need not probe, rising.
    covered: Vec<Vec<u32>>,
}

/// The warm start of one list.
struct OfList {
    /// Itself, then the nearest.
    from: Vec<u32>,
    /// Where these lists are large, their rows are cut into so many parts, each for one part of the
    /// left rows.
    parts: usize,
}

impl OfList {
    /// Whether all rows of `other` are in it, for all left rows.
    fn is_from(&self, other: u32) -> bool {
        self.parts == 1 && self.from.contains(&other)
    }
}

impl WarmStart {
    /// With about so many right rows for each left one; `with_itself` in a self-join.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new<T: Scalar>(
        quantiser: &CoarseQuantiser,
        right: &Vectors<'_, T>,
        with_itself: bool,
        rows: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let sample = right.sample(ROWS_OF_LIST * quantiser.len());
        let sample: Vec<u32> = sample.iter().map(|&row| right.internal_id(row)).collect();
        let sample = match &right.codes {
            Some(codes) => quantiser.assign(codes, &sample, ctx)?,
            None => Vec::new(),
        };
        let starts = ListOffsets::of_sample(sample.into_iter(), quantiser.len());
        let all: Vec<u32> = (0..quantiser.len() as u32).collect();
        let share = |&list: &u32| starts.of(list).len() as f64 / starts.rows() as f64;
        let shares: Vec<f64> = all.iter().map(share).collect();

        let wanted = rows as f64 / right.len() as f64;
        let fill = |list: u32| {
            let mut share = shares[list as usize];
            let mut from = vec![list];
            for &other in quantiser.near(list).iter().skip(1) {
                let more = shares[other as usize];
                if share + more / 2.0 > wanted {
                    break;
                }
                share += more;
                from.push(other);
            }
            OfList {
                from,
                parts: (share / (2.0 * wanted)).ceil() as usize,
            }
        };
        let of_lists: Vec<OfList> = (0..quantiser.len() as u32).map(fill).collect();
        let covered = |(list, of_list): (u32, &OfList)| {
            let from = of_list.from.iter().copied();
            // In a self-join a probe would serve both rows, so both have to do without it.
            let covered = from.filter(|&other| {
                of_list.is_from(other) && (!with_itself || of_lists[other as usize].is_from(list))
            });
            let mut covered: Vec<u32> = covered.collect();
            covered.sort_unstable();
            covered
        };
        Ok(Self {
            shares,
            covered: (0..).zip(&of_lists).map(covered).collect(),
            of_lists,
        })
    }

    /// The share of the right rows that a list has.
    pub(crate) fn share(&self, list: u32) -> f64 {
        self.shares[list as usize]
    }

    /// The share of the right rows that a row of `list` is compared with in the warm start.
    pub(crate) fn of(&self, list: u32) -> f64 {
        let shares = self.from(list).iter().map(|&list| self.share(list));
        shares.sum::<f64>() / self.parts(list) as f64
    }

    /// The lists of the warm start of `list`, itself first.
    pub(crate) fn from(&self, list: u32) -> &[u32] {
        &self.of_lists[list as usize].from
    }

    /// Into how many parts the rows of these lists are cut, each for one part of the left rows.
    pub(crate) fn parts(&self, list: u32) -> usize {
        self.of_lists[list as usize].parts
    }

    /// Whether all left rows of `list` are compared with all right rows of `other` in the warm
    /// start.
    pub(crate) fn is_from(&self, list: u32, other: u32) -> bool {
        self.of_lists[list as usize].is_from(other)
    }

    /// Whether left rows of `list` need not probe `other`.
    pub(crate) fn covers(&self, list: u32, other: u32) -> bool {
        self.covered[list as usize].binary_search(&other).is_ok()
    }
}
