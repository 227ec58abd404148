//! Projection: a block of rows times the transposed directions, by faer's GEMM.

use faer::{MatMut, MatRef};

use crate::rows::{matrix::Rows, scalar::Scalar};

/// Projects every row of `rows` on every direction.
///
/// `directions` is (functions, dim) row-major; `out` becomes (functions, rows): the projections
/// on one direction lie side by side, which is how [`floor`](super::floor) reads them. Single-threaded:
/// callers spread row blocks over threads. Which order faer sums in depends on the CPU, so the
/// result is only as exact as any order of summation; see [`floor`](super::floor) for what follows.
pub(crate) fn project<T: Scalar>(rows: Rows<'_, T>, directions: Rows<'_, T>, out: &mut [T]) {
    debug_assert_eq!(rows.dim(), directions.dim());
    debug_assert_eq!(out.len(), rows.len() * directions.len());
    let (mut of_rows, mut of_directions) = (Vec::new(), Vec::new());
    let matrix = |of: Rows<'_, T>, values| MatRef::from_row_major_slice(values, of.len(), of.dim());
    T::gemm(
        MatMut::from_column_major_slice_mut(out, rows.len(), directions.len()),
        matrix(rows, rows.values_in(&mut of_rows)),
        matrix(directions, directions.values_in(&mut of_directions)).transpose(),
    );
}
