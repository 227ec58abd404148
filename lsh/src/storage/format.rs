//! Arrays as a manifest names them: each the one tensor of a safetensors file.

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use crate::base::error::Result;

/// Data start at a whole cache line.
pub(crate) const ALIGN: usize = 64;

/// The type and shape of an array, as a manifest has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Shape {
    pub(crate) fn new(dtype: Dtype, shape: &[usize]) -> Self {
        let shape = shape.to_vec();
        Self { dtype, shape }
    }

    /// The length along the first dimension.
    pub(crate) fn length(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// The bytes of the file up to its data, and the number of bytes of these; `None` where they
    /// are too many to be addressed.
    pub(crate) fn header(&self, name: &str) -> Option<(Vec<u8>, usize)> {
        let values = self
            .shape
            .iter()
            .try_fold(1_usize, |values, &length| values.checked_mul(length))?;
        let bytes = values.checked_mul(self.dtype.bitsize() / 8)?;
        let info = TensorInfo {
            dtype: self.dtype,
            shape: self.shape.clone(),
            data_offsets: (0, bytes),
        };
        let metadata = Metadata::new(None, vec![(name.into(), info)]).ok()?;
        let mut text = serde_json::to_vec(&metadata).ok()?;
        let length = (text.len() + 8).next_multiple_of(ALIGN) - 8;
        text.resize(length, b' ');
        let mut header = (length as u64).to_le_bytes().to_vec();
        header.extend(text);
        Some((header, bytes))
    }
}

/// A file as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredArray {
    pub(crate) file: String,
    // The fields of `Shape`. It is not flattened: serde would then buffer all others.
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) chunk_bytes: usize,
    /// The checksum of each chunk of the data.
    pub(crate) xxh3: Vec<Checksum>,
}

impl StoredArray {
    pub(crate) fn shape(&self) -> Shape {
        Shape::new(self.dtype, &self.shape)
    }
}

/// A checksum; in a manifest, 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Checksum(pub(crate) u64);

impl From<Checksum> for String {
    fn from(Checksum(sum): Checksum) -> Self {
        format!("{sum:016x}")
    }
}

impl TryFrom<String> for Checksum {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let sum = u64::from_str_radix(&text, 16).map(Self);
        let sum = sum.ok().filter(|&sum| String::from(sum) == text);
        sum.ok_or("a checksum is not 16 hexadecimal digits")
    }
}

/// A file that is complete and on disk, but not yet named by a manifest.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) name: &'static str,
    pub(crate) stored: StoredArray,
}
