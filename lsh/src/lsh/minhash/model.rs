//! MinHash models: tables of min-wise functions, and what sets hash to.

use lshjoin_kernels::{KeyLayout, KeyMode, MinHashFunction, memory, min_hashes};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        check::positive,
        context::Context,
        error::{Error, Result},
    },
    lsh::{
        minhash::{
            sets::{HASH_PRIME, Sets},
            sketch::Sketch,
        },
        spark::java_random::JavaRandom,
        table::Table,
    },
};

/// Sets hashed as one step of work.
const CHUNK: usize = 1 << 10;
/// Functions of a set between two checks for cancelling.
const AT_ONCE: usize = 16;
/// Bytes that a function takes up in the layout of keys, at most.
const OF_FUNCTION: usize = 256;

/// How an out-of-memory error names them.
const FUNCTIONS: &str = "hash functions";

/// L hash tables (OR) of k min-wise hash functions each (AND), for the Jaccard distance of sets,
/// 1 − |A ∩ B| / |A ∪ B|.
///
/// A function is `min((1 + e) · a + b mod 2038074743)` over the elements e of a set: two sets agree
/// on it with a probability of about their similarity (Broder 1997; linear functions by Bohman, Cooper
/// and Frieze 2000). With k = 1 it is Spark's `MinHashLSH` to the bit.
///
/// ```
/// use lshjoin::{Context, MinHashModel, Sets};
///
/// let ctx = Context::new()?;
/// let sets = Sets::new(&[0, 3, 7, 9], &[0_u32, 1, 2, 0, 1, 2, 3, 8, 9], &ctx)?;
/// let model = MinHashModel::draw(1, 5, 12345)?;
/// assert_eq!(model.hash(&sets, &ctx)?.len(), 3 * 5);
/// let pairs = model.similarity_join(&sets, None, 0.5, &ctx)?;
/// assert_eq!((pairs.left[1], pairs.right[1], pairs.distances[1]), (0, 1, 0.25));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinHashModel {
    coefficients: Vec<(i32, i32)>,
    per_table: usize,
    layout: KeyLayout,
}

impl MinHashModel {
    /// Draws `tables` tables of `per_table` functions, from java.util.Random as Spark does.
    ///
    /// # Errors
    /// When a number is 0, or there is no memory for so many functions.
    pub fn draw(per_table: usize, tables: usize, seed: i64) -> Result<Self> {
        positive("num_hash_functions", per_table)?;
        positive("num_hash_tables", tables)?;
        let mut rng = JavaRandom::new(seed);
        let mut pair = || {
            let a = 1 + rng.below(HASH_PRIME - 1);
            (a as i32, rng.below(HASH_PRIME - 1) as i32)
        };
        let functions = per_table.saturating_mul(tables);
        let drawn = memory::collect((0..functions).map(|_| pair()), FUNCTIONS)?;
        Self::from_coefficients(drawn, per_table)
    }

    /// A model of given functions, pairs (a, b), table after table.
    ///
    /// # Errors
    /// When `per_table` is 0 or does not divide the number of functions, an a is not in
    /// 1..2038074743 or a b not in 0..2038074743, or there is no memory for it.
    pub fn from_coefficients(coefficients: Vec<(i32, i32)>, per_table: usize) -> Result<Self> {
        positive("num_hash_functions", per_table)?;
        let functions = coefficients.len();
        if !functions.is_multiple_of(per_table) || functions == 0 {
            return Err(Error::parameter(
                "num_hash_functions",
                "a divisor of the number of pairs of coefficients",
                format!("{per_table} of {functions}"),
            ));
        }
        let below = |value: i32, least| (least..HASH_PRIME as i32).contains(&value);
        if let Some(pair) = coefficients
            .iter()
            .find(|&&(a, b)| !below(a, 1) || !below(b, 0))
        {
            return Err(Error::parameter(
                "coefficients",
                "pairs (a, b) of 1 <= a < 2038074743 and 0 <= b < 2038074743",
                format!("{pair:?}"),
            ));
        }
        memory::check(per_table.saturating_mul(OF_FUNCTION), FUNCTIONS)?;
        let ranges = memory::filled((0, HASH_PRIME as i32 - 1), per_table, FUNCTIONS)?;
        Ok(Self {
            coefficients,
            per_table,
            layout: KeyLayout::new(&ranges),
        })
    }

    /// a and b of all functions, table after table.
    pub fn coefficients(&self) -> &[(i32, i32)] {
        &self.coefficients
    }

    /// k, the functions of one table.
    pub fn functions_per_table(&self) -> usize {
        self.per_table
    }

    /// L, the number of tables.
    pub fn tables(&self) -> usize {
        self.coefficients.len() / self.per_table
    }

    /// Whether the keys of the tables are lossless or rehashed.
    pub fn key_mode(&self) -> KeyMode {
        self.layout.mode()
    }

    /// Hash values of `sets`, (sets, tables, functions of a table), row-major.
    ///
    /// # Errors
    /// When there is no memory for them, or the run is cancelled.
    pub fn hash(&self, sets: &Sets, ctx: &Context) -> Result<Vec<i32>> {
        let count = self.coefficients.len();
        let mut values = memory::zeroed(sets.len().saturating_mul(count), "hash values")?;
        let functions = self.coefficients.iter();
        let functions = functions.map(|&(a, b)| MinHashFunction::new(a as u32, b as u32));
        let functions = memory::collect(functions, FUNCTIONS)?;
        ctx.expect(sets.len());
        let chunks = values.par_chunks_mut(count.saturating_mul(CHUNK));
        chunks.enumerate().try_for_each(|(chunk, values)| {
            let rows = values.len() / count;
            for (row, values) in (chunk * CHUNK..).zip(values.chunks_mut(count)) {
                let some = functions.chunks(AT_ONCE).zip(values.chunks_mut(AT_ONCE));
                for (functions, values) in some {
                    ctx.check()?;
                    min_hashes(sets.get(row), functions, ctx.isa(), values)?;
                }
            }
            ctx.advance(rows);
            Ok::<_, Error>(())
        })?;
        Ok(values)
    }
}

/// Sets and what they hash to.
pub(crate) struct HashedSets<'a> {
    model: &'a MinHashModel,
    sets: &'a Sets,
    values: Vec<i32>,
    sketches: Vec<Sketch>,
}

impl<'a> HashedSets<'a> {
    pub(crate) fn new(model: &'a MinHashModel, sets: &'a Sets, ctx: &Context) -> Result<Self> {
        let values = model.hash(sets, ctx)?;
        let sketches = (0..sets.len()).into_par_iter();
        let sketches = sketches.map(|row| Sketch::of(sets.get(row)));
        Ok(Self {
            model,
            sets,
            values,
            sketches: memory::par_collect(sketches, "sketches of sets")?,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// The buckets of one table.
    pub(crate) fn table(&self, table: usize) -> Result<Table> {
        let layout = &self.model.layout;
        let keys = (0..self.len()).into_par_iter().map(|row| {
            layout
                .pack(self.hash(row as u32, table))
                .unwrap_or_default()
        });
        let keys = memory::par_collect(keys, "keys")?;
        let rows = memory::collect(0..self.len() as u32, ROW_NUMBERS)?;
        Table::build(&rows, &keys, layout.bits())
    }

    fn hash(&self, row: u32, table: usize) -> &[i32] {
        let first = row as usize * self.model.coefficients.len() + table * self.model.per_table;
        &self.values[first..first + self.model.per_table]
    }

    /// Whether `table` is the first in which these two share a bucket.
    fn meet_first(&self, row: u32, others: &Self, other: u32, table: usize) -> bool {
        let meet = |table| self.hash(row, table) == others.hash(other, table);
        meet(table) && !(0..table).any(meet)
    }

    /// The Jaccard distance, if it is below `limit` and `table` is the first in which these two share a
    /// bucket.
    pub(crate) fn nearer(
        &self,
        row: u32,
        others: &Self,
        other: u32,
        table: usize,
        limit: f64,
    ) -> Option<f64> {
        let (x, y) = (self.sets.get(row as usize), others.sets.get(other as usize));
        let distance = |common: usize| {
            // Operations are Spark's; the more there is in common, the less it is, rounded or not.
            1.0 - common as f64 / (x.len() + y.len() - common) as f64
        };
        let below = |distance: f64| (distance < limit).then_some(distance);
        let sketch = &self.sketches[row as usize];
        let most = sketch.most_in_common(&others.sketches[other as usize]);
        // Most candidates are not near, and are done with here.
        below(distance(most.min(x.len()).min(y.len())))?;
        if !self.meet_first(row, others, other, table) {
            return None;
        }
        below(distance(in_common(x, y)))
    }
}

/// How many numbers two rising lists share.
fn in_common(x: &[u32], y: &[u32]) -> usize {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while let (Some(a), Some(b)) = (x.get(i), y.get(j)) {
        common += usize::from(a == b);
        i += usize::from(a <= b);
        j += usize::from(b <= a);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the model that Spark 4.3.0 fits with this seed, and what it makes of these sets.
    #[test]
    fn functions_are_sparks() {
        let model = MinHashModel::draw(1, 3, 12345).unwrap();
        assert_eq!(
            model.coefficients(),
            [
                (776966252, 1102109080),
                (2003588242, 1969488828),
                (1789050056, 80902084)
            ]
        );
        let ctx = Context::new().unwrap();
        let sets = Sets::new(&[0, 3, 6, 8], &[0, 1, 2, 2, 3, 4, 2, 4_u32], &ctx).unwrap();
        assert_eq!(
            model.hash(&sets, &ctx).unwrap(),
            [
                [617966841, 1866029325, 1371902766],
                [133824602, 1797056323, 873853392],
                [910790854, 1797056323, 873853392]
            ]
            .concat()
        );
    }

    #[test]
    fn coefficients_out_of_range_are_refused() {
        for pair in [
            (0, 0),
            (-1, 0),
            (1, -1),
            (i32::MAX, 0),
            (1, HASH_PRIME as i32),
        ] {
            let error = MinHashModel::from_coefficients(vec![(1, 0), pair], 1).unwrap_err();
            assert!(error.to_string().contains(&format!("{pair:?}")), "{error}");
        }
        assert!(MinHashModel::from_coefficients(vec![(1, 0); 3], 2).is_err());
        assert!(MinHashModel::from_coefficients(Vec::new(), 1).is_err());
        assert!(MinHashModel::draw(0, 1, 0).is_err());
        assert!(MinHashModel::draw(1, 0, 0).is_err());
        assert!(matches!(
            MinHashModel::draw(usize::MAX, 2, 0),
            Err(Error::Memory { .. })
        ));
    }

    #[test]
    fn largest_elements_and_coefficients_do_not_overflow() {
        let ctx = Context::new().unwrap();
        let largest = HASH_PRIME - 1;
        let sets = Sets::new(&[0, 1], &[largest], &ctx).unwrap();
        let pair = (largest as i32, largest as i32);
        let model = MinHashModel::from_coefficients(vec![pair], 1).unwrap();
        // 1 + e is 0 modulo the prime, so that b is left.
        assert_eq!(model.hash(&sets, &ctx).unwrap(), [pair.1]);
    }

    #[test]
    fn a_cancelled_run_ends() {
        let ctx = Context::new().unwrap();
        let sets = Sets::new(&[0, 1], &[3_u32], &ctx).unwrap();
        let model = MinHashModel::draw(1, 1, 0).unwrap();
        ctx.cancel();
        assert_eq!(model.hash(&sets, &ctx), Err(Error::Cancelled));
        assert_eq!(Sets::new(&[0, 1], &[3_u32], &ctx), Err(Error::Cancelled));
    }
}
