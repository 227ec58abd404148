//! What kernels refuse.

use thiserror::Error;

/// What a kernel refuses, with the offending value.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An instruction set was asked for that this machine, or this build, does not have.
    #[error("instruction set `{asked}` is not available here; this machine has {available}")]
    IsaUnavailable {
        /// The name asked for.
        asked: String,
        /// The names that would work, comma-separated.
        available: String,
    },
    /// A name that is no instruction set.
    #[error("`{asked}` is not an instruction set; use one of {known}")]
    IsaUnknown {
        /// The name asked for.
        asked: String,
        /// All known names, comma-separated.
        known: String,
    },
    /// A buffer whose length does not match the shape it is said to have.
    #[error("{what} holds {got} values but must hold {expected}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length its shape asks for.
        expected: usize,
    },
    /// Rows of no dimension.
    #[error("rows must have at least one dimension")]
    NoDimension,
    /// Rows of packed bits that are longer than can be counted.
    #[error("rows of {bytes} bytes are too long; at most {limit} can be handled")]
    TooWide {
        /// Bytes of a row.
        bytes: usize,
        /// The largest number that works.
        limit: usize,
    },
    /// More rows than can be numbered or allocated.
    #[error("{rows} rows are too many; at most {limit} can be handled at once")]
    TooManyRows {
        /// Number of rows.
        rows: usize,
        /// The largest number that works.
        limit: usize,
    },
    /// Memory that the system has not.
    #[error("there is no memory for {bytes} bytes of {what}")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// How much, at least.
        bytes: usize,
    },
    /// An index to a row that does not exist.
    #[error("{what} refer to row {index} but there are only {rows} rows")]
    RowOutOfRange {
        /// Which argument.
        what: &'static str,
        /// The offending index.
        index: usize,
        /// Number of rows.
        rows: usize,
    },
    /// Lists of nearest neighbours of no length.
    #[error("the number of neighbours must be at least 1")]
    NoNeighbours,
    /// NaN or infinity in the input.
    #[error(
        "row {row} holds {value} at dimension {dimension}; remove or replace values that are not finite"
    )]
    NotFinite {
        /// Row index.
        row: usize,
        /// Index within the row.
        dimension: usize,
        /// The value, NaN or an infinity.
        value: f64,
    },
    /// A value that is larger than what is asked for can take.
    #[error(
        "row {row} holds {value} at dimension {dimension}; values may be up to {largest}: scale all vectors by one factor"
    )]
    TooLarge {
        /// Row index.
        row: usize,
        /// Index within the row.
        dimension: usize,
        /// The value.
        value: f64,
        /// The largest magnitude that can be taken.
        largest: f64,
    },
    /// A bucket id that does not fit 32 bits.
    #[error(
        "row {row}, hash function {function}: bucket {bucket} does not fit a 32-bit id; use a larger bucket length or scale the data down"
    )]
    BucketOverflow {
        /// Row index.
        row: usize,
        /// Hash function index.
        function: usize,
        /// The bucket, as the floating-point floor.
        bucket: f64,
    },
    /// Two panels packed for different instruction sets.
    #[error(
        "a panel packed for `{left}` cannot be joined with one packed for `{right}`; pack both for one instruction set"
    )]
    Packing {
        /// The name of the left panel's instruction set.
        left: &'static str,
        /// The right panel's.
        right: &'static str,
    },
    /// A bucket length that is no width.
    #[error("bucket length must be a positive, finite number, not {width}")]
    BucketLength {
        /// The length given.
        width: f64,
    },
}

impl KernelError {
    /// The same error for rows that are the part of a larger matrix after its first `rows`.
    pub fn after(mut self, rows: usize) -> Self {
        if let Self::NotFinite { row, .. }
        | Self::TooLarge { row, .. }
        | Self::BucketOverflow { row, .. } = &mut self
        {
            *row += rows;
        }
        self
    }
}

/// Result of a kernel.
pub type Result<T, E = KernelError> = std::result::Result<T, E>;
