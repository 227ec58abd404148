//! Hash functions, and rows to bucket ids and keys by them: projection, floor and packing, block by
//! block, so that projections never leave the cache.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    bucketing::{BucketRule, Bucketing},
    floor::{bucket, floor_and_hash, floor_and_pack},
    key::{KeyLayout, NO_RANGE},
    projection::project,
    tolerance::tolerances,
};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::Isa,
        memory,
    },
    distances::{exact::norms, measure::Measure, pairs::distance},
    rows::{finite::check_finite, matrix::Rows, scalar::Scalar, shape::check_len},
};

/// What memory is asked for.
const FUNCTIONS: &str = "hash functions";
const PROJECTIONS: &str = "projections";

/// Hash functions `h(x) = bucket(r·x + b)`, ready to be applied to many rows at once.
///
/// Ids are those of double-precision arithmetic in a fixed order, whatever the rows' precision,
/// the instruction set and the number of threads: what the fast path can't decide is done again.
///
/// ```
/// use lshjoin_kernels::{Bucketing, HashFunctions, Isa, Rows};
///
/// // Spark's own test: vectors (0, 1) and (1, 0), bucket length 0.5.
/// let functions =
///     HashFunctions::new(2, vec![0.0, 1.0, 1.0, 0.0], vec![0.0, 0.0], Bucketing::Width(0.5))?;
/// let mut ids = [0; 2];
/// functions.bucket_ids(Rows::new(&[1.23, 4.56], 2)?, Isa::best(), &mut ids)?;
/// assert_eq!(ids, [9, 2]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HashFunctions {
    dim: usize,
    directions: Vec<f64>,
    directions_f32: Vec<f32>,
    norms: Vec<f64>,
    offsets: Vec<f64>,
    bucketing: Bucketing,
}

/// Projections of a block are kept to this many values: 192 KB in f32, so that a second-level cache
/// has room for the rows and directions that they are made of.
const BLOCK_VALUES: usize = 3 << 14;

/// Rows that faer's kernel for AVX-512 multiplies at once; a rest takes as long as more of them.
const GEMM_ROWS: usize = 96;

impl HashFunctions {
    /// Functions with the given `directions` (functions, dim), row-major, and one offset each.
    ///
    /// # Errors
    /// When lengths do not match, a value is not finite, or the width is not a positive number.
    pub fn new(
        dim: usize,
        directions: Vec<f64>,
        offsets: Vec<f64>,
        bucketing: Bucketing,
    ) -> Result<Self> {
        let rows = Rows::new(&directions, dim)?;
        check_len("offsets", offsets.len(), rows.len())?;
        check_finite(rows, Isa::SCALAR)?;
        check_finite(Rows::new(&offsets, 1)?, Isa::SCALAR)?;
        if let Bucketing::Width(width) = bucketing
            && !(width > 0.0 && width.is_finite() && width.recip().is_finite())
        {
            return Err(KernelError::BucketLength { width });
        }
        let norms = norms(rows, Isa::SCALAR);
        let single = directions.iter().map(|&value| value as f32);
        let directions_f32 = memory::collect(single, FUNCTIONS)?;
        Ok(Self {
            dim,
            directions,
            directions_f32,
            norms,
            offsets,
            bucketing,
        })
    }

    /// Some of the functions, by their position.
    ///
    /// Panics when the range is out of bounds, as slices do.
    ///
    /// # Errors
    /// [`KernelError::Memory`].
    pub fn slice(&self, functions: Range<usize>) -> Result<Self> {
        let values = functions.start * self.dim..functions.end * self.dim;
        Ok(Self {
            dim: self.dim,
            directions: memory::copied(&self.directions[values.clone()], FUNCTIONS)?,
            directions_f32: memory::copied(&self.directions_f32[values], FUNCTIONS)?,
            norms: memory::copied(&self.norms[functions.clone()], FUNCTIONS)?,
            offsets: memory::copied(&self.offsets[functions], FUNCTIONS)?,
            bucketing: self.bucketing,
        })
    }

    /// Dimension of the rows they hash.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of functions.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is no function.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The directions r, (functions, dim), row-major.
    pub fn directions(&self) -> &[f64] {
        &self.directions
    }

    /// The offsets b, one a function.
    pub fn offsets(&self) -> &[f64] {
        &self.offsets
    }

    /// How projections become ids.
    pub fn bucketing(&self) -> Bucketing {
        self.bucketing
    }

    /// Writes the bucket ids of `rows`, (rows, functions), row-major.
    ///
    /// # Errors
    /// When shapes do not match, or a bucket does not fit 32 bits ([`KernelError::BucketOverflow`]).
    pub fn bucket_ids<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        isa: Isa,
        ids: &mut [i32],
    ) -> Result<()> {
        check_len("a row", rows.dim(), self.dim)?;
        check_len("ids", ids.len(), rows.len() * self.len())?;
        if self.is_empty() {
            return Ok(());
        }
        let block = self.block_rows();
        first_error(
            ids.par_chunks_mut(block * self.len())
                .enumerate()
                .map(|(index, out)| {
                    let first = index * block;
                    let rows = rows.slice(first..first + out.len() / self.len());
                    let by_function = self.block_ids::<T>(rows, first, isa)?;
                    for (function, column) in by_function.chunks(rows.len()).enumerate() {
                        for (row, &id) in column.iter().enumerate() {
                            out[row * self.len() + function] = id;
                        }
                    }
                    Ok(())
                }),
        )?;
        Ok(())
    }

    /// The lowest and highest id of each function over `rows`; [`NO_RANGE`] where there is no row.
    ///
    /// # Errors
    /// As [`HashFunctions::bucket_ids`].
    pub fn ranges<T: Scalar>(&self, rows: Rows<'_, T>, isa: Isa) -> Result<Vec<(i32, i32)>> {
        check_len("a row", rows.dim(), self.dim)?;
        let block = self.block_rows();
        let of_blocks = first_error((0..rows.len().div_ceil(block)).into_par_iter().map(
            |index| {
                let first = index * block;
                let rows = rows.slice(first..rows.len().min(first + block));
                let ids = self.block_ids::<T>(rows, first, isa)?;
                let range = |ids: &[i32]| {
                    ids.iter()
                        .fold(NO_RANGE, |(low, high), &id| (low.min(id), high.max(id)))
                };
                Ok(ids.chunks(rows.len()).map(range).collect::<Vec<_>>())
            },
        ))?;
        let mut ranges = vec![NO_RANGE; self.len()];
        for of_block in of_blocks {
            for (range, (low, high)) in ranges.iter_mut().zip(of_block) {
                *range = (range.0.min(low), range.1.max(high));
            }
        }
        Ok(ranges)
    }

    /// Writes the keys of `rows`, a column for each table: table t takes the functions after those
    /// of tables 0 to t − 1. Returns for each table the rows that have an id outside the layout,
    /// and so no key: rising, and what is written for them means nothing.
    ///
    /// # Errors
    /// As [`HashFunctions::bucket_ids`]; also when the layouts' functions are not as many as these.
    pub fn keys<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        layouts: &[KeyLayout],
        isa: Isa,
        keys: &mut [&mut [u128]],
    ) -> Result<Vec<Vec<usize>>> {
        self.check_layouts(rows, layouts, keys)?;
        let block = self.block_rows();
        let mut columns: Vec<_> = keys.iter_mut().map(|keys| keys.chunks_mut(block)).collect();
        let blocks: Vec<Vec<&mut [u128]>> = (0..rows.len().div_ceil(block))
            .map(|_| columns.iter_mut().filter_map(Iterator::next).collect())
            .collect();
        let rules = self.rules();
        let keyless = first_error(blocks.into_par_iter().enumerate().map_init(
            Vec::new,
            |projections, (index, mut keys)| {
                let first = index * block;
                let rows = rows.slice(first..rows.len().min(first + block));
                self.project_block(rows, projections)?;
                self.keys_of_block(rows, first, projections, layouts, &rules, isa, &mut keys)
            },
        ))?;
        let mut by_table = vec![Vec::new(); layouts.len()];
        for (table, row) in keyless.into_iter().flatten() {
            by_table[table].push(row);
        }
        Ok(by_table)
    }

    /// [`HashFunctions::keys`] of few rows whose projections are there, (functions, rows): for the
    /// benchmarks.
    #[doc(hidden)]
    pub fn keys_of_projections<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        projections: &[T],
        layouts: &[KeyLayout],
        isa: Isa,
        keys: &mut [&mut [u128]],
    ) -> Result<Vec<(usize, usize)>> {
        self.check_layouts(rows, layouts, keys)?;
        check_len("projections", projections.len(), rows.len() * self.len())?;
        let rules = self.rules();
        self.keys_of_block(rows, 0, projections, layouts, &rules, isa, keys)
    }

    /// The keys of one block, table by table; returns the tables and rows without one.
    #[allow(clippy::too_many_arguments)]
    fn keys_of_block<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        first: usize,
        projections: &[T],
        layouts: &[KeyLayout],
        rules: &[BucketRule<T>],
        isa: Isa,
        keys: &mut [&mut [u128]],
    ) -> Result<Vec<(usize, usize)>> {
        let count = rows.len();
        let tolerances = self.tolerances(rows, isa);
        let (mut unpacked, mut ids, mut wide) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keyless, mut function) = (Vec::new(), 0);
        for (table, (layout, keys)) in layouts.iter().zip(keys).enumerate() {
            let functions = function..function + layout.functions();
            function = functions.end;
            let rules = &rules[functions.clone()];
            let projections = &projections[functions.start * count..functions.end * count];
            match layout.limbs() {
                Some(limbs) => {
                    floor_and_pack(
                        rules,
                        limbs,
                        projections,
                        &tolerances,
                        keys,
                        &mut unpacked,
                        isa,
                    );
                }
                None => unpacked.extend(0..count as u32),
            }
            for row in unpacked.drain(..) {
                let row = row as usize;
                ids.clear();
                for (function, (&rule, column)) in functions
                    .clone()
                    .zip(rules.iter().zip(projections.chunks_exact(count)))
                {
                    ids.push(match bucket(rule, column[row], tolerances[row]) {
                        Some(id) => id,
                        None => {
                            self.exact_id(&rows.row(row), &mut wide, first + row, function, isa)?
                        }
                    });
                }
                match layout.pack(&ids) {
                    Some(key) => keys[row] = key,
                    None => keyless.push((table, first + row)),
                }
            }
        }
        Ok(keyless)
    }

    /// The ids of one block, (functions, rows): the ids of one function lie side by side.
    fn block_ids<T: Scalar>(&self, rows: Rows<'_, T>, first: usize, isa: Isa) -> Result<Vec<i32>> {
        let mut projections = Vec::new();
        self.project_block(rows, &mut projections)?;
        let tolerances = self.tolerances(rows, isa);
        let mut ids = memory::zeroed(projections.len(), PROJECTIONS)?;
        let (mut uncertain, mut wide) = (Vec::new(), Vec::new());
        let columns = projections.chunks_exact(rows.len());
        let by_function = ids.chunks_exact_mut(rows.len()).zip(columns);
        for (function, ((ids, column), rule)) in by_function.zip(self.rules()).enumerate() {
            floor_and_hash(rule, column, &tolerances, ids, &mut uncertain, isa);
            for row in uncertain.drain(..) {
                let row = row as usize;
                ids[row] = self.exact_id(&rows.row(row), &mut wide, first + row, function, isa)?;
            }
        }
        Ok(ids)
    }

    /// Sets `projections`, (functions, rows).
    fn project_block<T: Scalar>(&self, rows: Rows<'_, T>, projections: &mut Vec<T>) -> Result<()> {
        let directions = Rows::new(self.directions_in::<T>(), self.dim)?;
        let len = rows.len() * self.len();
        memory::resize(projections, len, T::ZERO, PROJECTIONS)?;
        project(rows, directions, projections);
        Ok(())
    }

    /// The id in double precision and a fixed order of summation: the definition. `wide` is room for
    /// the row, `index` its number, for the error.
    #[cold]
    fn exact_id<T: Scalar>(
        &self,
        row: &[T],
        wide: &mut Vec<f64>,
        index: usize,
        function: usize,
        isa: Isa,
    ) -> Result<i32> {
        wide.clear();
        wide.extend(row.iter().map(|value| value.to_f64()));
        let direction = &self.directions[function * self.dim..][..self.dim];
        let place = distance(Measure::Dot, wide, direction, isa)? + self.offsets[function];
        let bucket = self.bucketing.bucket(place);
        if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&bucket) {
            Ok(bucket as i32)
        } else {
            Err(KernelError::BucketOverflow {
                row: index,
                function,
                bucket,
            })
        }
    }

    /// The constants of the fast path, for each function.
    fn rules<T: Scalar>(&self) -> Vec<BucketRule<T>> {
        let rule = |&offset: &f64| self.bucketing.rule(offset);
        self.offsets.iter().map(rule).collect()
    }

    /// See [`tolerances`].
    fn tolerances<T: Scalar>(&self, rows: Rows<'_, T>, isa: Isa) -> Vec<T> {
        tolerances(rows, self.bucketing, &self.norms, &self.offsets, isa)
    }

    fn directions_in<T: Scalar>(&self) -> &[T] {
        T::pick(&self.directions_f32, &self.directions)
    }

    fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.len().max(1) / GEMM_ROWS * GEMM_ROWS).clamp(GEMM_ROWS, 960)
    }

    fn check_layouts<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        layouts: &[KeyLayout],
        keys: &[&mut [u128]],
    ) -> Result<()> {
        check_len("a row", rows.dim(), self.dim)?;
        check_len("key columns", keys.len(), layouts.len())?;
        for column in keys {
            check_len("keys", column.len(), rows.len())?;
        }
        let functions = layouts.iter().map(KeyLayout::functions).sum();
        check_len("key layouts", functions, self.len())
    }
}

/// Collects in order, so that of several errors the first row's is returned on every run.
fn first_error<R: Send>(results: impl IndexedParallelIterator<Item = Result<R>>) -> Result<Vec<R>> {
    results.collect::<Vec<_>>().into_iter().collect()
}
