//! What the steps of a join take: tabulated for each instruction set, so that one machine always
//! makes the same plan.
//!
//! Measured by `make bench-kernels` and, for whole joins, `make bench-planner`, on one core of a
//! Xeon with AMX and, for AVX-512 VNNI, of a Zen 4; for NEON estimated from the number of instructions.
//! What joins by lists take, and AVX-512 VNNI, is set between that and what a Zen 5 takes, which is half.
//! Constants are seconds on one thread. What counts for a choice is how much longer one step takes
//! than another, which differs less between machines than seconds do.

use lshjoin_kernels::{Isa, Level, Quantised, Scalar};

use crate::{
    base::{
        metric::Metric,
        plan::{groups_of, lists_for, lists_of_row},
    },
    ivf::{
        centroids::ROUNDS,
        coarse_quantiser::{LEARNT_FROM, ROUNDS_OVER_ALL},
        margins::ProbeStats,
        probes::PROBE_BYTES,
    },
    pairs::{code_lists::bytes_of_row, top_k_lists::warm_start_rows},
    recall::ground_truth,
    vectors::Sides,
};

/// What work costs. Work is counted in seconds on one thread: threads make hardly any difference to
/// a choice.
pub(crate) struct Costs {
    /// To compare the codes of two rows: whatever their dimension, and for each value of it.
    pair: f64,
    pair_value: f64,
    threads: f64,
}

/// What is joined with what.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) left: usize,
    pub(crate) right: usize,
    /// Whether it is a self-join.
    pub(crate) with_itself: bool,
    pub(crate) dim: usize,
    pub(crate) k: usize,
    /// Bytes of a value.
    pub(crate) width: usize,
    pub(crate) metric: Metric,
    /// The share of the pairs that codes can't tell from near ones.
    pub(crate) ambiguous: f64,
    /// Rows that are held out where a recall is asked for.
    pub(crate) held_out: usize,
}

/// To read a value and make its code.
const CODE: f64 = 1.1e-9;
/// To multiply a value of a row with one of a direction, and add it up.
const PROJECT: f64 = 6e-11;
/// To keep a row's top-k: for the row, for each neighbour, and for each neighbour as often as one
/// comes in after the warm start.
const TOP_K: f64 = 2.5e-7;
const NEIGHBOR: f64 = 5e-8;
const INSERT: f64 = 2.5e-9;
/// The share of the neighbours that come in so late when all pairs are compared.
const LATE: f64 = 0.25;
/// Pairs that are measured then, for each neighbour, before it is known which are the nearest.
const MEASURED: f64 = 3.0;
/// To fill it in the warm start: for the row,
const WARM_START: f64 = 4e-7;
/// and for each row that it is filled from, beside comparing it.
const WARM_START_ROW: f64 = 1.5e-9;
/// To find the nearest centroid of a row: for the row, and for each centroid, beside comparing it.
const NEAREST: f64 = 2e-7;
const OF_EACH: f64 = 1e-10;
/// To add up a value of the sample that centroids are learnt from.
const LEARN: f64 = 1e-10;
/// To fetch a value of a row's vector for an exact distance: of any row, and at the end of the join by
/// lists, which has them in the cache.
const FETCH: f64 = 1e-9;
const FINISH: f64 = 1.7e-10;
/// To hand on a pair of rows for its exact distance.
const MEASURE: f64 = 5e-8;
/// To compare the codes of a single pair of rows: for the pair, and for each value.
const CHECK: f64 = 2e-8;
const CHECK_VALUE: f64 = 5e-11;
/// To find principal axes in a sample: for each value of an axis and, on one thread only, for each
/// such value and axis before it.
const ITERATE: f64 = 3e-6;
const ORTHONORMALISE: f64 = 5e-9;
/// To gather a row for each list that it probes: for the row, and for each value.
const PROBE: f64 = 6e-8;
const GATHER: f64 = 6e-11;
/// How much longer work takes that is done between steps, and by threads that share a memory.
const AT_ONCE: f64 = 1.25;
/// To sort a row by its key and go through its bucket.
const SORT: f64 = 5e-8;

impl Workload {
    /// A join for the k nearest on these sides.
    pub(crate) fn of<T: Scalar>((left, right): Sides<'_, '_, T>, k: usize) -> Self {
        Self {
            left: left.unwrap_or(right).len(),
            right: right.len(),
            with_itself: left.is_none(),
            dim: right.rows.dim(),
            k: k.min(right.len()),
            width: size_of::<T>(),
            metric: right.metric,
            ambiguous: 0.0,
            held_out: ground_truth::count(left.unwrap_or(right).len(), k),
        }
    }

    /// The usual number of lists. Assigning both sides takes a time that grows with it, probing one
    /// that falls with it: fewer left rows probe less, so that fewer lists are best.
    pub(crate) fn usual_lists(&self) -> usize {
        let usual = lists_for(self.right);
        if self.with_itself {
            return usual;
        }
        let (left, right) = (self.left as f64, self.right as f64);
        let lists = usual as f64 * (2.0 * left / (left + right)).sqrt();
        (lists as usize).max(1)
    }

    pub(crate) fn pairs(&self) -> f64 {
        self.left as f64 * self.right as f64
    }

    /// Pairs that are compared when all are; in a self-join each once.
    pub(crate) fn exact_pairs(&self) -> f64 {
        let right = self.right as f64;
        if self.with_itself {
            right * (right - 1.0).max(0.0) / 2.0
        } else {
            self.pairs()
        }
    }

    /// Rows that are read and coded.
    fn rows(&self) -> f64 {
        (self.right + if self.with_itself { 0 } else { self.left }) as f64
    }

    fn values(&self) -> f64 {
        self.rows() * self.dim as f64
    }

    /// Memory of a join, at its peak, beside the rows given, where each row probes so many of these
    /// lists; of one of all pairs, where there is no list.
    pub(crate) fn bytes(&self, lists: usize, probes: f64) -> u64 {
        let (rows, exact) = (self.rows() as usize, lists == 0);
        let (values, of_codes) = (
            rows * self.dim,
            Quantised::stride(self.dim) + Quantised::KNOWN,
        );
        let codes = rows * of_codes;
        // For inner products rows are copied with one value more, and both sides have norms.
        let kept = match self.metric {
            Metric::InnerProduct => values * self.width + 8 * rows + 16 * self.left * self.k,
            Metric::Cosine => 8 * rows,
            _ => 0,
        };
        // The rows of a sample are gathered, group by group.
        let learn = (LEARNT_FROM * lists).min(self.right) * of_codes;
        let probes = (self.left as f64 * probes) as usize;
        let order = 8 * rows;
        let lists = self.left * bytes_of_row(self.k);
        // A join by lists has given its codes back when distances are measured.
        let at_end = if exact { codes } else { 0 };
        let found = self.left * self.k * (8 + self.width + 8);
        let peaks = [
            codes + learn,
            codes + probes * PROBE_BYTES,
            codes + order + lists + probes * size_of::<u32>(),
            at_end + order + lists + found,
        ];
        (kept + peaks.into_iter().max().unwrap_or(0)) as u64
    }
}

impl Costs {
    pub(crate) fn of(isa: Isa) -> Self {
        let (pair, pair_value) = match isa.level() {
            Level::Scalar => (0.0, 3.6e-10),
            Level::Avx2 => (0.0, 1.7e-11),
            Level::AvxVnni => (2.4e-10, 6.5e-12),
            Level::Avx512 => (0.0, 1.2e-11),
            Level::Avx512Vnni => (8.0e-11, 3.3e-12),
            Level::Amx => (2.6e-10, 9.0e-13),
            Level::Neon => (0.0, 4.0e-11),
            Level::NeonDot => (2.0e-10, 1.2e-11),
            Level::NeonI8mm => (2.0e-10, 6.5e-12),
            // What there is no number for is like the instruction set that has most in common.
            _ => (0.0, 1.2e-11),
        };
        Self {
            pair,
            pair_value,
            threads: rayon::current_num_threads() as f64,
        }
    }

    /// Seconds that so much work takes on the threads of this pool.
    pub(crate) fn seconds(&self, work: f64) -> f64 {
        AT_ONCE * work / self.threads
    }

    /// The work of comparing the codes of so many pairs.
    pub(crate) fn compare(&self, pairs: f64, dim: usize) -> f64 {
        pairs * (self.pair + self.pair_value * dim as f64)
    }

    /// The work of every join: codes, and the top-k of each row, of which the share `late` comes in
    /// after the warm start.
    pub(crate) fn always(&self, workload: &Workload, late: f64) -> f64 {
        let k = workload.k as f64;
        let of_row = TOP_K
            + WARM_START
            + (NEIGHBOR + INSERT * k * late) * k
            + FINISH * workload.dim as f64 * (k + 5.0);
        workload.values() * CODE + workload.left as f64 * of_row
    }

    /// The work of the warm start, in which a share of all pairs is compared.
    fn warm_start(&self, workload: &Workload, share: f64) -> f64 {
        let pairs = share * workload.pairs();
        pairs * WARM_START_ROW + self.compare(pairs, workload.dim)
    }

    /// The work of exact distances: of those pairs, among so many compared, that codes can't tell
    /// from near ones, where none may be lost.
    fn rerank(&self, workload: &Workload, pairs: f64) -> f64 {
        let ways = if workload.with_itself { 2.0 } else { 1.0 };
        ways * pairs * workload.ambiguous * FETCH * workload.dim as f64
    }

    /// The work of comparing all pairs.
    pub(crate) fn exact(&self, workload: &Workload) -> f64 {
        let keys = workload.values() * 20.0 * PROJECT;
        let warm_start =
            warm_start_rows(workload.k, workload.right, true) as f64 / workload.right.max(1) as f64;
        let compare = self.compare(workload.exact_pairs(), workload.dim);
        let rerank = self.rerank(workload, workload.exact_pairs());
        let measured = (workload.left * workload.k) as f64 * MEASURED;
        self.always(workload, LATE)
            + measured * self.measure(workload.dim)
            + keys
            + self.warm_start(workload, warm_start)
            + compare
            + rerank
    }

    /// The work of a join by so many lists, `of_row` of which a row is compared with, that probes what
    /// `stats` says and finds the share `late` of its neighbours thereby.
    pub(crate) fn lists(
        &self,
        workload: &Workload,
        (lists, of_row): (usize, usize),
        stats: ProbeStats,
        late: f64,
    ) -> f64 {
        let ProbeStats {
            lists: probes,
            share,
            warm_start,
        } = stats;
        let compare = self.warm_start(workload, warm_start)
            + self.compare(share * workload.pairs(), workload.dim);
        let gather = workload.left as f64 * probes * (PROBE + GATHER * workload.dim as f64);
        let assign = self.assign(workload.rows(), (lists, of_row), workload.dim);
        let ground_truth = self.ground_truth(workload) + self.study(workload, lists);
        self.always(workload, late) + ground_truth + assign + gather + compare
    }

    /// The work of comparing so many pairs by a few `values` of each row, made from its leading
    /// principal axes.
    pub(crate) fn axes_filter(
        &self,
        (rows, dim): (usize, usize),
        pairs: f64,
        values: usize,
    ) -> f64 {
        let find = self.axes(dim, values);
        let (rows, dim, axes) = (rows as f64, dim as f64, values as f64);
        let project = rows * dim * axes * PROJECT + rows * axes * CODE;
        find + project + self.compare(pairs, values)
    }

    /// The work of measuring the distance of a pair.
    pub(crate) fn measure(&self, dim: usize) -> f64 {
        MEASURE + FETCH * dim as f64
    }

    /// The work of comparing the codes of a pair that a filter has let through.
    pub(crate) fn check(&self, dim: usize) -> f64 {
        CHECK + CHECK_VALUE * dim as f64
    }

    /// The work of one LSH table of so many functions, which brings together a share of the pairs
    /// of `rows` rows with themselves.
    pub(crate) fn table(&self, (rows, dim): (usize, usize), functions: usize, share: f64) -> f64 {
        let rows = rows as f64;
        let keys = rows * (dim * functions) as f64 * PROJECT + rows * SORT;
        keys + self.compare(share * rows * rows / 2.0, dim)
    }

    /// The work of finding so many principal axes of a sample.
    fn axes(&self, dim: usize, axes: usize) -> f64 {
        let (dim, axes) = (dim as f64, axes as f64);
        dim * axes * (ITERATE + self.threads * ORTHONORMALISE * axes)
    }

    /// The work of joining the held-out rows exactly.
    fn ground_truth(&self, workload: &Workload) -> f64 {
        let pairs = workload.held_out as f64 * workload.right as f64;
        self.compare(pairs, workload.dim)
    }

    /// The work of learning so many lists from a sample.
    pub(crate) fn study(&self, workload: &Workload, lists: usize) -> f64 {
        let rows = (LEARNT_FROM * lists).min(workload.right) as f64;
        let groups = groups_of(lists) as f64;
        let rounds = ROUNDS as f64;
        let learn = (rounds + ROUNDS_OVER_ALL as f64) * rows * workload.dim as f64 * LEARN;
        let within = rounds * self.nearest(rows, lists as f64 / groups, workload.dim);
        let over_all = match groups > 1.0 {
            true => {
                let of_row = (lists, lists_of_row(lists));
                ROUNDS_OVER_ALL as f64 * self.assign(rows, of_row, workload.dim)
            }
            false => 0.0,
        };
        learn + within + over_all
    }

    /// The work of finding the nearest of so many lists for each row, `of_row` of which it is compared
    /// with, and those that it probes.
    fn assign(&self, rows: f64, (lists, of_row): (usize, usize), dim: usize) -> f64 {
        let groups = groups_of(lists) as f64;
        self.nearest(rows, groups + of_row as f64, dim)
    }

    /// The work of finding the nearest of so many centroids for each row.
    fn nearest(&self, rows: f64, others: f64, dim: usize) -> f64 {
        self.compare(rows * others, dim) + rows * (NEAREST + OF_EACH * others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(rows: usize, dim: usize, k: usize) -> Workload {
        Workload {
            left: rows,
            right: rows,
            with_itself: true,
            dim,
            k,
            width: 4,
            metric: Metric::Euclidean,
            ambiguous: 0.0,
            held_out: 256,
        }
    }

    #[test]
    fn more_work_takes_longer_on_every_instruction_set() {
        for &isa in Isa::available() {
            let costs = Costs::of(isa);
            let exact = |rows, dim, k| costs.exact(&workload(rows, dim, k));
            assert!(exact(1000, 32, 10) < exact(2000, 32, 10));
            assert!(exact(1000, 32, 10) < exact(1000, 64, 10));
            assert!(exact(1000, 32, 10) < exact(1000, 32, 100));
            let lists = |share| {
                let stats = ProbeStats {
                    lists: 500.0 * share,
                    share,
                    warm_start: 0.002,
                };
                costs.lists(&workload(100_000, 128, 10), (500, 500), stats, 0.2)
            };
            assert!(lists(0.1) < lists(0.2));
            // Comparing a small share of many pairs by lists is worth the trouble, comparing most
            // of them is not.
            assert!(lists(0.01) < exact(100_000, 128, 10));
            assert!(lists(0.9) > exact(100_000, 128, 10));
        }
    }

    #[test]
    fn a_side_with_itself_is_half_the_pairs() {
        let with_itself = workload(100, 8, 3);
        let two = Workload {
            with_itself: false,
            ..with_itself
        };
        assert_eq!(
            (with_itself.exact_pairs(), two.exact_pairs()),
            (4950.0, 10_000.0)
        );
        assert!(two.bytes(0, 0.0) > with_itself.bytes(0, 0.0));
    }
}
