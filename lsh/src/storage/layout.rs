//! The arrays that an index is made of, and their shapes.

use lshjoin_kernels::{Quantised, Rows};
use safetensors::tensor::Dtype;

use crate::{
    base::{
        error::{Error, Result},
        metric::Metric,
        plan::{JoinPlan, PartitionPlan, groups_of},
    },
    storage::format::Shape,
};

/// The arrays of an index, each of which is a file.
///
/// - `groups` (groups, dim), `centroids` (lists, dim) and `group_starts` (groups + 1), the first list
///   of each group: the coarse quantiser; of no rows where the metric has no codes.
/// - `centre` (1, dim): what codes are counted from; of no rows where that is zero.
/// - `starts` (lists + 1): the first row of each list, and the end of the last.
/// - `held_out`: rows that probes are chosen by.
/// - `rows` (rows, dim), by list; with one value more where inner products are searched.
/// - `codes` (rows, stride) and `known` (rows, 16): see [`Quantised::parts`].
/// - `norms`: for the cosine and, of rows as they are stored, for inner products.
/// - `ids`: the user's; `by_id`: rows by rising id.
/// - `duplicate_ranks`: for each row how many equal ones have lower ids.
pub(crate) const ARRAYS: [&str; 13] = [
    "by_id",
    "centre",
    "centroids",
    "codes",
    "duplicate_ranks",
    "group_starts",
    "groups",
    "held_out",
    "ids",
    "known",
    "norms",
    "rows",
    "starts",
];

/// The arrays that are there only while an index is built.
///
/// - `lists`: the list of each item, in the order in which items come; only where the build can be
///   resumed.
/// - `hashes`: of rows, equal for equal ones.
pub(crate) const CHECKPOINT_ARRAYS: [&str; 2] = ["lists", "hashes"];

/// Parts, at most, of the spill that items lie in until it is known where their lists start: more are
/// more files that are written by turns and synced at each checkpoint, fewer leave larger ones beside
/// the index that is made of them.
pub(crate) const SPILL_PARTS: usize = 16;

/// The shape of each array of an index.
pub(crate) struct Shapes {
    pub(crate) rows: usize,
    /// Values of a stored row: one more than those of an item, where inner products are searched.
    pub(crate) width: usize,
    pub(crate) metric: Metric,
    pub(crate) groups: usize,
    /// One, or none where codes are counted from zero.
    pub(crate) centres: usize,
    pub(crate) lists: usize,
    pub(crate) ground_truth: usize,
}

impl Shapes {
    /// Whether a build by this plan can have such groups, centre, lists and held-out rows.
    pub(crate) fn is_possible(&self, plan: &PartitionPlan) -> bool {
        let of = |count: usize, most: usize| match has_codes(self.metric) && self.rows > 0 {
            true => (1..=most).contains(&count),
            false => count == 0,
        };
        // Each group has a list at least, however few rows it has.
        let groups = groups_of(plan.lists);
        of(self.groups, groups)
            && self.centres <= usize::from(has_codes(self.metric))
            && of(self.lists, (plan.lists + groups).min(self.rows))
            && self.ground_truth == held_out_count(self.rows)
    }

    pub(crate) fn of(&self, name: &str) -> Shape {
        let coded = if has_codes(self.metric) { self.rows } else { 0 };
        match name {
            "by_id" | "duplicate_ranks" | "lists" => Shape::new(Dtype::U32, &[self.rows]),
            "centre" => Shape::new(Dtype::F32, &[self.centres, self.width]),
            "centroids" => Shape::new(Dtype::F32, &[self.lists, self.width]),
            "codes" => Shape::new(Dtype::I8, &[coded, Quantised::stride(self.width)]),
            "group_starts" => Shape::new(Dtype::U64, &[self.groups + 1]),
            "groups" => Shape::new(Dtype::F32, &[self.groups, self.width]),
            "hashes" => Shape::new(Dtype::U64, &[self.rows]),
            "held_out" => Shape::new(Dtype::U32, &[self.ground_truth]),
            "ids" => Shape::new(Dtype::I64, &[self.rows]),
            "known" => Shape::new(Dtype::U8, &[coded, Quantised::KNOWN]),
            "rows" => Shape::new(Dtype::F32, &[self.rows, self.width]),
            "norms" if has_norms(self.metric) => Shape::new(Dtype::F64, &[self.rows]),
            "norms" => Shape::new(Dtype::F64, &[0]),
            _ => Shape::new(Dtype::U64, &[self.lists + 1]),
        }
    }
}

/// Whether the metric has a filter on codes. Without one, lists are of no use.
pub(crate) fn has_codes(metric: Metric) -> bool {
    metric != Metric::Manhattan
}

/// Whether distances by the metric need norms.
pub(crate) fn has_norms(metric: Metric) -> bool {
    matches!(metric, Metric::Cosine | Metric::InnerProduct)
}

/// Values of a stored row: one more than those of an item, where inner products are searched.
pub(crate) fn width(metric: Metric, dim: usize) -> usize {
    dim + usize::from(metric == Metric::InnerProduct)
}

/// Items that are held out, at most, to choose by their neighbours how far to probe. None are held
/// out to check the choice.
pub(crate) const MOST_HELD_OUT: usize = 1024;

/// The step between held-out items.
pub(crate) fn held_out_step(items: usize) -> usize {
    items.div_ceil(MOST_HELD_OUT).max(1)
}

/// How many of so many items are held out.
pub(crate) fn held_out_count(items: usize) -> usize {
    items.div_ceil(held_out_step(items))
}

/// Checks that there can be an index of so many items and values, and of such lists.
///
/// # Errors
/// When a number is out of range.
pub(crate) fn check_numbers(items: usize, dim: usize, plan: PartitionPlan) -> Result<()> {
    check_items(items, dim)?;
    JoinPlan::Partitions(plan).check()
}

/// The same of an index without lists.
///
/// # Errors
/// When a number is out of range.
pub(crate) fn check_items(items: usize, dim: usize) -> Result<()> {
    Rows::<f32>::new(&[], dim)?;
    for (name, number) in [("the number of items", items), ("the dimension", dim)] {
        if number >= u32::MAX as usize {
            return Err(Error::parameter(name, "below 2**32 - 1", number));
        }
    }
    Ok(())
}

/// Whether these are where lists start, the first at 0, and the end of the last.
pub(crate) fn are_starts(starts: &[u64], end: usize) -> bool {
    (starts.first(), starts.last()) == (Some(&0), Some(&(end as u64))) && starts.is_sorted()
}
