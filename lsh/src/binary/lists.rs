//! Inverted lists of packed bits, and which of them each query probes.

use lshjoin_kernels::{RightBits, Rows, memory, near_bits};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS, context::Context, counting_sort::sort_by_row, error::Result,
        plan::margin_of_probes, report::Estimate, sampling::seeded_sample,
    },
    binary::{
        centroids::{CENTROIDS, assign, by_list, learn},
        sides::BinarySides,
        top_k::{TopKBlock, nearest},
    },
    pairs::results::Neighbors,
    recall::{ground_truth::count, recall_curve::RecallCurve},
};

/// Items by the nearest centroid, and the nearest centroid of each left row.
pub(crate) struct InvertedLists<'a> {
    sides: &'a BinarySides<'a>,
    centroids: Vec<u8>,
    /// The same to be compared with: a slot for each list.
    packed_centroids: RightBits,
    items: RightBits,
    /// The list of each item.
    of_items: Vec<u32>,
    /// How many items each has.
    lengths: Vec<usize>,
    /// Of each left row the list whose centroid is nearest, and how far that is.
    own: Vec<(u32, f32)>,
    ctx: &'a Context,
}

/// How far beyond its nearest centroid a row probes, and what that comes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Margin {
    pub(crate) distance: f32,
    /// By held-out rows that the margin was not chosen by.
    pub(crate) recall: Option<Estimate>,
    /// Lists that a row probes, and items that it is compared with, on average.
    pub(crate) probes: f64,
    pub(crate) items: f64,
}

/// One held-out row in so many is for the check.
const CHECKING: usize = 3;

/// How often further rows are held out, at most, where those of the check have found too little.
const CHECKS: u64 = 8;

impl<'a> InvertedLists<'a> {
    /// About so many lists.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn new(
        sides: &'a BinarySides<'a>,
        lists: usize,
        seed: u64,
        ctx: &'a Context,
    ) -> Result<Self> {
        let BinarySides { items, metric, .. } = *sides;
        ctx.begin_stage("lists");
        let bytes = learn(items, lists, metric, seed, ctx)?;
        let centroids = Rows::new(&bytes, items.dim())?;
        let all = memory::collect(0..centroids.len() as u32, CENTROIDS)?;
        let packed_centroids = RightBits::new(centroids, &all, &[0, all.len()])?;
        let of_items = assign(items, centroids, metric, ctx)?;
        let own = |near: &Neighbors<f32>| {
            let lists = near.indices.iter().map(|&list| list as u32);
            memory::collect(lists.zip(near.distances.iter().copied()), ROW_NUMBERS)
        };
        let own = match sides.queries {
            None => own(&of_items)?,
            Some(queries) => own(&assign(queries, centroids, metric, ctx)?)?,
        };
        let of_items = of_items.indices.iter().map(|&list| list as u32);
        let of_items = memory::collect(of_items, ROW_NUMBERS)?;
        let (order, offsets) = by_list(of_items.iter().copied(), all.len())?;
        Ok(Self {
            sides,
            packed_centroids,
            items: RightBits::new(items, &order, &offsets)?,
            of_items,
            lengths: offsets
                .windows(2)
                .map(|bounds| bounds[1] - bounds[0])
                .collect(),
            own,
            centroids: bytes,
            ctx,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The least margin by which held-out rows confirm a recall; infinite where none does.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn margin_for(&self, recall: f64, k: usize) -> Result<Margin> {
        self.ctx.begin_stage("ground truth");
        let rows = self.own.len();
        let held_out = seeded_sample(rows, count(rows, k), 0);
        let mut check = self.excesses(&held_out, k)?;
        let mut calibration = RecallCurve(Vec::new());
        let mut known = held_out.clone();
        for (at, curve) in std::mem::take(&mut check.0).into_iter().enumerate() {
            match at % CHECKING {
                0 => check.0.push(curve),
                _ => calibration.0.push(curve),
            }
        }
        for seed in 1..=CHECKS {
            let distance = calibration.threshold_for(recall);
            let reached = Estimate::of(check.found(distance));
            if !reached.falls_short(recall) {
                return self.margin(distance, Some(reached), &held_out);
            }
            // A choice is not checked by rows that it was made by.
            calibration.0.append(&mut check.0);
            known.sort_unstable();
            let mut others = seeded_sample(rows, count(rows, k), seed);
            others.retain(|row| known.binary_search(row).is_err());
            check = self.excesses(&others, k)?;
            known.extend(others);
        }
        self.margin(f32::INFINITY, None, &held_out)
    }

    /// The least margin by which rows probe so many lists on average.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn margin_of(&self, probes: f64, k: usize) -> Result<Margin> {
        let rows = self.own.len();
        let some = seeded_sample(rows, count(rows, k), 0);
        let most = some.len().saturating_mul(self.len());
        let mut excesses = memory::empty(most, CENTROIDS)?;
        for &row in &some {
            self.ctx.check()?;
            excesses.extend((0..self.len()).map(|list| self.excess(row, list)));
        }
        let distance = margin_of_probes(&mut excesses, some.len(), probes);
        self.margin(distance, None, &some)
    }

    fn margin(&self, distance: f32, recall: Option<Estimate>, rows: &[u32]) -> Result<Margin> {
        let probed = rows.par_iter().map(|&row| {
            let lists = (0..self.len()).filter(|&list| self.excess(row, list) <= distance);
            lists.fold((0, 0), |(lists, items), list| {
                (lists + 1, items + self.lengths[list])
            })
        });
        let sum = |x: (usize, usize), y: (usize, usize)| (x.0 + y.0, x.1 + y.1);
        let (lists, items) = probed.reduce(|| (0, 0), sum);
        self.ctx.check()?;
        let rows = rows.len().max(1) as f64;
        Ok(Margin {
            distance,
            recall,
            probes: lists as f64 / rows,
            items: items as f64 / rows,
        })
    }

    /// For each of these rows, how much further than the nearest centroid those of the lists are that
    /// its k nearest items are in. Of items as near as the last of them those count that are found
    /// first.
    fn excesses(&self, rows: &[u32], k: usize) -> Result<RecallCurve> {
        let more = 2 * k + 16;
        let near = nearest(self.sides, rows, more, self.ctx, |block, places| {
            let chosen: Vec<u32> = (0..places.len() as u32).collect();
            block.compare_all(&chosen, &self.items)
        })?;
        let of_rows = near.indices.chunks(more).zip(near.distances.chunks(more));
        let curves = rows.iter().zip(of_rows).map(|(&row, (items, distances))| {
            let last = distances[k - 1];
            let items = items.iter().zip(distances);
            let items = items.take_while(|&(&item, &distance)| item >= 0 && distance <= last);
            let lists = items.map(|(&item, _)| self.of_items[item as usize] as usize);
            let mut excesses: Vec<f32> = lists.map(|list| self.excess(row, list)).collect();
            excesses.sort_unstable_by(f32::total_cmp);
            excesses.truncate(k);
            excesses
        });
        // Rows that are kept apart from all others have missed nothing.
        Ok(RecallCurve(
            curves.filter(|curve| !curve.is_empty()).collect(),
        ))
    }

    /// How much further than its nearest centroid another is from a left row.
    fn excess(&self, row: u32, list: usize) -> f32 {
        let width = self.sides.items.dim();
        let centroid = &self.centroids[list * width..][..width];
        let row_bits = self.sides.left().bits(row as usize);
        self.sides.metric.of_rows(row_bits, centroid) - self.own[row as usize].1
    }

    /// The k nearest of each left row, of the items in lists that it probes.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn join(&self, margin: f32, k: usize) -> Result<Neighbors<f32>> {
        self.ctx.begin_stage("join");
        let lists = self.own.iter().map(|&(list, _)| list);
        let (order, _) = by_list(lists, self.len())?;
        // A row is not its own neighbour.
        let others = self.of_items.len() - usize::from(self.sides.queries.is_none());
        let near = nearest(self.sides, &order, k, self.ctx, |block, places| {
            self.probe(block, &order[places], margin)?;
            block.fill(others, &self.items)
        })?;
        let mut places = memory::filled(0, order.len(), ROW_NUMBERS)?;
        for (place, &row) in (0..).zip(&order) {
            places[row as usize] = place;
        }
        near.gathered(&places)
    }

    /// Compares each row of a block, which are in the order of their own lists, with these, and then
    /// with the others that it probes.
    fn probe(&self, block: &mut TopKBlock<'_>, rows: &[u32], margin: f32) -> Result<()> {
        let own = |row: u32| self.own[row as usize];
        let mut start = 0;
        for of_list in rows.chunk_by(|&x, &y| own(x).0 == own(y).0) {
            let end = start + of_list.len() as u32;
            let chosen: Vec<u32> = (start..end).collect();
            let groups = self.items.groups(own(of_list[0]).0 as usize);
            block.compare(&chosen, &self.items, groups)?;
            start = end;
        }
        let metric = self.sides.metric;
        let (all, left) = (0..rows.len() as u32, block.left());
        let all: Vec<u32> = all.collect();
        let limits = rows.iter().zip(left.populations());
        let limits: Vec<_> = limits
            .map(|(&row, &set)| metric.within(own(row).1 + margin, set))
            .collect();
        let (packed, isa) = (&self.packed_centroids, self.ctx.isa());
        let mut near = Vec::new();
        near_bits(
            left,
            &all,
            &limits,
            packed,
            packed.groups(0),
            isa,
            &mut near,
        )?;
        let mut ends = memory::zeroed(self.len(), CENTROIDS)?;
        let mut found = memory::empty(near.len(), CENTROIDS)?;
        for pair in near {
            let (list, set) = (packed.row(pair.slot), packed.population(pair.slot));
            let place = pair.left as usize;
            let (nearest, least) = own(rows[place]);
            let distance = metric.distance(pair.differing, left.populations()[place], set);
            if list != nearest && distance - least <= margin {
                ends[list as usize] += 1;
                found.push((list, pair.left));
            }
        }
        self.ctx.count_pairs((rows.len() * self.len()) as u64);
        let mut order = Vec::new();
        sort_by_row(&found, &mut ends, &mut order, 0, CENTROIDS)?;
        let mut start = 0;
        for (list, &end) in ends.iter().enumerate() {
            block.compare(&order[start..end], &self.items, self.items.groups(list))?;
            start = end;
        }
        Ok(())
    }
}
