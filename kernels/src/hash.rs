//! Rows to bucket ids and keys: projection, floor and packing, block by block, so that
//! projections never leave the cache.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    distance::{Measure, distance},
    error::{KernelError, Result},
    floor::{Step, floor_and_hash},
    isa::Isa,
    key::{KeyLayout, NO_RANGE},
    projection::project,
    rows::{Rows, Scalar},
};

/// How a projection becomes a bucket id.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Bucketing {
    /// `⌊(r·x + b) · (1 / w)⌋`: p-stable hashing (Datar et al. 2004), w being the bucket length.
    Width(f64),
    /// 1 where `r·x + b ≥ 0`, else 0: random hyperplanes (Charikar 2002).
    Sign,
}

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

/// Projections of a block are kept to this many values, half of a small L2 cache in f32.
const BLOCK_VALUES: usize = 1 << 16;

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
        if rows.len() != offsets.len() {
            return Err(KernelError::Shape {
                what: "offsets",
                got: offsets.len(),
                expected: rows.len(),
            });
        }
        crate::finite::check_finite(rows, Isa::SCALAR)?;
        crate::finite::check_finite(Rows::new(&offsets, 1)?, Isa::SCALAR)?;
        if let Bucketing::Width(width) = bucketing
            && !(width > 0.0 && width.is_finite() && width.recip().is_finite())
        {
            return Err(KernelError::BucketLength { width });
        }
        let norms = directions.chunks(dim).map(norm).collect();
        let directions_f32 = directions.iter().map(|&value| value as f32).collect();
        Ok(Self {
            dim,
            directions,
            directions_f32,
            norms,
            offsets,
            bucketing,
        })
    }

    /// Some of the functions, by their place.
    ///
    /// Panics when the range is out of bounds, as slices do.
    pub fn slice(&self, functions: Range<usize>) -> Self {
        let values = functions.start * self.dim..functions.end * self.dim;
        Self {
            dim: self.dim,
            directions: self.directions[values.clone()].to_vec(),
            directions_f32: self.directions_f32[values].to_vec(),
            norms: self.norms[functions.clone()].to_vec(),
            offsets: self.offsets[functions].to_vec(),
            bucketing: self.bucketing,
        }
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
        self.check_shape(rows, ids.len(), self.len(), "ids")?;
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
        self.check_shape(rows, 0, 0, "ids")?;
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

    /// Writes the keys of `rows`, (rows, tables), row-major: table t takes the functions after
    /// those of tables 0 to t − 1. `None` is the key of a row with an id outside the layout.
    ///
    /// # Errors
    /// As [`HashFunctions::bucket_ids`]; also when the layouts' functions are not as many as these.
    pub fn keys<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        layouts: &[KeyLayout],
        isa: Isa,
        keys: &mut [Option<u128>],
    ) -> Result<()> {
        self.check_layouts(rows, layouts, keys)?;
        if layouts.is_empty() {
            return Ok(());
        }
        let block = self.block_rows();
        first_error(
            keys.par_chunks_mut(block * layouts.len())
                .enumerate()
                .map_init(Vec::new, |projections, (index, keys)| {
                    let first = index * block;
                    let rows = rows.slice(first..first + keys.len() / layouts.len());
                    self.project_block(rows, projections)?;
                    self.keys_of_block(rows, first, projections, layouts, isa, keys)
                }),
        )?;
        Ok(())
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
        keys: &mut [Option<u128>],
    ) -> Result<()> {
        self.check_shape(rows, projections.len(), self.len(), "projections")?;
        self.check_layouts(rows, layouts, keys)?;
        if rows.is_empty() {
            return Ok(());
        }
        self.keys_of_block(rows, 0, projections, layouts, isa, keys)
    }

    /// The keys of one block, table by table: the ids of one stay in the first-level cache.
    fn keys_of_block<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        first: usize,
        projections: &[T],
        layouts: &[KeyLayout],
        isa: Isa,
        keys: &mut [Option<u128>],
    ) -> Result<()> {
        let norms = norms(rows, isa)?;
        let (mut ids, mut function) = (Vec::new(), 0);
        for (table, layout) in layouts.iter().enumerate() {
            let functions = function..function + layout.functions();
            function = functions.end;
            ids.resize(functions.len() * rows.len(), 0);
            self.ids_of_block(functions, rows, first, projections, &norms, isa, &mut ids)?;
            let keys = keys[table..].iter_mut().step_by(layouts.len());
            layout.pack_columns(&ids, keys, isa);
        }
        Ok(())
    }

    /// The ids of one block, (functions, rows): the ids of one function lie side by side.
    fn block_ids<T: Scalar>(&self, rows: Rows<'_, T>, first: usize, isa: Isa) -> Result<Vec<i32>> {
        let mut projections = Vec::new();
        self.project_block(rows, &mut projections)?;
        let (norms, mut ids) = (norms(rows, isa)?, vec![0; projections.len()]);
        let all = 0..self.len();
        self.ids_of_block(all, rows, first, &projections, &norms, isa, &mut ids)?;
        Ok(ids)
    }

    /// Sets `projections`, (functions, rows).
    fn project_block<T: Scalar>(&self, rows: Rows<'_, T>, projections: &mut Vec<T>) -> Result<()> {
        let directions = Rows::new(self.directions_in::<T>(), self.dim)?;
        projections.resize(rows.len() * self.len(), T::ZERO);
        project(rows, directions, projections);
        Ok(())
    }

    /// The ids by some functions, (functions, rows), from the projections on all.
    #[allow(clippy::too_many_arguments)]
    fn ids_of_block<T: Scalar>(
        &self,
        functions: Range<usize>,
        rows: Rows<'_, T>,
        first: usize,
        projections: &[T],
        norms: &[T],
        isa: Isa,
        ids: &mut [i32],
    ) -> Result<()> {
        let count = rows.len();
        let mut uncertain = Vec::new();
        for (function, ids) in functions.zip(ids.chunks_exact_mut(count)) {
            let step = self.step::<T>(function);
            let projections = &projections[function * count..][..count];
            floor_and_hash(step, projections, norms, ids, &mut uncertain, isa);
            for row in uncertain.drain(..) {
                let row = row as usize;
                ids[row] = self
                    .exact_id(rows.row(row), function, isa)
                    .map_err(|bucket| KernelError::BucketOverflow {
                        row: first + row,
                        function,
                        bucket,
                    })?;
            }
        }
        Ok(())
    }

    /// The id in double precision and a fixed order of summation: the definition.
    fn exact_id<T: Scalar>(&self, row: &[T], function: usize, isa: Isa) -> Result<i32, f64> {
        let row: Vec<f64> = row.iter().map(|value| value.to_f64()).collect();
        let direction = &self.directions[function * self.dim..][..self.dim];
        let projection = distance(Measure::Dot, &row, direction, isa).map_err(|_| f64::NAN)?;
        let place = projection + self.offsets[function];
        match self.bucketing {
            Bucketing::Sign => Ok(i32::from(place >= 0.0)),
            Bucketing::Width(width) => {
                let bucket = (place * (1.0 / width)).floor();
                let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&bucket);
                if fits { Ok(bucket as i32) } else { Err(bucket) }
            }
        }
    }

    /// The constants of the fast path, its guard included.
    ///
    /// The projection is off by at most γ‖x‖‖r‖ with γ = n·u / (1 − n·u), u the unit roundoff and
    /// n the dimension, plus 3 for rounding r, b and the scaling; the definition's own rounding,
    /// of the same form in double precision, is added.
    fn step<T: Scalar>(&self, function: usize) -> Step<T> {
        let inverse_width = match self.bucketing {
            Bucketing::Width(width) => 1.0 / width,
            Bucketing::Sign => 1.0,
        };
        let gamma = |roundoff: f64| {
            let nu = (self.dim + 3) as f64 * roundoff;
            if nu < 0.5 {
                nu / (1.0 - nu)
            } else {
                f64::INFINITY
            }
        };
        let error = gamma(T::UNIT_ROUNDOFF) + gamma(f64::UNIT_ROUNDOFF);
        // The guard itself is rounded a few times, and the norm is off by some γ.
        let slack = 1.0 + 8.0 * gamma(T::UNIT_ROUNDOFF);
        let offset = self.offsets[function];
        Step {
            offset: T::from_f64(offset),
            inverse_width: T::from_f64(inverse_width),
            guard_per_norm: T::from_f64(error * self.norms[function] * inverse_width * slack),
            guard: T::from_f64(8.0 * T::UNIT_ROUNDOFF * offset.abs() * inverse_width),
            sign: self.bucketing == Bucketing::Sign,
        }
    }

    fn directions_in<T: Scalar>(&self) -> &[T] {
        T::pick(&self.directions_f32, &self.directions)
    }

    fn block_rows(&self) -> usize {
        (BLOCK_VALUES / self.len().max(1) / 64 * 64).clamp(64, 1024)
    }

    fn check_layouts<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        layouts: &[KeyLayout],
        keys: &[Option<u128>],
    ) -> Result<()> {
        self.check_shape(rows, keys.len(), layouts.len(), "keys")?;
        let functions: usize = layouts.iter().map(KeyLayout::functions).sum();
        if functions != self.len() {
            return Err(KernelError::Shape {
                what: "key layouts",
                got: functions,
                expected: self.len(),
            });
        }
        Ok(())
    }

    fn check_shape<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        got: usize,
        per_row: usize,
        what: &'static str,
    ) -> Result<()> {
        if rows.dim() != self.dim {
            return Err(KernelError::Shape {
                what: "row",
                got: rows.dim(),
                expected: self.dim,
            });
        }
        let expected = rows.len() * per_row;
        if got != expected {
            return Err(KernelError::Shape {
                what,
                got,
                expected,
            });
        }
        Ok(())
    }
}

/// Each row's length; one too small to square counts as one that is not.
fn norms<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Result<Vec<T>> {
    let square = |row: &[T]| Ok(distance(Measure::Dot, row, row, isa)?.to_f64());
    (0..rows.len())
        .map(|row| Ok(T::from_f64(square(rows.row(row))?.sqrt().max(T::TINY_NORM))))
        .collect()
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Collects in order, so that of several errors the first row's is returned on every run.
fn first_error<R: Send>(results: impl IndexedParallelIterator<Item = Result<R>>) -> Result<Vec<R>> {
    results.collect::<Vec<_>>().into_iter().collect()
}
