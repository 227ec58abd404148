//! Errors of the whole crate.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use lshjoin_kernels::KernelError;
use thiserror::Error;

/// What a model or a join refuses, with the offending value and what to do.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// From a kernel: shapes, values that are not finite, bucket ids out of range.
    #[error(transparent)]
    Kernel(KernelError),
    /// There is not enough memory.
    #[error("there is no memory for {bytes} bytes of {what}")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// How much, at least.
        bytes: usize,
    },
    /// A parameter outside its range.
    #[error("{name} must be {must_be}, not {value}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What it must be.
        must_be: &'static str,
        /// What was given.
        value: String,
    },
    /// Two sides, or a model and rows, of different dimensions.
    #[error("{what} have dimension {got}, but {expected} is needed")]
    Dimension {
        /// Which rows.
        what: &'static str,
        /// Their dimension.
        got: usize,
        /// The dimension of the model or of the other side.
        expected: usize,
    },
    /// NaN or infinity on one side of a join.
    #[error(
        "row {row} of {side} holds {value} at dimension {dimension}; remove or replace values that are not finite"
    )]
    NotFinite {
        /// `"queries"` or `"items"`.
        side: &'static str,
        /// Row index.
        row: usize,
        /// Index within the row.
        dimension: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A value so large that distances would not fit the type of the rows.
    #[error(
        "row {row} of {side} holds {value:e} at dimension {dimension}; {metric} distances of such rows \
         fit float{bits} for values up to {largest:e}: scale all vectors by one factor"
    )]
    TooLarge {
        /// `"queries"` or `"items"`.
        side: &'static str,
        /// Row index.
        row: usize,
        /// Index within the row.
        dimension: usize,
        /// The value.
        value: f64,
        /// The largest magnitude for which all distances fit.
        largest: f64,
        /// Name of the metric.
        metric: &'static str,
        /// Bits of the rows' type.
        bits: usize,
    },
    /// A set that has no hash value.
    #[error("row {row} {problem}")]
    Set {
        /// Row index.
        row: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An id that an index cannot take, or does not have.
    #[error("id {id} {problem}")]
    Id {
        /// The user's id.
        id: i64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file of an index that is not what was saved.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system could not read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        source: SystemError,
    },
    /// The call was cancelled by [`crate::Context::cancel`].
    #[error("cancelled")]
    Cancelled,
}

/// An [`io::Error`] that can be cloned, and compared by its kind and words.
#[derive(Debug, Clone)]
pub struct SystemError(Arc<io::Error>);

impl SystemError {
    /// What kind of error it is.
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl PartialEq for SystemError {
    fn eq(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.to_string() == other.to_string()
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SystemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Error {
    pub(crate) fn parameter(
        name: &'static str,
        must_be: &'static str,
        value: impl ToString,
    ) -> Self {
        let value = value.to_string();
        Self::Parameter {
            name,
            must_be,
            value,
        }
    }

    pub(crate) fn damaged(path: &Path, problem: &str) -> Self {
        Self::Damaged {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// The same error with its row counted from the start of a larger matrix, in which `rows` rows
    /// come before these.
    pub(crate) fn after(mut self, rows: usize) -> Self {
        if let Self::NotFinite { row, .. } | Self::TooLarge { row, .. } = &mut self {
            *row += rows;
        }
        self
    }

    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::OutOfMemory {
            // The system does not say how much was asked for.
            return Self::Memory {
                what: "a file",
                bytes: path.metadata().map_or(0, |file| file.len() as usize),
            };
        }
        Self::Io {
            path: path.into(),
            source: SystemError(Arc::new(error)),
        }
    }
}

impl From<KernelError> for Error {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Memory { what, bytes } => Error::Memory { what, bytes },
            other => Error::Kernel(other),
        }
    }
}

impl From<(&'static str, KernelError)> for Error {
    /// Says which side of a join the error is about.
    fn from((side, error): (&'static str, KernelError)) -> Self {
        match error {
            KernelError::NotFinite {
                row,
                dimension,
                value,
            } => Error::NotFinite {
                side,
                row,
                dimension,
                value,
            },
            other => other.into(),
        }
    }
}

/// Result of a model or a join.
pub type Result<T, E = Error> = std::result::Result<T, E>;
