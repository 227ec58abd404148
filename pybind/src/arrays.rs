//! NumPy arrays in and out.

use std::str::FromStr;

use half::{bf16, f16};
use lshjoin::{BinaryMetric, JoinedPairs, KernelError, Keys, Narrow, Neighbors, Rows, memory};
use numpy::{
    Element, IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};

use crate::run::to_py;

/// An array of float32 or float64, as the vectors were.
pub(crate) type Distances<'py> = Bound<'py, PyAny>;

/// Vectors as they come from Python, by the precision that they are computed in.
pub(crate) enum Matrix<'py> {
    F32(Single<'py>),
    F64(PyReadonlyArray2<'py, f64>),
}

/// Vectors that are computed with in single precision. Narrow ones stay as they are.
pub(crate) enum Single<'py> {
    F32(PyReadonlyArray2<'py, f32>),
    F16(PyReadonlyArray2<'py, f16>),
    Bf16(PyReadonlyArray2<'py, bf16>),
    I8(PyReadonlyArray2<'py, i8>),
    U8(PyReadonlyArray2<'py, u8>),
}

impl<'py> FromPyObject<'_, 'py> for Matrix<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = object.extract() {
            return Ok(Matrix::F32(Single::F32(array)));
        }
        if let Ok(array) = object.extract() {
            return Ok(Matrix::F64(array));
        }
        if let Ok(array) = object.extract() {
            return Ok(Matrix::F32(Single::F16(array)));
        }
        if let Ok(array) = object.extract() {
            return Ok(Matrix::F32(Single::I8(array)));
        }
        if let Ok(array) = object.extract() {
            return Ok(Matrix::F32(Single::U8(array)));
        }
        // A dtype of no package that is here could not be asked for.
        if let Ok(array) = object.cast::<PyUntypedArray>()
            && array.dtype().getattr("name")?.eq("bfloat16")?
            && let Ok(array) = object.extract()
        {
            return Ok(Matrix::F32(Single::Bf16(array)));
        }
        Err(PyTypeError::new_err(format!(
            "expected a 2-D array of int8, uint8, float16, bfloat16, float32 or float64, not {}",
            object.get_type().name()?
        )))
    }
}

impl Single<'_> {
    /// The rows of the array, where they lie.
    pub(crate) fn rows(&self) -> PyResult<Rows<'_, f32>> {
        let (values, dim) = match self {
            Single::F32(array) => return rows(array),
            Single::F16(array) => (Narrow::F16(c_contiguous(array)?), array.shape()[1]),
            Single::Bf16(array) => (Narrow::Bf16(c_contiguous(array)?), array.shape()[1]),
            Single::I8(array) => (Narrow::I8(c_contiguous(array)?), array.shape()[1]),
            Single::U8(array) => (Narrow::U8(c_contiguous(array)?), array.shape()[1]),
        };
        Rows::narrow(values, dim).map_err(of_shape)
    }
}

/// Two sides of a join in one precision; without a left side, a self-join.
pub(crate) enum Sides<'py> {
    F32(Option<Single<'py>>, Single<'py>),
    F64(
        Option<PyReadonlyArray2<'py, f64>>,
        PyReadonlyArray2<'py, f64>,
    ),
}

impl<'py> Sides<'py> {
    pub(crate) fn new(left: Option<Matrix<'py>>, right: Matrix<'py>) -> PyResult<Self> {
        match (left, right) {
            (None, Matrix::F32(right)) => Ok(Sides::F32(None, right)),
            (None, Matrix::F64(right)) => Ok(Sides::F64(None, right)),
            (Some(Matrix::F32(left)), Matrix::F32(right)) => Ok(Sides::F32(Some(left), right)),
            (Some(Matrix::F64(left)), Matrix::F64(right)) => Ok(Sides::F64(Some(left), right)),
            _ => Err(PyTypeError::new_err(
                "float64 is joined with float64 alone: both sides must be, or neither",
            )),
        }
    }
}

/// The two sides of a join of vectors.
pub(crate) fn sides<'py>(
    queries: Option<&Bound<'py, PyAny>>,
    items: &Bound<'py, PyAny>,
) -> PyResult<Sides<'py>> {
    let queries: Option<Matrix<'_>> = queries.map(|array| array.extract()).transpose()?;
    Sides::new(queries, items.extract()?)
}

/// Rows of packed bits.
pub(crate) type Bits<'py> = PyReadonlyArray2<'py, u8>;

/// The two sides of a join of packed bits; without a left side, a self-join.
pub(crate) fn bits<'py>(
    queries: Option<&Bound<'py, PyAny>>,
    items: &Bound<'py, PyAny>,
) -> PyResult<(Option<Bits<'py>>, Bits<'py>)> {
    let queries = queries.map(|array| array.extract()).transpose()?;
    Ok((queries, items.extract()?))
}

/// The rows of both sides, where they lie.
pub(crate) fn bit_rows<'a>(
    (queries, items): &'a (Option<Bits<'_>>, Bits<'_>),
) -> PyResult<(Option<Rows<'a, u8>>, Rows<'a, u8>)> {
    Ok((queries.as_ref().map(rows).transpose()?, rows(items)?))
}

/// A metric of vectors or of packed bits, which tells what arrays hold.
#[derive(Clone, Copy)]
pub(crate) enum AnyMetric<M> {
    OfVectors(M),
    OfBits(BinaryMetric),
}

impl<M: FromStr> FromStr for AnyMetric<M> {
    type Err = M::Err;

    fn from_str(name: &str) -> Result<Self, M::Err> {
        match name.parse() {
            Ok(metric) => Ok(AnyMetric::OfBits(metric)),
            Err(_) => name.parse().map(AnyMetric::OfVectors),
        }
    }
}

/// Runs a body for the rows of a [`Matrix`], in whichever precision they are.
macro_rules! with_rows {
    ($matrix:expr, |$rows:ident| $body:expr) => {
        match $matrix {
            Matrix::F32(array) => {
                let $rows = array.rows()?;
                $body
            }
            Matrix::F64(array) => {
                let $rows = rows(array)?;
                $body
            }
        }
    };
}
pub(crate) use with_rows;

/// Runs a body for the optional left and the right rows of [`Sides`].
macro_rules! with_sides {
    ($sides:expr, |$left:ident, $right:ident| $body:expr) => {
        match $sides {
            $crate::arrays::Sides::F32(left, right) => {
                let left = left.as_ref().map(|left| left.rows());
                let ($left, $right) = (left.transpose()?, right.rows()?);
                $body
            }
            $crate::arrays::Sides::F64(left, right) => {
                let ($left, $right) = (left.as_ref().map(rows).transpose()?, rows(right)?);
                $body
            }
        }
    };
}
pub(crate) use with_sides;

/// The rows of an array, where they lie.
pub(crate) fn rows<'a, T: Element>(array: &'a PyReadonlyArray2<'_, T>) -> PyResult<Rows<'a, T>> {
    Rows::new(c_contiguous(array)?, array.shape()[1]).map_err(of_shape)
}

fn of_shape(error: KernelError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// All values, row after row. (`as_slice` alone would take Fortran order as well.)
pub(crate) fn c_contiguous<'a, T: Element>(
    array: &'a PyReadonlyArray2<'_, T>,
) -> PyResult<&'a [T]> {
    if !array.is_c_contiguous() {
        return Err(PyValueError::new_err("the array must be C-contiguous"));
    }
    Ok(array.as_slice()?)
}

/// The keys of the queries, if there are some, and of the items.
pub(crate) type KeyArrays<'py> = (
    Option<PyReadonlyArray1<'py, u32>>,
    PyReadonlyArray1<'py, u32>,
);

/// Keys, where they lie.
pub(crate) fn keys<'a>((queries, items): &'a KeyArrays<'_>) -> PyResult<Keys<'a>> {
    let queries = queries.as_ref().map(|keys| keys.as_slice()).transpose()?;
    Ok(Keys::new(items.as_slice()?).queries(queries))
}

/// A copy of values.
pub(crate) fn copied<T: Copy>(values: &[T]) -> PyResult<Vec<T>> {
    memory::copied(values, "copies of arrays").map_err(|error| to_py(error.into()))
}

/// Values in memory that is asked for.
pub(crate) fn collected<T>(values: impl IntoIterator<Item = T>) -> PyResult<Vec<T>> {
    memory::collect(values, "copies of arrays").map_err(|error| to_py(error.into()))
}

/// Row numbers, or where the rows of each query start.
pub(crate) type Indices<'py> = Bound<'py, PyArray1<i64>>;

/// Rows of both sides and distances of pairs, for a tuple.
pub(crate) fn joined<T: Element>(
    py: Python<'_>,
    pairs: JoinedPairs<T>,
) -> (Indices<'_>, Indices<'_>, Distances<'_>) {
    (
        pairs.left.into_pyarray(py),
        pairs.right.into_pyarray(py),
        pairs.distances.into_pyarray(py).into_any(),
    )
}

/// Distances and indices, both (queries, k), for a tuple.
pub(crate) fn neighbors<'py, T: Element>(
    py: Python<'py>,
    neighbors: Neighbors<T>,
) -> PyResult<(Distances<'py>, Bound<'py, PyArray2<i64>>)> {
    let shape = [neighbors.indices.len() / neighbors.k, neighbors.k];
    Ok((
        neighbors
            .distances
            .into_pyarray(py)
            .reshape(shape)?
            .into_any(),
        neighbors.indices.into_pyarray(py).reshape(shape)?,
    ))
}
