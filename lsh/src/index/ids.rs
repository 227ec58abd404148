//! The user's ids, and rows by id.

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::base::{
    ROW_NUMBERS,
    error::{Error, Result},
};

/// The ids of a segment's rows, and the rows by rising id.
#[derive(Clone, Copy)]
pub(crate) struct ById<'a> {
    pub(crate) ids: &'a [i64],
    pub(crate) rows: &'a [u32],
}

impl ById<'_> {
    /// The row of an id.
    pub(crate) fn row(&self, id: i64) -> Option<usize> {
        let of = |row: &u32| self.ids.get(*row as usize).copied();
        let position = self.rows.binary_search_by_key(&Some(id), of);
        position.ok().map(|position| self.rows[position] as usize)
    }
}

/// The rows by rising id.
pub(crate) fn by_id(ids: &[i64]) -> Result<Vec<u32>> {
    let id = |row: u32| ids[row as usize];
    let mut by_id = memory::collect(0..ids.len() as u32, ROW_NUMBERS)?;
    by_id.par_sort_unstable_by_key(|&row| id(row));
    match by_id.windows(2).find(|pair| id(pair[0]) == id(pair[1])) {
        None => Ok(by_id),
        Some(twice) => Err(given_twice(id(twice[0]))),
    }
}

/// For each row how many equal ones have lower ids.
pub(crate) fn duplicate_ranks(
    by_id: &[u32],
    hashes: &[u64],
    rows: Rows<'_, f32>,
) -> Result<Vec<u32>> {
    let mut duplicate_ranks = memory::zeroed(by_id.len(), ROW_NUMBERS)?;
    let hash = |&position: &u32| hashes[by_id[position as usize] as usize];
    let row = |&position: &u32| rows.row(by_id[position as usize] as usize);
    let mut order = memory::collect(0..by_id.len() as u32, ROW_NUMBERS)?;
    order.par_sort_unstable_by_key(|position| (hash(position), *position));
    let groups = order.chunk_by(|x, y| hash(x) == hash(y));
    for same in groups.filter(|same| same.len() > 1) {
        // Other rows of the same hash, if there ever are any, count as duplicates of none.
        let equal = same.iter().filter(|&other| row(other) == row(&same[0]));
        for (rank, &position) in (0..).zip(equal) {
            duplicate_ranks[by_id[position as usize] as usize] = rank;
        }
    }
    Ok(duplicate_ranks)
}

/// Refuses ids of which one comes twice.
pub(crate) fn check_unique(ids: &[i64]) -> Result<()> {
    let mut sorted = memory::copied(ids, ROW_NUMBERS)?;
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(given_twice(pair[0])),
    }
}

fn given_twice(id: i64) -> Error {
    Error::Id {
        id,
        problem: "is given twice; ids tell items apart",
    }
}

/// Refuses ids that are not as many as items.
pub(crate) fn check_count<T>(ids: &[i64], items: Rows<'_, T>) -> Result<()> {
    if ids.len() == items.len() {
        return Ok(());
    }
    Err(Error::parameter(
        "the number of ids",
        "that of items",
        ids.len(),
    ))
}
