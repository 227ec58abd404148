//! Checks that what was saved is sound.

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
        magnitude,
        metric::Metric,
        plan::MOST_OF_GROUP,
    },
    index::{ids::duplicate_ranks, segment::Segment},
    storage::layout::{are_starts, has_norms},
    vectors::{
        duplicates::hash,
        norms::{directions, norm_error, norms_of},
    },
};

/// Rows that are checked between two checks for cancelling.
const VERIFIED: usize = 1 << 14;

/// No norm of a stored row is above this, however long the row is.
const LONGEST: f64 = 1e45;

impl Segment {
    /// Checks every byte against the checksums.
    ///
    /// # Errors
    /// When any byte is not what was saved, or the run is cancelled.
    pub(crate) fn check_all(&self, ctx: &Context) -> Result<()> {
        self.arrays
            .values()
            .try_for_each(|array| array.check_all(ctx))
    }

    /// Checks all but the rows, before the first answer; rows are checked when they are read. It is
    /// not enough that this is what was saved: whoever saved it may have meant harm, and nothing
    /// may then be read out of bounds or without end.
    pub(crate) fn check_small(&self, ctx: &Context) -> Result<()> {
        if self.sound.get().is_some() {
            return Ok(());
        }
        let mut small = self.arrays.iter().filter(|(name, _)| *name != "rows");
        small.try_for_each(|(_, array)| array.check_all(ctx))?;
        let items = self.len();
        let lists = self.array("centroids").shape().length();
        let listed = if lists > 0 { items } else { 0 };
        for (name, end) in [("starts", listed), ("group_starts", lists)] {
            if !are_starts(self.array(name).values(), end) {
                return Err(self.array(name).damaged("lists don't follow one another"));
            }
        }
        let of_group = |ends: &[u64]| ends[1] - ends[0];
        let groups = self.array("group_starts").values();
        let mut sizes = groups.windows(2).map(of_group);
        // One group alone has all.
        if groups.len() > 2 && sizes.any(|lists| lists > MOST_OF_GROUP as u64) {
            let problem = "a group has more lists than there are in any";
            return Err(self.array("group_starts").damaged(problem));
        }
        for name in ["by_id", "held_out"] {
            let rows: &[u32] = self.array(name).values();
            if let Some(row) = rows.iter().find(|&&row| row as usize >= items) {
                let problem = format!("it names row {row} of {items}");
                return Err(self.array(name).damaged(&problem));
            }
        }
        // Rising by the rows in `by_id`: then no id comes twice, and no row.
        let (by_id, ids) = (self.array("by_id"), self.array("ids").values::<i64>());
        let id = |row: &u32| ids[*row as usize];
        let rising = |pair: &[u32]| id(&pair[0]) < id(&pair[1]);
        if !by_id.values::<u32>().par_windows(2).all(rising) {
            return Err(by_id.damaged("ids don't rise, or one comes twice"));
        }
        for name in ["groups", "centroids"] {
            let centroids = Rows::new(self.array(name).values::<f32>(), self.width())?;
            let checked = magnitude::check(name, centroids, Metric::Euclidean, ctx);
            checked.map_err(|error| self.damaged(name, error))?;
        }
        let norms: &[f64] = self.array("norms").values();
        let mut norms = norms.iter().zip(0..);
        if let Some((norm, row)) = norms.find(|(norm, _)| !(0.0..=LONGEST).contains(*norm)) {
            let problem = format!("the norm of row {row} is {norm}");
            return Err(self.array("norms").damaged(&problem));
        }
        // Rows less the centre have to be finite, too.
        let is_near = |middle: &f32| middle.abs() <= f32::MAX / 4.0;
        let mut middles = self.centre().into_iter().flatten();
        if let Some(middle) = middles.find(|middle| !is_near(middle)) {
            let problem = format!("it holds {middle:e}, far from all rows");
            return Err(self.array("centre").damaged(&problem));
        }
        if let Some(codes) = self.codes(&(0..items))? {
            for start in (0..items).step_by(VERIFIED) {
                ctx.check()?;
                if let Some(row) = codes.unsound(start..items.min(start + VERIFIED)) {
                    let problem = format!("what it says of row {row} is true of no codes");
                    return Err(self.array("known").damaged(&problem));
                }
            }
        }
        let _ = self.sound.set(());
        Ok(())
    }

    /// Checks all, and that what was learnt from rows was learnt from these: then answers are
    /// those of the rows.
    ///
    /// # Errors
    /// When anything is not what was saved, or was not learnt from these rows, or the run is
    /// cancelled.
    pub(crate) fn verify(&self, ctx: &Context) -> Result<()> {
        self.check_all(ctx)?;
        self.check_small(ctx)?;
        let (items, width) = (self.len(), self.width());
        let rows: Rows<'_, f32> = Rows::new(self.array("rows").values(), width)?;
        let norms: &[f64] = self.array("norms").values();
        let codes = self.codes(&(0..items))?;
        let other = |name: &str, row: usize| {
            let problem = format!("it was not made of row {row}");
            Err(self.array(name).damaged(&problem))
        };
        let mut hashes = memory::empty(items, "hashes of rows")?;
        for start in (0..items).step_by(VERIFIED) {
            ctx.check()?;
            let range = start..items.min(start + VERIFIED);
            let part = rows.slice(range.clone());
            if self.metric != Metric::InnerProduct {
                let checked = magnitude::check("items", part, self.metric, ctx);
                checked.map_err(|error| self.damaged("rows", error.after(start)))?;
            }
            hashes.extend((0..part.len()).map(|row| hash(&part.row(row)[..self.dim])));
            let mut coded = part.values()?;
            if has_norms(self.metric) {
                let (own, kept) = (norms_of(part, ctx)?, &norms[range.clone()]);
                // Augmented rows all have the same norm, but for rounding.
                let (common, error) = match self.metric {
                    Metric::InnerProduct => (Some(norms[0]), norm_error::<f32>(width)),
                    _ => (None, 0.0),
                };
                let same = |(own, kept): (&f64, &f64)| {
                    common.is_none_or(|common| common == *kept)
                        && (own - kept).abs() <= kept * error
                };
                if let Some(row) = own.iter().zip(kept).position(|pair| !same(pair)) {
                    return other("norms", start + row);
                }
                if self.metric == Metric::Cosine {
                    let mut directions = directions(part, kept)?;
                    // The code of a row without direction has to let all pairs pass: only then does
                    // it cover this.
                    let rows = directions.chunks_mut(width);
                    let zeros = rows.filter(|row| row.iter().all(|&value| value == 0.0));
                    zeros.for_each(|row| row.fill(f32::MAX));
                    coded = directions.into();
                }
            }
            if let Some(codes) = &codes {
                let coded = Rows::new(&coded, width)?;
                if let Some(row) = codes.slice(range).uncovered(coded, self.centre())? {
                    return other("codes", start + row);
                }
            }
        }
        if let Some(row) = self.of_other_list(ctx)? {
            return other("starts", row);
        }
        let kept: &[u32] = self.array("duplicate_ranks").values();
        let own = duplicate_ranks(self.array("by_id").values(), &hashes, rows)?;
        match own.iter().zip(kept).position(|(own, kept)| own != kept) {
            Some(row) => other("duplicate_ranks", row),
            None => Ok(()),
        }
    }

    /// A row that lies in another list than that of its nearest centroid.
    fn of_other_list(&self, ctx: &Context) -> Result<Option<usize>> {
        let items = self.len();
        let (Some(lists), Some(codes)) = (self.lists(ctx)?, self.codes(&(0..items))?) else {
            return Ok(None);
        };
        for start in (0..items).step_by(VERIFIED) {
            let rows = start as u32..items.min(start + VERIFIED) as u32;
            let rows = memory::collect(rows, ROW_NUMBERS)?;
            let own = lists.quantiser.assign(&codes, &rows, ctx)?;
            let is_other = |(row, own): (&u32, u32)| lists.starts.list_of(*row) != own;
            if let Some(at) = rows.iter().zip(own).position(is_other) {
                return Ok(Some(start + at));
            }
        }
        Ok(None)
    }

    /// What is wrong with the values of an array, unless the run was cancelled.
    pub(crate) fn damaged(&self, name: &str, error: Error) -> Error {
        match error {
            Error::Cancelled => error,
            error => self.array(name).damaged(&error.to_string()),
        }
    }
}
