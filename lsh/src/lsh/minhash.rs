//! MinHash: sets, their hash functions, and joins of them by Jaccard distance. Begin with [`model`].

pub(crate) mod model;
pub(crate) mod nearest;
pub(crate) mod sets;
pub(crate) mod similarity;
pub(crate) mod sketch;

#[cfg(test)]
mod tests {
    //! Sets and joins for the tests of the modules.

    use std::collections::BTreeSet;

    use crate::{
        base::context::Context,
        lsh::minhash::{model::MinHashModel, sets::Sets},
    };

    /// Sets of 1 to 9 numbers, of which neighbours have most in common; some are equal.
    pub(super) fn overlapping(rows: u32, first: u32, ctx: &Context) -> Sets {
        let (mut offsets, mut elements) = (vec![0], Vec::new());
        for row in first..first + rows {
            elements.extend((0..1 + row % 9).map(|at| row / 4 + at * at));
            offsets.push(elements.len());
        }
        Sets::new(&offsets, &elements, ctx).unwrap()
    }

    /// The pairs that agree in a table, and their distances, by rows.
    pub(super) fn brute_force(
        model: &MinHashModel,
        left: &Sets,
        right: &Sets,
        ctx: &Context,
    ) -> Vec<(i64, i64, f64)> {
        let (functions, per_table) = (model.coefficients().len(), model.functions_per_table());
        let hashes = |sets| model.hash(sets, ctx).unwrap();
        let (of_left, of_right) = (hashes(left), hashes(right));
        let mut pairs = Vec::new();
        for (i, x) in of_left.chunks(functions).enumerate() {
            for (j, y) in of_right.chunks(functions).enumerate() {
                let mut tables = x.chunks(per_table).zip(y.chunks(per_table));
                if tables.any(|(x, y)| x == y) {
                    let (x, y) = (set(left, i), set(right, j));
                    let common = x.intersection(&y).count() as f64;
                    let distance = 1.0 - common / x.union(&y).count() as f64;
                    pairs.push((i as i64, j as i64, distance));
                }
            }
        }
        pairs
    }

    fn set(sets: &Sets, row: usize) -> BTreeSet<u32> {
        sets.get(row).iter().copied().collect()
    }
}
