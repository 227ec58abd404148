//! Where rows go when a join is spread over tasks, each of which holds a part of them.
//!
//! The lists of a coarse quantiser, learnt from a sample, are cut into parts: neighbouring lists, with
//! about as many rows in each part. A row is at home in the part of its nearest list. The rows of one
//! side probe other parts, too: those with a list whose centroid is further than the nearest by no
//! more than a margin, or a number of the nearest, whichever sends rows to fewer. Both are learnt from
//! rows whose neighbours are known. (To bring one side to
//! where the other is at home, so that no results have to be merged: W. Lu, Y. Shen, S. Chen and
//! B. C. Ooi, "Efficient processing of k nearest neighbor joins using MapReduce", 2012.)

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        ROW_NUMBERS,
        check::{check_recall, positive},
        context::Context,
        error::{Error, Result},
        metric::Metric,
        plan::LISTS_OF_ROW,
    },
    ivf::{
        coarse_quantiser::{CoarseQuantiser, QuantiserParts},
        list_distances::{CentroidDistances, keep_nearest},
        list_offsets::ListOffsets,
        routing_space::{JoinSide, ROUTED, Space},
    },
    recall::ground_truth::{GroundTruth, Split},
    vectors::{Vectors, grid::Grid},
};

/// Sampled items for each list.
const ROWS_OF_LIST: usize = 32;

const SEED: u64 = 0;

/// Rows of the sample that tell to how many parts a row goes.
const SAMPLED: usize = 2048;

/// Which parts of a join its rows belong to; see [`ListRouter::learn`].
pub struct ListRouter {
    pub(super) space: Space,
    pub(super) grid: Grid<f32>,
    pub(super) quantiser: CoarseQuantiser,
    /// What the quantiser is made of, to be saved.
    pub(super) learnt: QuantiserParts,
    /// The first list of each part.
    pub(super) parts: ListOffsets,
    /// How far rows probe, and how many parts at most.
    pub(super) margin: f32,
    pub(super) most: usize,
}

/// A query and some of its nearest items, by row.
type Known = (u32, Vec<u32>);

/// A side, and which row of a pair, of a query and an item, is of it.
type RowOfPair<'a> = (&'a Vectors<'a, f32>, fn((u32, u32)) -> u32);

impl ListRouter {
    /// At most so many parts, from a sample of each side (`queries` is `None` where the items are
    /// joined with themselves).
    ///
    /// The rows of the side that is `probing` go to all parts that they probe, those of the other
    /// one home. `near` has how many neighbours of a sampled query, among the sampled items, are as
    /// near as those that are looked for among all, and the share of these whose rows are to meet.
    /// In a sample neighbours are further than among all: with one of them at least the share errs
    /// towards too many.
    ///
    /// ```
    /// use lshjoin::{Context, JoinSide, ListRouter, Metric, Rows};
    ///
    /// let values: Vec<f32> = (0..2000).map(|value| value as f32).collect();
    /// let (items, ctx) = (Rows::new(&values, 1)?, Context::new()?);
    /// let (near, probing) = ((1, 0.9), JoinSide::Items);
    /// let router = ListRouter::learn(None, items, Metric::Euclidean, 4, near, probing, &ctx)?;
    /// assert_eq!(router.parts(), 4);
    /// let home = router.homes(items, JoinSide::Items, &ctx)?;
    /// let (rows, parts) = router.probes(items, JoinSide::Items, &ctx)?;
    /// assert_eq!((rows[0], parts[0]), (0, home[0]));
    /// assert!(rows.len() < 3 * items.len());
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// When a number is out of range, there are no items, a row holds NaN or infinity, dimensions
    /// differ, or the run is cancelled.
    pub fn learn<T: Scalar>(
        queries: Option<Rows<'_, T>>,
        items: Rows<'_, T>,
        metric: Metric,
        parts: usize,
        near: (usize, f64),
        probing: JoinSide,
        ctx: &Context,
    ) -> Result<Self> {
        positive("parts", parts)?;
        positive("k", near.0)?;
        check_recall("recall", near.1)?;
        positive("the number of items", items.len())?;
        let space = Space::of(items, metric)?;
        let values = space.rows(items, JoinSide::Items, ctx)?;
        let items = Rows::new(&values, space.width())?;
        let grid = Grid::of(items, space.metric_of_lists(), ctx)?;
        let right = Vectors::with_grid("items", items, space.metric_of_lists(), &grid, ctx)?;
        let lists = (items.len() / ROWS_OF_LIST).max(parts).min(LISTS_OF_ROW);
        let quantiser = CoarseQuantiser::of_side(&right, lists, None, SEED, ctx)?;
        let learnt = quantiser.into_parts();
        let quantiser = CoarseQuantiser::of_parts(learnt.clone(), space.width(), ctx)?;
        let of_items = homes(&quantiser, &right, |list| list, ctx)?;
        let sizes = ListOffsets::new(of_items.into_iter(), quantiser.len());
        let mut router = Self {
            parts: cut(&sizes, parts),
            margin: 0.0,
            most: usize::MAX,
            space,
            grid,
            quantiser,
            learnt,
        };
        let of_queries = queries.map(|rows| router.space.rows(rows, JoinSide::Queries, ctx));
        let of_queries = of_queries.transpose()?;
        let queries = of_queries.as_deref();
        let queries = queries.map(|values| Rows::new(values, router.space.width()));
        let queries = queries.transpose()?;
        let known = router.known(queries, items, near.0, ctx)?;
        let left = queries.map(|rows| router.prepared(rows, JoinSide::Queries, ctx));
        let left = left.transpose()?;
        let left = left.as_ref().unwrap_or(&right);
        let (probing, (by_margin, by_number)) = match probing {
            JoinSide::Queries => (
                left,
                router.further(&known, (left, |at| at.0), (&right, |at| at.1), ctx)?,
            ),
            JoinSide::Items => (
                &right,
                router.further(&known, (&right, |at| at.1), (left, |at| at.0), ctx)?,
            ),
        };
        if known.is_empty() {
            return Ok(router);
        }
        // Rows far from all centroids are about as far from each: then a number of parts is better.
        router.margin = f32::INFINITY;
        router.most = (enough_for(near.1, by_number) as usize).saturating_add(1);
        let rows = probing.sample(SAMPLED);
        let count = |router: &Self| {
            let probed =
                |_: usize, distances: &CentroidDistances| Ok(router.probed(distances)?.len());
            let probed = router.quantiser.each_row_of(probing, &rows, probed, ctx)?;
            Ok::<usize, Error>(probed.into_iter().sum())
        };
        let (most, of_number) = (router.most, count(&router)?);
        (router.margin, router.most) = (enough_for(near.1, by_margin), usize::MAX);
        if of_number < count(&router)? {
            (router.margin, router.most) = (f32::INFINITY, most);
        }
        Ok(router)
    }

    /// Some queries and their nearest items, by comparing all: `k` of each that are not equal to it.
    fn known(
        &self,
        queries: Option<Rows<'_, f32>>,
        items: Rows<'_, f32>,
        k: usize,
        ctx: &Context,
    ) -> Result<Vec<Known>> {
        let metric = self.space.metric_of_rows();
        let right = Vectors::new("items", items, metric, ctx)?;
        let left = queries.map(|rows| right.prepare_other("queries", rows, ctx));
        let left = left.transpose()?;
        let truth = GroundTruth::of(left.as_ref(), &right, k.saturating_add(1), ctx)?;
        let queries = queries.unwrap_or(items);
        let known = truth.some(Split::All).map(|known| {
            let query = queries.row(known.row as usize);
            let others = known.nearest.iter().copied();
            let others = others.filter(|&other| items.row(other as usize) != query);
            (known.row, others.take(k).collect())
        });
        let known = known.filter(|(_, others): &Known| !others.is_empty());
        Ok(memory::collect(known, "known neighbours")?)
    }

    /// The margins with which the rows of one side of these pairs probe the parts in which those of
    /// the other are at home, and how many parts are nearer.
    fn further(
        &self,
        known: &[Known],
        (probing, of_probing): RowOfPair<'_>,
        (at_home, of_home): RowOfPair<'_>,
        ctx: &Context,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let pairs = known.iter();
        let pairs = pairs.flat_map(|(query, others)| others.iter().map(|&other| (*query, other)));
        let pairs: Vec<(u32, u32)> = memory::collect(pairs, ROW_NUMBERS)?;
        let rows: Vec<u32> = pairs.iter().copied().map(of_home).collect();
        let home = |_: usize, distances: &CentroidDistances| Ok(self.home(distances));
        let homes = self.quantiser.each_row_of(at_home, &rows, home, ctx)?;
        let further = |pair: usize, distances: &CentroidDistances| {
            let margins = self.margins(distances, f32::INFINITY)?;
            let margin = margins[homes[pair] as usize];
            let nearer = margins.iter().filter(|&&other| other < margin).count();
            Ok((margin, nearer as f32))
        };
        let rows: Vec<u32> = pairs.iter().copied().map(of_probing).collect();
        let found = self.quantiser.each_row_of(probing, &rows, further, ctx)?;
        Ok(found.into_iter().unzip())
    }

    /// How much further than the nearest list the nearest of each part is; infinite beyond `most`.
    fn margins(&self, distances: &CentroidDistances, most: f32) -> Result<Vec<f32>> {
        let mut margins = memory::filled(f32::INFINITY, self.parts.len(), ROUTED)?;
        distances.within(most, |list, margin| {
            let least = &mut margins[self.parts.list_of(list) as usize];
            *least = least.min(margin);
        });
        Ok(margins)
    }

    fn prepared<'a>(
        &self,
        rows: Rows<'a, f32>,
        side: JoinSide,
        ctx: &Context,
    ) -> Result<Vectors<'a, f32>> {
        let metric = self.space.metric_of_lists();
        Vectors::with_grid(side.name(), rows, metric, &self.grid, ctx)
    }

    fn home(&self, distances: &CentroidDistances) -> u32 {
        self.parts.list_of(distances.nearest())
    }

    /// The parts that a row probes: where it is at home, then the others.
    fn probed(&self, distances: &CentroidDistances) -> Result<Vec<u32>> {
        let margins = self.margins(distances, self.margin)?;
        let home = self.home(distances);
        let others = (0..)
            .zip(margins)
            .filter(|&(part, margin)| part != home && margin < f32::INFINITY);
        let mut others: Vec<(f32, u32)> = others.map(|(part, margin)| (margin, part)).collect();
        keep_nearest(&mut others, self.most.saturating_sub(1));
        others.sort_unstable_by_key(|&(_, part)| part);
        Ok(std::iter::once(home)
            .chain(others.into_iter().map(|(_, part)| part))
            .collect())
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The part in which each of these rows is at home.
    ///
    /// # Errors
    /// When a row holds NaN or infinity, the dimension is another one, or the run is cancelled.
    pub fn homes<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        side: JoinSide,
        ctx: &Context,
    ) -> Result<Vec<u32>> {
        let values = self.space.rows(rows, side, ctx)?;
        let rows = self.prepared(Rows::new(&values, self.space.width())?, side, ctx)?;
        homes(&self.quantiser, &rows, |list| self.parts.list_of(list), ctx)
    }

    /// The parts that these rows probe: pairs of a row, rising, and a part; that in which the row is
    /// at home is its first.
    ///
    /// # Errors
    /// As [`ListRouter::homes`].
    pub fn probes<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        side: JoinSide,
        ctx: &Context,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let values = self.space.rows(rows, side, ctx)?;
        let rows = self.prepared(Rows::new(&values, self.space.width())?, side, ctx)?;
        let numbers: Vec<u32> = memory::collect(0..rows.len() as u32, ROW_NUMBERS)?;
        let probed = |_: usize, distances: &CentroidDistances| self.probed(distances);
        let probed = self.quantiser.each_row_of(&rows, &numbers, probed, ctx)?;
        let of_rows = numbers.iter().zip(&probed);
        let of_rows = of_rows.flat_map(|(&row, parts)| parts.iter().map(move |_| row));
        let of_rows = memory::collect(of_rows, ROUTED)?;
        Ok((
            of_rows,
            memory::collect(probed.into_iter().flatten(), ROUTED)?,
        ))
    }
}

/// What `of_list` makes of the list of each row.
fn homes(
    quantiser: &CoarseQuantiser,
    rows: &Vectors<'_, f32>,
    of_list: impl Fn(u32) -> u32 + Sync,
    ctx: &Context,
) -> Result<Vec<u32>> {
    let numbers: Vec<u32> = memory::collect(0..rows.len() as u32, ROW_NUMBERS)?;
    let home = |_: usize, distances: &CentroidDistances| Ok(of_list(distances.nearest()));
    quantiser.each_row_of(rows, &numbers, home, ctx)
}

/// The least of these numbers that so large a share of them does not exceed. No margin for chance is
/// added: a sample errs upwards as it is.
fn enough_for(share: f64, mut numbers: Vec<f32>) -> f32 {
    numbers.sort_unstable_by(f32::total_cmp);
    let enough = (share * numbers.len() as f64).ceil() as usize;
    numbers[enough.clamp(1, numbers.len()) - 1]
}

/// Cuts lists into runs of about as many rows; neighbouring lists have near numbers.
fn cut(sizes: &ListOffsets, parts: usize) -> ListOffsets {
    let (lists, parts) = (sizes.len(), parts.min(sizes.len()));
    let mut starts = vec![0];
    for part in 1..parts {
        let before = sizes.rows() * part / parts;
        let list = sizes
            .starts()
            .take(lists)
            .position(|start| start >= before as u64);
        let last = starts[part - 1];
        starts.push(
            list.unwrap_or(lists)
                .clamp(last + 1, lists - (parts - part)),
        );
    }
    starts.push(lists);
    ListOffsets::of_starts(starts)
}

#[cfg(test)]
mod tests {
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;
    use crate::{base::random::gaussian, pairs::top_k_join::exactly};

    const DIM: usize = 8;

    /// Rows around some centres.
    fn rows(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let centres: Vec<f64> = (0..20 * DIM).map(|_| 2.0 * gaussian(&mut rng)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = Vec::new();
        for _ in 0..count {
            let centre = (rng.next_u64() % 20) as usize * DIM;
            values.extend((centre..centre + DIM).map(|at| centres[at] + gaussian(&mut rng)));
        }
        values
    }

    /// The share of the pairs of a query and its nearest that meet, and to how many parts a row of
    /// the probing side goes.
    fn met(
        router: &ListRouter,
        (queries, items): (Rows<'_, f64>, Rows<'_, f64>),
        near: &[Vec<u32>],
        probing: JoinSide,
        ctx: &Context,
    ) -> Result<(f64, f64)> {
        let (home, other) = match probing {
            JoinSide::Queries => (JoinSide::Items, queries),
            JoinSide::Items => (JoinSide::Queries, items),
        };
        let homes = router.homes(
            if home == JoinSide::Items {
                items
            } else {
                queries
            },
            home,
            ctx,
        )?;
        let (rows, parts) = router.probes(other, probing, ctx)?;
        let routes: std::collections::HashSet<(u32, u32)> =
            rows.iter().copied().zip(parts.iter().copied()).collect();
        let (mut pairs, mut found) = (0, 0);
        for (query, others) in (0..).zip(near) {
            for &item in others {
                let route = match probing {
                    JoinSide::Queries => (query, homes[item as usize]),
                    JoinSide::Items => (item, homes[query as usize]),
                };
                pairs += 1;
                found += usize::from(routes.contains(&route));
            }
        }
        Ok((
            found as f64 / pairs as f64,
            rows.len() as f64 / other.len() as f64,
        ))
    }

    #[test]
    fn near_rows_meet() -> Result<()> {
        let ctx = Context::new()?;
        let (queries, items) = (rows(1500, 1), rows(6000, 2));
        let (queries, items) = (Rows::new(&queries, DIM)?, Rows::new(&items, DIM)?);
        for metric in [Metric::Euclidean, Metric::Cosine, Metric::Manhattan] {
            let right = Vectors::new("items", items, metric, &ctx)?;
            let left = right.prepare_other("queries", queries, &ctx)?;
            let near = exactly(Some(&left), &right, 5, &ctx)?;
            let near: Vec<Vec<u32>> = (0..1500).map(|query| near.of(query).collect()).collect();
            for probing in [JoinSide::Queries, JoinSide::Items] {
                let sides = (queries, items);
                let learn = |recall| {
                    let near = (5, recall);
                    ListRouter::learn(Some(queries), items, metric, 12, near, probing, &ctx)
                };
                let router = learn(0.9)?;
                assert_eq!(router.parts(), 12);
                let (recall, copies) = met(&router, sides, &near, probing, &ctx)?;
                assert!(recall > 0.87, "{metric} {probing:?}: {recall}");
                assert!(copies < 5.0, "{metric} {probing:?}: {copies}");
                let (more, of_more) = met(&learn(0.98)?, sides, &near, probing, &ctx)?;
                assert!(more > recall && of_more > copies);
            }
            let homes =
                ListRouter::learn(None, items, metric, 12, (5, 0.9), JoinSide::Items, &ctx)?
                    .homes(items, JoinSide::Items, &ctx)?;
            for part in 0..12 {
                let rows = homes.iter().filter(|&&home| home == part).count();
                assert!((350..650).contains(&rows), "{rows} rows of 500");
            }
        }
        Ok(())
    }

    #[test]
    fn inner_products_bring_long_items_to_queries() -> Result<()> {
        let ctx = Context::new()?;
        let (queries, items) = (rows(1500, 1), rows(6000, 2));
        let (queries, items) = (Rows::new(&queries, DIM)?, Rows::new(&items, DIM)?);
        let dot = |query: usize, item: usize| -> f64 {
            queries
                .row(query)
                .iter()
                .zip(items.row(item).iter())
                .map(|(x, y)| x * y)
                .sum()
        };
        let near: Vec<Vec<u32>> = (0..queries.len())
            .map(|query| {
                let mut order: Vec<u32> = (0..6000).collect();
                order.sort_by(|&a, &b| dot(query, b as usize).total_cmp(&dot(query, a as usize)));
                order.truncate(5);
                order
            })
            .collect();
        let probing = JoinSide::Queries;
        let (metric, near_of) = (Metric::InnerProduct, (5, 0.9));
        let router = ListRouter::learn(Some(queries), items, metric, 12, near_of, probing, &ctx)?;
        let (recall, copies) = met(&router, (queries, items), &near, probing, &ctx)?;
        assert!(recall > 0.87 && copies < 6.0, "{recall} {copies}");
        Ok(())
    }

    #[test]
    fn bytes_bring_it_back_or_are_refused() -> Result<()> {
        let ctx = Context::new()?;
        let items = rows(500, 3);
        let items = Rows::new(&items, DIM)?;
        for metric in [Metric::Euclidean, Metric::InnerProduct] {
            let probing = JoinSide::Items;
            let router = ListRouter::learn(None, items, metric, 5, (2, 0.9), probing, &ctx)?;
            let bytes = router.to_bytes()?;
            let again = ListRouter::from_bytes(&bytes, &ctx)?;
            assert_eq!(
                again.probes(items, probing, &ctx)?,
                router.probes(items, probing, &ctx)?
            );
            for end in [0, 7, 100, bytes.len() - 1] {
                assert!(ListRouter::from_bytes(&bytes[..end], &ctx).is_err());
            }
            for at in 0..bytes.len().min(2000) {
                let mut changed = bytes.clone();
                changed[at] ^= 5;
                // Refused, or a router of other numbers.
                drop(ListRouter::from_bytes(&changed, &ctx));
            }
        }
        Ok(())
    }

    #[test]
    fn values_of_any_size_are_routed_alike() -> Result<()> {
        let ctx = Context::new()?;
        let items = rows(500, 4);
        let mut found = Vec::new();
        for exponent in [0, 200, -200] {
            let scaled: Vec<f64> = items
                .iter()
                .map(|value| value * 2_f64.powi(exponent))
                .collect();
            let scaled = Rows::new(&scaled, DIM)?;
            let probing = JoinSide::Items;
            let metric = Metric::Euclidean;
            let router = ListRouter::learn(None, scaled, metric, 5, (2, 0.9), probing, &ctx)?;
            found.push(router.probes(scaled, probing, &ctx)?);
        }
        assert!(found[0] == found[1] && found[0] == found[2]);
        Ok(())
    }

    #[test]
    fn equal_rows_stay_at_home() -> Result<()> {
        let ctx = Context::new()?;
        let items = Rows::new(&[1.0_f32; 600], 2)?;
        let (metric, probing) = (Metric::Euclidean, JoinSide::Items);
        let router = ListRouter::learn(None, items, metric, 3, (1, 0.9), probing, &ctx)?;
        let homes = router.homes(items, probing, &ctx)?;
        assert!(homes.iter().all(|&home| home == homes[0]));
        assert!(ListRouter::learn(None, items, metric, 0, (1, 0.9), probing, &ctx).is_err());
        Ok(())
    }
}
