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
///
/// // One function with a row of buckets: 0.2 above the lower boundary, 0.8 below the upper.
/// let steps: Vec<Vec<i32>> = prober
///     .steps(&[[0.2, 0.8]], 9)
///     .map(|bucket| bucket.map(|crossing| crossing.step).collect())
///     .collect();
/// assert_eq!(steps, [[-1], [1]]);
/// ```
#[derive(Debug, Default)]
pub struct Prober {
    /// By rising cost, then function, then the step down before the step up.
    crossings: Vec<Crossing>,
    heap: BinaryHeap<Reverse<Candidate>>,
    found: Vec<u64>,
    flips: Vec<u64>,
}

/// A function's step across one of the boundaries of its bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// Split function.
    pub function: usize,
    /// −1 or 1, to be added to the function's bucket id.
    pub step: i32,
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

/// Crossings that sets are made of. The n cheapest sets need no more than the n cheapest.
const MOST_CROSSINGS: usize = u64::BITS as usize;

impl Prober {
    /// Of functions with two buckets each, such as sign bits, the `count` nearest other buckets,
    /// or all where there are fewer: the bits of the key that change, bit j for function j.
    ///
    /// `margins` holds the distance of the query to each function's boundary, of either sign; an
    /// infinite one is not crossed, nor is any after the 64th. Buckets at the same distance come
    /// in a fixed order.
    pub fn flips(&mut self, margins: &[f32], count: usize) -> &[u64] {
        let functions = 0..MOST_CROSSINGS;
        let crossings = functions
            .zip(margins)
            .map(|(function, &margin)| Crossing::new(function, 1, margin));
        self.find(crossings, count);
        let flips =
            |&set: &u64| members(set).fold(0, |flips, at| flips | 1 << self.crossings[at].function);
        self.flips.clear();
        self.flips.extend(self.found.iter().map(flips));
        &self.flips
    }

    /// Of functions with a row of buckets each, the `count` nearest other buckets, each as steps
    /// of −1 and 1 of some of the functions; fewer where there are not as many, and beyond the
    /// 64th perhaps not the nearest.
    ///
    /// `margins` holds the distances of the query to the lower and the upper boundary of its
    /// bucket, for each function; an infinite one is not crossed.
    pub fn steps(
        &mut self,
        margins: &[[f32; 2]],
        count: usize,
    ) -> impl ExactSizeIterator<Item = impl Iterator<Item = Crossing>> {
        let crossings = margins.iter().enumerate().flat_map(|(function, margins)| {
            [-1, 1]
                .into_iter()
                .zip(margins)
                .map(move |(step, &margin)| Crossing::new(function, step, margin))
        });
        self.find(crossings, count);
        let crossings = &self.crossings;
        self.found
            .iter()
            .map(move |&set| members(set).map(move |at| crossings[at]))
    }

    /// Fills `found` with the `count` cheapest sets in which no function steps both ways, by cost
    /// (added from the cheapest crossing on), then by their bits as a number.
    ///
    /// Every set has one parent, which is no dearer and lower: the set with its dearest crossing
    /// replaced by the one before ("shift") or, where it holds that one too, without its dearest
    /// ("expand"). So the heap gives each set once, and in order.
    fn find(&mut self, crossings: impl Iterator<Item = Crossing>, count: usize) {
        self.crossings.clear();
        self.crossings
            .extend(crossings.filter(|crossing| crossing.cost.is_finite()));
        self.crossings.sort_unstable_by(|x, y| {
            let by_cost = x.cost.total_cmp(&y.cost);
            by_cost.then((x.function, x.step).cmp(&(y.function, y.step)))
        });
        self.crossings.truncate(count.min(MOST_CROSSINGS));

        self.found.clear();
        self.heap.clear();
        if count > 0 {
            self.push(0, 0.0, 0);
        }
        while let Some(Reverse(set)) = self.heap.pop() {
            let dearest = set.crossings.ilog2() as usize;
            let rest = f64::from_bits(set.rest);
            let others = set.crossings ^ 1 << dearest;
            let function = self.crossings[dearest].function;
            let both_ways = members(others).any(|at| self.crossings[at].function == function);
            self.push(others, rest, dearest + 1);
            // A set in which a function steps both ways may be shifted out of that, not expanded.
            if !both_ways {
                self.found.push(set.crossings);
                if self.found.len() == count {
                    break;
                }
                self.push(set.crossings, f64::from_bits(set.cost), dearest + 1);
            }
        }
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

impl Crossing {
    fn new(function: usize, step: i32, margin: f32) -> Self {
        Self {
            function,
            step,
            // Exact, and without overflow.
            cost: f64::from(margin) * f64::from(margin),
        }
    }
}

/// The places of the bits of a set, rising.
fn members(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (at < u64::BITS).then_some(at as usize)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All other buckets as (cost, steps of all functions), by cost and then as `Prober` orders
    /// them: by the dearest crossing that only one of two has.
    fn exhaustive(margins: &[[f32; 2]]) -> Vec<(f64, Vec<i32>)> {
        let mut crossings: Vec<(f64, usize, i32)> = Vec::new();
        for (function, &[below, above]) in margins.iter().enumerate() {
            crossings.push((f64::from(below).powi(2), function, -1));
            crossings.push((f64::from(above).powi(2), function, 1));
        }
        crossings.sort_by(|x, y| x.partial_cmp(y).unwrap());
        let functions = margins.len() as u32;
        let buckets = (0..3_usize.pow(functions)).map(|number| {
            let step = |function| (number / 3_usize.pow(function) % 3) as i32 - 1;
            (0..functions).map(step).collect::<Vec<_>>()
        });
        let mut ranked: Vec<_> = buckets
            .filter(|steps| steps.iter().any(|&step| step != 0))
            .map(|steps| {
                let crossed: Vec<bool> = crossings
                    .iter()
                    .map(|&(_, function, step)| steps[function] == step)
                    .collect();
                let costs = crossings.iter().zip(&crossed).filter(|pair| *pair.1);
                let cost: f64 = costs.map(|pair| pair.0.0).sum();
                let dearest_first: Vec<bool> = crossed.into_iter().rev().collect();
                (cost, dearest_first, steps)
            })
            .filter(|bucket| bucket.0.is_finite())
            .collect();
        ranked.sort_by(|x, y| x.partial_cmp(y).unwrap());
        ranked
            .into_iter()
            .map(|(cost, _, steps)| (cost, steps))
            .collect()
    }

    fn steps(prober: &mut Prober, margins: &[[f32; 2]], count: usize) -> Vec<(f64, Vec<i32>)> {
        let to_bucket = |crossings: Vec<Crossing>| {
            let mut steps = vec![0; margins.len()];
            for crossing in &crossings {
                assert_eq!(
                    std::mem::replace(&mut steps[crossing.function], crossing.step),
                    0
                );
            }
            (crossings.iter().map(|crossing| crossing.cost).sum(), steps)
        };
        let buckets = prober.steps(margins, count);
        buckets.map(|bucket| to_bucket(bucket.collect())).collect()
    }

    /// Many ties, zeros and boundaries that are not there; and arbitrary positions.
    fn margin() -> impl Strategy<Value = f32> {
        prop_oneof![
            (0..4_u8).prop_map(f32::from),
            Just(f32::INFINITY),
            0.0..1.0_f32,
            Just(f32::MAX),
        ]
    }

    proptest! {
        #[test]
        fn steps_lead_to_the_nearest_buckets(
            tables in prop::collection::vec(
                (prop::collection::vec([margin(), margin()], 0..6), 0..300_usize), 1..4)
        ) {
            // The same prober for all: nothing is left from one query to the next.
            let mut prober = Prober::default();
            for (margins, count) in tables {
                let mut expected = exhaustive(&margins);
                expected.truncate(count);
                prop_assert_eq!(steps(&mut prober, &margins, count), expected);
            }
        }

        #[test]
        fn flips_lead_to_the_nearest_buckets(
            margins in prop::collection::vec((margin(), any::<bool>()), 0..9),
            count in 0..300_usize,
        ) {
            let one_way: Vec<_> = margins.iter().map(|margin| [f32::INFINITY, margin.0]).collect();
            let signed: Vec<_> = margins.iter().map(|&(m, minus)| if minus { -m } else { m }).collect();
            let key = |steps: Vec<i32>| {
                (0..).zip(steps).fold(0, |key, (bit, step)| key | (step as u64) << bit)
            };
            let mut prober = Prober::default();
            let got = prober.flips(&signed, count).to_vec();
            if margins.len() < 6 {
                let mut expected = exhaustive(&one_way);
                expected.truncate(count);
                let expected: Vec<u64> = expected.into_iter().map(|bucket| key(bucket.1)).collect();
                prop_assert_eq!(&got, &expected);
            }
            let as_steps = steps(&mut prober, &one_way, count);
            let as_steps: Vec<u64> = as_steps.into_iter().map(|bucket| key(bucket.1)).collect();
            prop_assert_eq!(got, as_steps);
        }
    }

    #[test]
    fn probes_of_two_functions() {
        let mut prober = Prober::default();
        assert_eq!(prober.flips(&[-3.0, 2.0], 9), [0b10, 0b01, 0b11]);
        let got = steps(&mut prober, &[[4.0, 2.0], [1.0, 3.0]], 9);
        let expected = [
            (1.0, vec![0, -1]),
            (4.0, vec![1, 0]),
            (5.0, vec![1, -1]),
            (9.0, vec![0, 1]),
            (13.0, vec![1, 1]),
            (16.0, vec![-1, 0]),
            (17.0, vec![-1, -1]),
            (25.0, vec![-1, 1]),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn of_many_functions_the_nearest_boundaries_are_crossed() {
        let margins: Vec<f32> = (0..100).map(|at| (100 - at) as f32).collect();
        let mut prober = Prober::default();
        // Only 64 have a bit; the last of them is at 37, and 37² + 38² is above 52².
        let flips = prober.flips(&margins, 16);
        let expected: Vec<u64> = (0..16).map(|at| 1 << (63 - at)).collect();
        assert_eq!(flips, expected);
        let margins: Vec<[f32; 2]> = margins
            .iter()
            .map(|&above| [f32::INFINITY, above])
            .collect();
        let nearest: Vec<_> = prober
            .steps(&margins, 64)
            .next()
            .into_iter()
            .flatten()
            .collect();
        assert_eq!((nearest[0].function, nearest[0].step), (99, 1));
    }
    #[test]
    fn functions_at_the_same_distance_are_crossed_in_order() {
        let margins: Vec<f32> = (0..60).map(|at| (3 + at * 7 % 3) as f32).collect();
        let at = |margin| (0..60).filter(move |&at| 3 + at * 7 % 3 == margin);
        let expected: Vec<u64> = at(3).chain(at(4)).map(|at| 1 << at).collect();
        assert_eq!(Prober::default().flips(&margins, 40), expected);
    }
}
