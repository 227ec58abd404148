//! LSH models: tables of functions of one family, and the keys of rows in them.

use lshjoin_kernels::{
    Bucketing, HashFunctions, KeyLayout, KeyMode, NO_RANGE, Rows, Scalar, check_finite, memory,
};

use crate::{
    base::{
        check::{check_dimension, positive},
        context::Context,
        error::{Error, Result},
        metric::Distance,
    },
    lsh::{family::HashFamily, table::Table},
};

/// Rows hashed between two checks for cancelling: a fraction of a second.
const CHUNK: usize = 1 << 15;
/// Functions that rows are projected on in one go, but at least those of one table.
const FUNCTIONS_AT_ONCE: usize = 16;
/// Tables whose keys are held at a time.
const TABLES_AT_ONCE: usize = 4;

/// How an out-of-memory error names them.
const KEYS: &str = "keys";
const FUNCTIONS: &str = "hash functions";

/// Bytes that a hash function takes up beside its direction, at most: where a table has one
/// function, those of its key layout, which is there twice while it is made.
const OF_FUNCTION: usize = 1024;

/// L hash tables (OR) of k hash functions each (AND).
///
/// Two rows are candidates when all k functions of some table agree on them.
///
/// ```
/// use lshjoin::{BucketedRandomProjection, LshModel, Rows, Context};
///
/// let values: Vec<f32> = (0..400).map(|value| (value % 20) as f32).collect();
/// let rows = Rows::new(&values, 2)?;
/// let ctx = Context::new()?;
/// let family = BucketedRandomProjection { bucket_length: 4.0 };
/// let model = LshModel::fit(&family, rows, 1, 2, 12345, &ctx)?;
/// assert_eq!(model.hash(rows, &ctx)?.len(), 200 * 2);
/// let pairs = model.similarity_join(rows, None, 0.5, &ctx)?;
/// assert!(pairs.distances.iter().all(|&distance| distance < 0.5));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LshModel {
    distance: Distance,
    functions: HashFunctions,
    per_table: usize,
    layouts: Vec<KeyLayout>,
}

impl LshModel {
    /// Draws `tables` tables of `per_table` functions from `family` and measures on `rows` how
    /// wide their keys have to be.
    ///
    /// # Errors
    /// When a number is 0, the family refuses its parameters, a row holds NaN or infinity, or a
    /// bucket does not fit 32 bits; when there is no memory for so many functions.
    pub fn fit<T: Scalar>(
        family: &dyn HashFamily,
        rows: Rows<'_, T>,
        per_table: usize,
        tables: usize,
        seed: i64,
        ctx: &Context,
    ) -> Result<Self> {
        positive("num_hash_functions", per_table)?;
        positive("num_hash_tables", tables)?;
        let functions = per_table.saturating_mul(tables);
        // Before any is drawn, which takes its time.
        let of_direction = rows.dim() * (size_of::<f64>() + size_of::<f32>());
        let of_function = of_direction + OF_FUNCTION;
        memory::check(functions.saturating_mul(of_function), FUNCTIONS)?;
        let functions = family.draw(functions, rows.dim(), seed)?;
        let mut model = Self::from_functions(family.distance(), functions, per_table)?;
        check_finite(rows, ctx.isa())?;
        let ranges = ranges(&model.functions, rows, ctx)?;
        model.layouts = ranges.chunks(per_table).map(KeyLayout::new).collect();
        Ok(model)
    }

    /// A model of given functions, table after table, that has measured no rows yet.
    ///
    /// # Errors
    /// When `per_table` is 0 or does not divide the number of functions, or there is no memory for
    /// it.
    pub fn from_functions(
        distance: Distance,
        functions: HashFunctions,
        per_table: usize,
    ) -> Result<Self> {
        positive("num_hash_functions", per_table)?;
        if !functions.len().is_multiple_of(per_table) || functions.is_empty() {
            return Err(Error::parameter(
                "num_hash_functions",
                "a divisor of the number of directions",
                format!("{per_table} of {}", functions.len()),
            ));
        }
        memory::check(functions.len() * OF_FUNCTION, FUNCTIONS)?;
        let range = match functions.bucketing() {
            Bucketing::Sign => (0, 1),
            _ => NO_RANGE,
        };
        let layouts = vec![KeyLayout::new(&vec![range; per_table]); functions.len() / per_table];
        Ok(Self {
            distance,
            functions,
            per_table,
            layouts,
        })
    }

    /// The distance that the model's joins compute.
    pub fn distance(&self) -> Distance {
        self.distance
    }

    /// All functions, table after table.
    pub fn functions(&self) -> &HashFunctions {
        &self.functions
    }

    /// k, the functions of one table.
    pub fn functions_per_table(&self) -> usize {
        self.per_table
    }

    /// L, the number of tables.
    pub fn tables(&self) -> usize {
        self.layouts.len()
    }

    /// For each table, whether its keys are lossless or rehashed for rows like those fitted on.
    pub fn key_modes(&self) -> Vec<KeyMode> {
        self.layouts.iter().map(KeyLayout::mode).collect()
    }

    /// Bucket ids of `rows`, (rows, tables, functions of a table), row-major.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, or a bucket does not fit 32 bits.
    pub fn hash<T: Scalar>(&self, rows: Rows<'_, T>, ctx: &Context) -> Result<Vec<i32>> {
        self.check_dimension("rows", rows)?;
        check_finite(rows, ctx.isa())?;
        let mut ids = memory::zeroed(
            rows.len().saturating_mul(self.functions.len()),
            "bucket ids",
        )?;
        let chunks = chunks(rows.len(), ctx);
        for (chunk, ids) in chunks.zip(ids.chunks_mut(CHUNK * self.functions.len())) {
            ctx.check()?;
            let first = chunk.start;
            self.functions
                .bucket_ids(rows.slice(chunk.clone()), ctx.isa(), ids)
                .map_err(|error| error.after(first))?;
            ctx.advance(chunk.len());
        }
        Ok(ids)
    }

    /// Makes one table after the other, of `items` and, with the same keys, of `queries`, hands it
    /// to `join` and drops it.
    ///
    /// Keys are laid out for the buckets that the items are in. A query outside all of them shares
    /// none, and is left out of that table.
    pub(crate) fn for_each_table<T: Scalar>(
        &self,
        items: Rows<'_, T>,
        queries: Option<Rows<'_, T>>,
        ctx: &Context,
        mut join: impl FnMut(&Table, Option<&Table>) -> Result<()>,
    ) -> Result<()> {
        // Some tables at a time: projecting on one direction reads the rows as often as projecting
        // on many.
        let at_once = (FUNCTIONS_AT_ONCE / self.per_table).clamp(1, TABLES_AT_ONCE);
        for (group, layouts) in self.layouts.chunks(at_once).enumerate() {
            let first = group * at_once * self.per_table;
            let functions = self
                .functions
                .slice(first..first + layouts.len() * self.per_table)?;
            let mut layouts = layouts.to_vec();
            let mut of_items = keys(&functions, items, &layouts, ctx)?;
            if of_items.keyless.iter().any(|rows| !rows.is_empty()) {
                let ranges = ranges(&functions, items, ctx)?;
                for (layout, ranges) in layouts.iter_mut().zip(ranges.chunks(self.per_table)) {
                    *layout = layout.cover(ranges);
                }
                of_items = keys(&functions, items, &layouts, ctx)?;
            }
            let of_queries = queries
                .map(|queries| keys(&functions, queries, &layouts, ctx))
                .transpose()?;
            for (table, layout) in layouts.iter().enumerate() {
                ctx.check()?;
                let build = |keys: &Keys| {
                    let mut keyless = keys.keyless[table].iter().peekable();
                    let column = &keys.columns[table];
                    let mut rows = memory::empty(column.len(), KEYS)?;
                    let mut of_rows = memory::empty(column.len(), KEYS)?;
                    for (row, &key) in (0..).zip(column) {
                        if keyless.next_if_eq(&&row).is_none() {
                            rows.push(row);
                            of_rows.push(key);
                        }
                    }
                    Table::build(&rows, &of_rows, layout.bits())
                };
                let of_queries = of_queries.as_ref().map(build).transpose()?;
                join(&build(&of_items)?, of_queries.as_ref())?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_dimension<T: Scalar>(
        &self,
        what: &'static str,
        rows: Rows<'_, T>,
    ) -> Result<()> {
        check_dimension(what, rows, self.functions.dim())
    }
}

/// The keys of rows, a column for each table, and the rows of each that have none, rising.
struct Keys {
    columns: Vec<Vec<u128>>,
    keyless: Vec<Vec<u32>>,
}

/// The keys of rows in tables of these layouts.
fn keys<T: Scalar>(
    functions: &HashFunctions,
    rows: Rows<'_, T>,
    layouts: &[KeyLayout],
    ctx: &Context,
) -> Result<Keys> {
    let columns = layouts.iter().map(|_| memory::zeroed(rows.len(), KEYS));
    let mut columns: Vec<Vec<u128>> = columns.collect::<Result<_, _>>()?;
    let mut keyless = vec![Vec::new(); layouts.len()];
    for chunk in chunks(rows.len(), ctx) {
        ctx.check()?;
        let mut of_chunk: Vec<_> = columns
            .iter_mut()
            .map(|keys| &mut keys[chunk.clone()])
            .collect();
        let found = functions
            .keys(rows.slice(chunk.clone()), layouts, ctx.isa(), &mut of_chunk)
            .map_err(|error| error.after(chunk.start))?;
        for (keyless, found) in keyless.iter_mut().zip(found) {
            let found = found.iter().map(|row| (chunk.start + row) as u32);
            memory::extend(keyless, found, KEYS)?;
        }
        ctx.advance(chunk.len());
    }
    Ok(Keys { columns, keyless })
}

/// The least and the largest bucket of each function over these rows.
fn ranges<T: Scalar>(
    functions: &HashFunctions,
    rows: Rows<'_, T>,
    ctx: &Context,
) -> Result<Vec<(i32, i32)>> {
    let mut ranges = vec![NO_RANGE; functions.len()];
    for chunk in chunks(rows.len(), ctx) {
        ctx.check()?;
        let of_chunk = functions
            .ranges(rows.slice(chunk.clone()), ctx.isa())
            .map_err(|error| error.after(chunk.start))?;
        for (range, (low, high)) in ranges.iter_mut().zip(of_chunk) {
            *range = (range.0.min(low), range.1.max(high));
        }
        ctx.advance(chunk.len());
    }
    Ok(ranges)
}

/// Ranges of rows, which progress counts.
fn chunks(rows: usize, ctx: &Context) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    ctx.expect(rows);
    (0..rows)
        .step_by(CHUNK)
        .map(move |first| first..rows.min(first + CHUNK))
}
