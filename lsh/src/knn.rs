//! Nearest-neighbour joins: the k nearest items of every query.

use lshjoin_kernels::{Bucketing, HashFunctions, Rows, Scalar};

use crate::{
    error::{Error, Result},
    family::{HashFamily, RandomHyperplanes},
    meet::{Judge, Meeting, Meetings},
    metric::Metric,
    model::LshModel,
    nearest::{NearestLists, Neighbors},
    run::Run,
    side::Side,
    similarity::same_dimension,
};

impl LshModel {
    /// For each query the k nearest of the items that share a bucket with it; fewer where there
    /// are not as many.
    ///
    /// For one query this is Spark's `approxNearestNeighbors`; for many it is what Spark has not.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, `k` is 0, a bucket does not fit 32
    /// bits, or the run is cancelled.
    pub fn nearest_neighbors<T: Scalar>(
        &self,
        queries: Rows<'_, T>,
        items: Rows<'_, T>,
        k: usize,
        run: &Run,
    ) -> Result<Neighbors<T>> {
        self.check_dimension("queries", queries)?;
        self.check_dimension("items", items)?;
        let left = Side::new("queries", queries, self.metric(), run)?;
        let right = Side::new("items", items, self.metric(), run)?;
        let nearest = Nearest::new(&left, Some(&right), k)?;
        self.for_each_table(items, Some(queries), run, |items, queries| {
            let Some(queries) = queries else {
                return Ok(());
            };
            let meetings = Meetings {
                left: &left,
                left_order: &queries.order,
                right: Some((&right, &items.order)),
            };
            let met = queries.matches(items).into_iter();
            meetings.hold(
                met.map(|(left, right)| Meeting { left, right }),
                &nearest,
                run,
            )?;
            Ok(())
        })?;
        Ok(nearest.finish())
    }
}

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// Exact: all pairs are met, as tiles, after a few tables have brought rough neighbours together
/// so that nearly all pairs fail the first test.
///
/// ```
/// use lshjoin::{Metric, Rows, Run, knn_join};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let near = knn_join(None, items, 1, Metric::Euclidean, &Run::new()?)?;
/// assert_eq!((near.indices, near.distances), (vec![1, 0, 1], vec![1.0, 1.0, 4.0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// When dimensions differ, a row holds NaN or infinity, `k` is 0, or the run is cancelled.
pub fn knn_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    run: &Run,
) -> Result<Neighbors<T>> {
    let right = Side::new("items", items, metric, run)?;
    let left = match queries {
        None => None,
        Some(queries) => {
            same_dimension(queries, items)?;
            Some(Side::new("queries", queries, metric, run)?)
        }
    };
    let nearest = match &left {
        Some(left) => Nearest::new(left, Some(&right), k)?,
        None => Nearest::new(&right, None, k)?,
    };
    let mut orders: (Vec<u32>, Vec<u32>) = (Vec::new(), (0..items.len() as u32).collect());
    if let Some(queries) = queries {
        orders.0 = (0..queries.len() as u32).collect();
    }
    let meet = |orders: &(Vec<u32>, Vec<u32>), met: Vec<Meeting>| {
        let meetings = match &left {
            Some(left) => Meetings {
                left,
                left_order: &orders.0,
                right: Some((&right, &orders.1)),
            },
            None => Meetings {
                left: &right,
                left_order: &orders.1,
                right: None,
            },
        };
        meetings.hold(met.into_iter(), &nearest, run).map(drop)
    };
    if right.codes.is_some() {
        rough_model(items)?.for_each_table(items, queries, run, |items, queries| {
            orders.1.clone_from(&items.order);
            let met: Vec<_> = match queries {
                None => items
                    .stretches(STRETCH)
                    .map(|rows| (rows.clone(), rows))
                    .collect(),
                Some(queries) => {
                    orders.0.clone_from(&queries.order);
                    queries.stretches_of(items, STRETCH)
                }
            };
            meet(
                &orders,
                met.into_iter()
                    .map(|(left, right)| Meeting { left, right })
                    .collect(),
            )
        })?;
    }
    let left_rows = queries.map_or(items.len(), |queries| queries.len());
    meet(
        &orders,
        vec![Meeting {
            left: 0..left_rows,
            right: 0..items.len(),
        }],
    )?;
    Ok(nearest.finish())
}

/// Rows that a rough table brings together at a time.
const STRETCH: usize = 64;
/// Tables, and hyperplanes in each, that precede the exact pass: enough for bounds that nearly
/// all pairs fail.
const ROUGH_TABLES: usize = 3;
const ROUGH_BITS: usize = 24;
/// Rows that the mean is taken of.
const SAMPLE: usize = 4096;

/// Hyperplanes through the mean of a sample: sorted by the key of many of them, neighbours are
/// often in the same short stretch.
fn rough_model<T: Scalar>(items: Rows<'_, T>) -> Result<LshModel> {
    let dim = items.dim();
    let count = ROUGH_TABLES * ROUGH_BITS;
    let directions = RandomHyperplanes.draw(count, dim, 0)?.directions().to_vec();
    let step = items.len().div_ceil(SAMPLE).max(1);
    let sample = (0..items.len()).step_by(step);
    let share = 1.0 / sample.len().max(1) as f64;
    let mut mean = vec![0.0; dim];
    for row in sample {
        for (mean, value) in mean.iter_mut().zip(items.row(row)) {
            *mean += value.to_f64() * share;
        }
    }
    let dot = |direction: &[f64]| direction.iter().zip(&mean).map(|(r, m)| r * m).sum::<f64>();
    let offsets = directions
        .chunks(dim)
        .map(|direction| -dot(direction))
        .collect();
    let functions = HashFunctions::new(dim, directions, offsets, Bucketing::Sign)?;
    LshModel::from_functions(Metric::Euclidean, functions, ROUGH_BITS)
}

/// Keeps the k nearest of each left row and, of a side with itself, of each right row.
struct Nearest<T> {
    lists: NearestLists<T>,
    k: usize,
    both_ways: bool,
}

impl<T: Scalar> Nearest<T> {
    fn new(left: &Side<'_, T>, right: Option<&Side<'_, T>>, k: usize) -> Result<Self> {
        if k == 0 {
            return Err(Error::Parameter {
                name: "k",
                must_be: "at least 1",
                value: "0".into(),
            });
        }
        // No list gets longer than there are others, whatever k asks for.
        let others = right.unwrap_or(left).rows.len().max(1);
        let lists =
            NearestLists::new(left.rows.len(), left.rows.dim(), k.min(others), left.metric)?;
        Ok(Self {
            lists,
            k,
            both_ways: right.is_none(),
        })
    }

    fn finish(self) -> Neighbors<T> {
        self.lists.finish().padded(self.k)
    }
}

impl<T: Scalar> Judge<T> for Nearest<T> {
    type Notes = Vec<(u32, u32, T)>;

    fn notes(&self) -> Self::Notes {
        Vec::new()
    }

    fn left_bound(&self, row: u32) -> f32 {
        self.lists.bound(row)
    }

    fn right_bound(&self, row: u32) -> f32 {
        if self.both_ways {
            self.lists.bound(row)
        } else {
            -1.0
        }
    }

    fn judge(&self, pairs: &[(u32, u32)], scores: &[T], turned: &mut Self::Notes) {
        turned.clear();
        turned.extend(
            pairs
                .iter()
                .zip(scores)
                .map(|(&(left, right), &score)| (left, right, score)),
        );
        self.insert(turned);
        if self.both_ways {
            for (left, right, _) in turned.iter_mut() {
                std::mem::swap(left, right);
            }
            self.insert(turned);
        }
        turned.clear();
    }
}

impl<T: Scalar> Nearest<T> {
    /// Takes each row's candidates together, so that its list is locked once.
    fn insert(&self, candidates: &mut [(u32, u32, T)]) {
        candidates.sort_unstable_by_key(|candidate| candidate.0);
        for of_row in candidates.chunk_by(|x, y| x.0 == y.0) {
            let row = of_row[0].0;
            self.lists
                .insert(row, of_row.iter().map(|&(_, index, score)| (score, index)));
        }
    }
}
