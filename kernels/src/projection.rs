//! Projection: a block of rows times the transposed directions, by faer's GEMM.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

use crate::rows::{Rows, Scalar};

/// Projects every row of `rows` on every direction.
///
/// `directions` is (functions, dim) row-major; `out` becomes (functions, rows): the projections
/// on one direction lie side by side, which is how [`crate::floor`] reads them. Single-threaded:
/// callers spread row blocks over threads. Which order faer sums in depends on the CPU, so the
/// result is only as exact as any order of summation; see [`crate::floor`] for what follows.
pub(crate) fn project<T: Scalar>(rows: Rows<'_, T>, directions: Rows<'_, T>, out: &mut [T]) {
    debug_assert_eq!(rows.dim(), directions.dim());
    debug_assert_eq!(out.len(), rows.len() * directions.len());
    T::gemm(
        MatMut::from_column_major_slice_mut(out, rows.len(), directions.len()),
        MatRef::from_row_major_slice(rows.values(), rows.len(), rows.dim()),
        MatRef::from_row_major_slice(directions.values(), directions.len(), directions.dim())
            .transpose(),
    );
}

/// The types that faer multiplies for us, by the same expression.
pub trait Gemm: Sized {
    #[doc(hidden)]
    fn gemm(out: MatMut<'_, Self>, left: MatRef<'_, Self>, right: MatRef<'_, Self>);
}

impl Gemm for f32 {
    fn gemm(out: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
        matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
    }
}

impl Gemm for f64 {
    fn gemm(out: MatMut<'_, f64>, left: MatRef<'_, f64>, right: MatRef<'_, f64>) {
        matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
    }
}
