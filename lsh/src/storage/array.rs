//! The arrays of an index: each the one tensor of a safetensors file, or of the same bytes in
//! memory.

use std::{
    fs::OpenOptions,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytemuck::Pod;
use lshjoin_kernels::Mmap;
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
    },
    storage::{
        files::{anonymous, is_name_of, mapped_file, open_regular},
        format::{Checksum, Shape, StoredArray},
    },
};

// Mapped values are read as they are, with no byte swapped.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little-endian"
);

/// Bytes that share a checksum, and are checked together when one of them is first read.
pub(crate) const CHUNK: usize = 1 << 20;

/// A complete array, mapped or in memory.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) bytes: Mmap,
    /// Where the data start.
    pub(crate) start: usize,
    pub(crate) shape: Shape,
    pub(crate) check: Option<Check>,
}

/// The checksums of a file, and which chunks of it have been checked.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) path: PathBuf,
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) sound: Vec<AtomicBool>,
}

impl Array {
    /// Opens a file of `directory`; data are mapped, and checked when they are read first, or else
    /// read into memory.
    ///
    /// # Errors
    /// When the file is missing or is not the one that the manifest names, or the run is cancelled.
    pub(crate) fn open(
        directory: &Path,
        name: &str,
        stored: &StoredArray,
        mapped: bool,
        ctx: &Context,
    ) -> Result<Self> {
        let path = directory.join(&stored.file);
        let altered = |what: &str| Error::damaged(&path, what);
        if !is_name_of(name, &stored.file) {
            let problem = format!("the manifest gives {name} the name of a file that no array has");
            return Err(Error::damaged(directory, &problem));
        }
        let (header, bytes) = stored
            .shape()
            .header(name)
            .ok_or_else(|| altered("the manifest gives it an impossible shape"))?;
        if stored.chunk_bytes != CHUNK || stored.xxh3.len() != bytes.div_ceil(CHUNK) {
            return Err(altered("the manifest has other checksums than it needs"));
        }
        let io = |error| Error::io(&path, error);
        let mut file = open_regular(&path, OpenOptions::new().read(true))?;
        let length = file.metadata().map_err(io)?.len();
        let expected = (header.len() + bytes) as u64;
        if length != expected {
            return Err(altered(&format!(
                "it has {length} bytes where {expected} were written"
            )));
        }
        let contents = if mapped {
            mapped_file(&file).map_err(io)?
        } else {
            let mut contents = anonymous(header.len() + bytes)?;
            for part in contents.chunks_mut(CHUNK) {
                ctx.check()?;
                file.read_exact(part).map_err(io)?;
            }
            contents.make_read_only().map_err(io)?
        };
        if !contents.starts_with(&header) {
            return Err(altered("its header is not the one that was written"));
        }
        Ok(Self {
            bytes: contents,
            start: header.len(),
            shape: stored.shape(),
            check: Some(Check {
                sound: stored.xxh3.iter().map(|_| AtomicBool::new(false)).collect(),
                path,
                checksums: stored.xxh3.clone(),
            }),
        })
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// All data, unchecked.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The data as values of their type.
    pub(crate) fn values<V: Pod>(&self) -> &[V] {
        // This always succeeds: every file is aligned, and holds whole values.
        bytemuck::try_cast_slice(self.data()).unwrap_or_default()
    }

    /// An error about this array's file.
    pub(crate) fn damaged(&self, problem: &str) -> Error {
        let path = self.check.as_ref().map(|check| check.path.as_path());
        Error::damaged(path.unwrap_or(Path::new("the index")), problem)
    }

    /// To be called before these bytes of the data are read; checks each chunk once.
    ///
    /// # Errors
    /// When they are not what was written.
    pub(crate) fn check(&self, bytes: Range<usize>) -> Result<()> {
        let Some(check) = &self.check else {
            return Ok(());
        };
        for chunk in bytes.start / CHUNK..bytes.end.div_ceil(CHUNK) {
            if !check.sound[chunk].load(Ordering::Relaxed) {
                self.check_chunk(check, chunk)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn check_chunk(&self, check: &Check, chunk: usize) -> Result<()> {
        let start = chunk * CHUNK;
        let end = self.data().len().min(start + CHUNK);
        let data = &self.data()[start..end];
        let damaged = |problem: String| Err(Error::damaged(&check.path, &problem));
        if Checksum(xxh3_64(data)) != check.checksums[chunk] {
            return damaged(format!(
                "bytes {start} to {end} of its data are not what was written"
            ));
        }
        // Checksums tell of accidents; whoever means harm computes them anew.
        if let Some((at, value)) = self.not_finite(data) {
            let position = start / self.value_bytes() + at;
            return damaged(format!("it holds {value} as value {position} of its data"));
        }
        check.sound[chunk].store(true, Ordering::Relaxed);
        Ok(())
    }

    fn value_bytes(&self) -> usize {
        self.shape.dtype.bitsize() / 8
    }

    /// The first of these values that is NaN or infinite, after its position among them.
    fn not_finite(&self, data: &[u8]) -> Option<(usize, f64)> {
        fn first<V: Pod>(data: &[u8], value: impl Fn(&V) -> f64) -> Option<(usize, f64)> {
            let values: &[V] = bytemuck::try_cast_slice(data).unwrap_or_default();
            let mut values = values.iter().map(value).enumerate();
            values.find(|(_, value)| !value.is_finite())
        }
        match self.shape.dtype {
            Dtype::F32 => first(data, |&value: &f32| value.into()),
            Dtype::F64 => first(data, |&value: &f64| value),
            _ => None,
        }
    }

    /// Checks all data.
    ///
    /// # Errors
    /// When any byte is not what was written, or the run is cancelled.
    pub(crate) fn check_all(&self, ctx: &Context) -> Result<()> {
        let Some(check) = &self.check else {
            return Ok(());
        };
        (0..check.sound.len())
            .into_par_iter()
            .try_for_each(|chunk| {
                if check.sound[chunk].load(Ordering::Relaxed) {
                    return Ok(());
                }
                ctx.check()?;
                self.check_chunk(check, chunk)
            })
    }
}

impl Array {
    /// What a manifest says of this array, once it is the file at `path`.
    pub(crate) fn stored(&self, path: &Path, ctx: &Context) -> Result<StoredArray> {
        let name = path.file_name().map(|name| name.to_string_lossy().into());
        let checksum = |chunk: &[u8]| {
            ctx.check()?;
            Ok(Checksum(xxh3_64(chunk)))
        };
        let Shape { dtype, shape } = self.shape.clone();
        Ok(StoredArray {
            file: name.unwrap_or_default(),
            dtype,
            shape,
            chunk_bytes: CHUNK,
            xxh3: self
                .data()
                .par_chunks(CHUNK)
                .map(checksum)
                .collect::<Result<_>>()?,
        })
    }
}
