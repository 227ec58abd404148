//! Query-directed probing: the buckets nearest to a query beside its own.
//!
//! Multi-Probe LSH (Lv, Josephson, Wang, Charikar and Li 2007): a neighbour that is not in the
//! query's bucket is most likely just across the boundaries that the query is nearest to. Other
//! buckets come in rising order of the sum of squared distances to the boundaries crossed.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Finds the buckets to probe for one query after another, in the same memory.
///
/// ```
/// use lshjoin::Prober;
///
/// // Three sign bits; the query is 0.1 from turning bit 1, 0.5 from bit 0 and 2 from bit 2.
/// let mut prober = Prober::default();
/// assert_eq!(prober.flips(&[0.5, -0.1, 2.0], 3), [0b010, 0b001, 0b011]);
/// ```
#[derive(Debug, Default)]
pub struct Prober {
    /// By rising cost, then function.
    crossings: Vec<Crossing>,
    heap: BinaryHeap<Reverse<Candidate>>,
    flips: Vec<u64>,
}

/// A function's step across the boundary of its bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Crossing {
    function: usize,
    /// The squared distance to the boundary.
    cost: f64,
}

/// A set of crossings, bit i standing for the i-th cheapest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Bits of a number that is not negative: they sort as it does.
    cost: u64,
    crossings: u64,
    /// The cost of all but the dearest crossing.
    rest: u64,
}

/// Crossings that sets are made of, at most. The n cheapest sets need no more than the n cheapest.
const MOST_CROSSINGS: usize = u64::BITS as usize;

impl Prober {
    /// The `count` nearest other buckets, or all where there are fewer, as the bits of the key that
    /// change: bit j for function j. By rising cost (added from the cheapest crossing on), then by
    /// the dearest crossing that only one of two has.
    ///
    /// `margins` holds the distance of the query to each function's boundary, of either sign; an
    /// infinite one is not crossed, nor is any after the 64th.
    pub fn flips(&mut self, margins: &[f32], count: usize) -> &[u64] {
        self.crossings.clear();
        let crossings = (0..MOST_CROSSINGS).zip(margins);
        let crossings = crossings.map(|(function, &margin)| Crossing {
            function,
            // Exact, and without overflow.
            cost: f64::from(margin) * f64::from(margin),
        });
        self.crossings
            .extend(crossings.filter(|crossing| crossing.cost.is_finite()));
        self.crossings.sort_unstable_by(|x, y| {
            let by_cost = x.cost.total_cmp(&y.cost);
            by_cost.then(x.function.cmp(&y.function))
        });
        self.crossings.truncate(count.min(MOST_CROSSINGS));

        self.flips.clear();
        self.heap.clear();
        if count > 0 {
            self.push(0, 0.0, 0);
        }
        // Every set has one parent, which costs no more and comes before it: the set with its
        // dearest crossing replaced by the one before ("shift") or, where it holds that one too,
        // without its dearest ("expand"). So the heap gives each set once, and in order.
        while let Some(Reverse(set)) = self.heap.pop() {
            self.flips.push(self.key_of(set.crossings));
            if self.flips.len() == count {
                break;
            }
            let dearest = set.crossings.ilog2() as usize;
            let others = set.crossings ^ 1 << dearest;
            self.push(others, f64::from_bits(set.rest), dearest + 1);
            self.push(set.crossings, f64::from_bits(set.cost), dearest + 1);
        }
        &self.flips
    }

    /// The bits of a key that a set of crossings changes.
    fn key_of(&self, crossings: u64) -> u64 {
        let all = self.crossings.iter().enumerate();
        let crossed = all.filter(|(index, _)| crossings >> index & 1 == 1);
        crossed.fold(0, |flips, (_, crossing)| flips | 1 << crossing.function)
    }

    /// Adds the set of `others`, which cost `rest`, and the crossing at `dearest`, if there is one.
    fn push(&mut self, others: u64, rest: f64, dearest: usize) {
        if let Some(crossing) = self.crossings.get(dearest) {
            self.heap.push(Reverse(Candidate {
                cost: (rest + crossing.cost).to_bits(),
                crossings: others | 1 << dearest,
                rest: rest.to_bits(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All other buckets, by cost and then by the dearest crossing that only one of two has.
    fn exhaustive(margins: &[f32]) -> Vec<u64> {
        let mut crossings: Vec<(f64, usize)> = margins
            .iter()
            .enumerate()
            .map(|(function, &margin)| (f64::from(margin).powi(2), function))
            .filter(|crossing| crossing.0.is_finite())
            .collect();
        crossings.sort_by(|x, y| x.partial_cmp(y).unwrap());
        let sets = 1..1_u64 << crossings.len();
        let mut ranked: Vec<(f64, u64)> = sets
            .map(|set| {
                let costs = crossings.iter().enumerate();
                let costs = costs.filter(|(index, _)| set >> index & 1 == 1);
                (costs.map(|(_, crossing)| crossing.0).sum(), set)
            })
            .collect();
        ranked.sort_by(|x, y| x.partial_cmp(y).unwrap());
        let key = |(_, set): (f64, u64)| {
            let all = crossings.iter().enumerate();
            let crossed = all.filter(|(index, _)| set >> index & 1 == 1);
            crossed.map(|(_, crossing)| 1 << crossing.1).sum()
        };
        ranked.into_iter().map(key).collect()
    }

    /// Many ties, zeros and boundaries that cannot be crossed; and arbitrary positions.
    fn margin() -> impl Strategy<Value = f32> {
        prop_oneof![
            (-3..4_i8).prop_map(f32::from),
            Just(f32::INFINITY),
            -1.0..1.0_f32,
            Just(f32::MAX),
        ]
    }

    proptest! {
        #[test]
        fn flips_lead_to_the_nearest_buckets(
            tables in prop::collection::vec(
                (prop::collection::vec(margin(), 0..9), 0..300_usize), 1..4)
        ) {
            // The same prober for all: nothing is left from one query to the next.
            let mut prober = Prober::default();
            for (margins, count) in tables {
                let mut expected = exhaustive(&margins);
                expected.truncate(count);
                prop_assert_eq!(prober.flips(&margins, count), expected);
            }
        }
    }

    #[test]
    fn of_many_functions_the_nearest_boundaries_are_crossed() {
        let margins: Vec<f32> = (0..100).map(|at| (100 - at) as f32).collect();
        let mut prober = Prober::default();
        // Only 64 have a bit; the last of them is at 37, and 37² + 38² is above 52².
        let flips = prober.flips(&margins, 16);
        let expected: Vec<u64> = (0..16).map(|at| 1 << (63 - at)).collect();
        assert_eq!(flips, expected);
    }

    #[test]
    fn functions_at_the_same_distance_are_crossed_in_order() {
        let margins: Vec<f32> = (0..60).map(|at| (3 + at * 7 % 3) as f32).collect();
        let at = |margin| (0..60).filter(move |&at| 3 + at * 7 % 3 == margin);
        let expected: Vec<u64> = at(3).chain(at(4)).map(|at| 1 << at).collect();
        assert_eq!(Prober::default().flips(&margins, 40), expected);
    }
}
