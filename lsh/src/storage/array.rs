//! The arrays of an index: each the one tensor of a safetensors file, or of the same bytes in
//! memory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytemuck::Pod;
use lshjoin_kernels::{Mmap, MmapMut, map, memory};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::base::{
    context::Run,
    error::{Error, Result},
};

// What is mapped is read as it lies there.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little-endian"
);

/// Bytes that have a checksum of their own, read and checked together.
const CHUNK: usize = 1 << 20;

/// Bytes of a file that may be on their way to disk: the rest of them, and Ctrl-C, wait for no more.
const UNSYNCED: usize = 256 << 20;

/// What memory is asked for.
const ARRAYS: &str = "the arrays of an index";

/// Data start at a whole cache line.
const ALIGN: usize = 64;

/// What an array is, in words that go into a manifest.
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

    /// Along the first dimension.
    pub(crate) fn length(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// The first bytes of the file, up to the data, and the number of bytes of these.
    fn header(&self, name: &str) -> Option<(Vec<u8>, usize)> {
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
    // As of `Shape`; flattened, serde would keep all that stands beside it twice.
    dtype: Dtype,
    shape: Vec<usize>,
    chunk_bytes: usize,
    /// Of each chunk of the data.
    xxh3: Vec<Checksum>,
}

impl StoredArray {
    pub(crate) fn shape(&self) -> Shape {
        Shape::new(self.dtype, &self.shape)
    }
}

/// A checksum, in a manifest 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Checksum(u64);

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

/// An array that is complete, where it lies.
#[derive(Debug)]
pub(crate) struct Array {
    bytes: Mmap,
    /// Where the data start.
    start: usize,
    shape: Shape,
    check: Option<Check>,
}

/// What the data of a file have to be, and which chunks have been looked at.
#[derive(Debug)]
struct Check {
    path: PathBuf,
    checksums: Vec<Checksum>,
    sound: Vec<AtomicBool>,
}

impl Array {
    /// Opens a file of `directory`; data are mapped, and checked when they are read first, or else
    /// read into memory.
    ///
    /// # Errors
    /// When it is not there, it is not the file that the manifest tells of, or the run is cancelled.
    pub(crate) fn open(
        directory: &Path,
        name: &str,
        stored: &StoredArray,
        mapped: bool,
        run: &Run,
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
        let io = |error| Error::io(&path, &error);
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
                run.check()?;
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

    /// All data; without a check.
    pub(crate) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The data as the numbers that the array was made of.
    pub(crate) fn values<V: Pod>(&self) -> &[V] {
        // Aligned and of whole numbers, as every file is laid out.
        bytemuck::try_cast_slice(self.data()).unwrap_or_default()
    }

    /// An error about this array's file.
    pub(crate) fn damaged(&self, problem: &str) -> Error {
        let path = self.check.as_ref().map(|check| check.path.as_path());
        Error::damaged(path.unwrap_or(Path::new("the index")), problem)
    }

    /// Asked before these bytes of the data are read.
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
            let place = start / self.value_bytes() + at;
            return damaged(format!("it holds {value} as value {place} of its data"));
        }
        check.sound[chunk].store(true, Ordering::Relaxed);
        Ok(())
    }

    fn value_bytes(&self) -> usize {
        self.shape.dtype.bitsize() / 8
    }

    /// The first of these values that is NaN or infinite, with its place among them.
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

    /// # Errors
    /// When any byte is not what was written, or the run is cancelled.
    pub(crate) fn check_all(&self, run: &Run) -> Result<()> {
        let Some(check) = &self.check else {
            return Ok(());
        };
        (0..check.sound.len())
            .into_par_iter()
            .try_for_each(|chunk| {
                if check.sound[chunk].load(Ordering::Relaxed) {
                    return Ok(());
                }
                run.check()?;
                self.check_chunk(check, chunk)
            })
    }
}

/// Whether a file of this name is one of this array's.
pub(crate) fn is_name_of(array: &str, file: &str) -> bool {
    let rest = file
        .strip_prefix(array)
        .and_then(|rest| rest.strip_prefix('-'));
    let own = rest.and_then(|rest| rest.strip_suffix(".safetensors"));
    own.is_some_and(|own| own.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Opens a file, if it is one: what else may lie under its name in a directory of unknown origin would
/// block (a pipe), never end (a device) or be somewhere else (a link).
///
/// # Errors
/// What the system says, and when it is anything but a regular file.
pub(crate) fn open_regular(path: &Path, how: &OpenOptions) -> Result<File> {
    let io = |error| Error::io(path, &error);
    if !fs::symlink_metadata(path).map_err(io)?.is_file() {
        return Err(Error::damaged(
            path,
            "it is not a regular file; the files of an index lie in its directory themselves",
        ));
    }
    how.open(path).map_err(io)
}

/// The contents of a file of an index.
fn mapped_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: files of an index are not written to once they are complete: a new index has new files,
    // and old ones are unlinked, which leaves their maps as they are. Those under way are this
    // process's alone, since it has the directory locked.
    unsafe { map(file) }
}

/// Memory of so many bytes, zeros.
fn anonymous(bytes: usize) -> Result<MmapMut> {
    memory::check(bytes, ARRAYS)?;
    MmapMut::map_anon(bytes).map_err(|_| {
        let what = ARRAYS;
        Error::Memory { what, bytes }
    })
}

/// An array that is being written.
#[derive(Debug)]
pub(crate) struct ArrayWriter {
    name: &'static str,
    shape: Shape,
    start: usize,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Memory(MmapMut),
    File {
        file: File,
        path: PathBuf,
        /// Bytes written since it was last synced.
        unsynced: usize,
    },
}

impl ArrayWriter {
    /// In memory, or in a new file.
    ///
    /// # Errors
    /// When memory or disk have no room, or the shape is impossible.
    pub(crate) fn new(name: &'static str, shape: Shape, path: Option<&Path>) -> Result<Self> {
        let (header, bytes) = shape.header(name).ok_or_else(|| Error::Parameter {
            name,
            must_be: "an array that can be addressed",
            value: format!("{:?}", shape.shape),
        })?;
        let length = header.len() + bytes;
        let sink = match path {
            None => {
                let mut memory = anonymous(length)?;
                memory[..header.len()].copy_from_slice(&header);
                Sink::Memory(memory)
            }
            Some(path) => {
                let io = |error| Error::io(path, &error);
                let mut options = OpenOptions::new();
                let options = options.read(true).write(true).create_new(true);
                let mut file = options.open(path).map_err(io)?;
                file.set_len(length as u64).map_err(io)?;
                file.write_all(&header).map_err(io)?;
                Sink::File {
                    file,
                    path: path.into(),
                    unsynced: 0,
                }
            }
        };
        Ok(Self {
            name,
            shape,
            start: header.len(),
            sink,
        })
    }

    /// Goes on with the file of this name in `directory`.
    ///
    /// # Errors
    /// What the system says, or when it is not a file that was begun with this name and shape.
    pub(crate) fn reopen(
        name: &'static str,
        shape: Shape,
        directory: &Path,
        file: &str,
    ) -> Result<Self> {
        let path = directory.join(file);
        let other = || Error::damaged(&path, "it is not the file that was begun");
        if !is_name_of(name, file) {
            return Err(other());
        }
        let (header, bytes) = shape.header(name).ok_or_else(other)?;
        let io = |error| Error::io(&path, &error);
        let mut opened = open_regular(&path, OpenOptions::new().read(true).write(true))?;
        if opened.metadata().map_err(io)?.len() != (header.len() + bytes) as u64 {
            return Err(other());
        }
        let mut start = vec![0; header.len()];
        opened.read_exact(&mut start).map_err(io)?;
        if start != header {
            return Err(other());
        }
        Ok(Self {
            name,
            shape,
            start: header.len(),
            sink: Sink::File {
                file: opened,
                path,
                unsynced: 0,
            },
        })
    }

    /// The name of the file, if it is one.
    pub(crate) fn file(&self) -> Option<String> {
        let Sink::File { path, .. } = &self.sink else {
            return None;
        };
        let name = path.file_name()?;
        Some(name.to_string_lossy().into())
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Brings to disk what was written so far.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if let Sink::File {
            file,
            path,
            unsynced,
        } = &mut self.sink
        {
            file.sync_data().map_err(|error| Error::io(path, &error))?;
            *unsynced = 0;
        }
        Ok(())
    }

    /// All values as they are now. Of a file they are read, not mapped: a page of it that was not
    /// written yet is made when it is touched, which ends the process where the disk is full.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn values<V: Pod>(&self) -> Result<Vec<V>> {
        match &self.sink {
            Sink::Memory(memory) => {
                let values = bytemuck::try_cast_slice(&memory[self.start..]);
                Ok(memory::copied(values.unwrap_or_default(), ARRAYS)?)
            }
            Sink::File { file, path, .. } => {
                let io = |error| Error::io(path, &error);
                let mut file: &File = file;
                file.seek(SeekFrom::Start(self.start as u64)).map_err(io)?;
                let count = self.shape.shape.iter().product();
                let mut values = memory::zeroed(count, ARRAYS)?;
                file.read_exact(bytemuck::cast_slice_mut(&mut values))
                    .map_err(io)?;
                Ok(values)
            }
        }
    }

    /// Writes values from the one of this number on.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write<V: Pod>(&mut self, first: usize, values: &[V]) -> Result<()> {
        let (at, bytes) = (first * size_of::<V>(), bytemuck::cast_slice(values));
        match &mut self.sink {
            Sink::Memory(memory) => {
                memory[self.start + at..][..bytes.len()].copy_from_slice(bytes);
            }
            Sink::File {
                file,
                path,
                unsynced,
            } => {
                let io = |error| Error::io(path, &error);
                file.seek(SeekFrom::Start((self.start + at) as u64))
                    .map_err(io)?;
                file.write_all(bytes).map_err(io)?;
                *unsynced += bytes.len();
                if *unsynced >= UNSYNCED {
                    self.sync()?;
                }
            }
        }
        Ok(())
    }

    /// The finished array, and the file that a manifest has to name for it to stay.
    ///
    /// # Errors
    /// What the system says, or when the run is cancelled.
    pub(crate) fn finish(self, run: &Run) -> Result<(Array, Option<Written>)> {
        let (bytes, path) = match self.sink {
            Sink::Memory(memory) => {
                let io = |error| Error::io(Path::new(self.name), &error);
                (memory.make_read_only().map_err(io)?, None)
            }
            Sink::File { file, path, .. } => {
                let io = |error| Error::io(&path, &error);
                file.sync_all().map_err(io)?;
                (mapped_file(&file).map_err(io)?, Some(path))
            }
        };
        let array = Array {
            bytes,
            start: self.start,
            shape: self.shape,
            check: None,
        };
        let written = match path {
            None => None,
            Some(path) => Some(Written {
                name: self.name,
                stored: array.stored(&path, run)?,
            }),
        };
        Ok((array, written))
    }
}

impl Array {
    fn stored(&self, path: &Path, run: &Run) -> Result<StoredArray> {
        let name = path.file_name().map(|name| name.to_string_lossy().into());
        let checksum = |chunk: &[u8]| {
            run.check()?;
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

/// A file that is complete and on disk, but not yet named by a manifest.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) name: &'static str,
    pub(crate) stored: StoredArray,
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};

    use safetensors::SafeTensors;

    use super::*;

    fn written(directory: &Path, values: &[f32]) -> Written {
        let shape = Shape::new(Dtype::F32, &[values.len() / 2, 2]);
        let path = directory.join(format!("rows-{}.safetensors", values.len()));
        let mut writer = ArrayWriter::new("rows", shape, Some(&path)).unwrap();
        let (early, late) = values.split_at(values.len() / 3);
        writer.write(early.len(), late).unwrap();
        writer.write(0, early).unwrap();
        let (array, written) = writer.finish(&Run::new().unwrap()).unwrap();
        assert_eq!(array.data(), bytemuck::cast_slice::<f32, u8>(values));
        written.unwrap()
    }

    fn opened(directory: &Path, name: &str, stored: &StoredArray, mapped: bool) -> Result<Array> {
        Array::open(directory, name, stored, mapped, &Run::new().unwrap())
    }

    #[test]
    fn a_file_is_what_safetensors_reads() {
        let directory = tempfile::tempdir().unwrap();
        for length in [0, 2, 26] {
            let values: Vec<f32> = (0..length).map(|value| value as f32).collect();
            let written = written(directory.path(), &values);
            let bytes = fs::read(directory.path().join(written.stored.file)).unwrap();
            let tensors = SafeTensors::deserialize(&bytes).unwrap();
            let tensor = tensors.tensor("rows").unwrap();
            assert_eq!(
                (tensor.dtype(), tensor.shape()),
                (Dtype::F32, &[length / 2, 2][..])
            );
            assert_eq!(tensor.data(), bytemuck::cast_slice::<f32, u8>(&values));
            assert!((bytes.len() - 4 * length).is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn memory_and_files_hold_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let run = Run::new().unwrap();
        let values: Vec<f32> = (0..CHUNK).map(|value| value as f32).collect();
        let written = written(directory.path(), &values);
        for mapped in [true, false] {
            let array = opened(directory.path(), "rows", &written.stored, mapped).unwrap();
            array.check_all(&run).unwrap();
            assert_eq!(array.values::<f32>(), values);
        }
        let mut writer = ArrayWriter::new("rows", written.stored.shape(), None).unwrap();
        writer.write(0, &values).unwrap();
        let (array, file) = writer.finish(&run).unwrap();
        assert!(file.is_none());
        assert_eq!(array.values::<f32>(), values);
        array.check(0..4 * CHUNK).unwrap();
    }

    #[test]
    fn what_is_read_is_checked_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let values = vec![1.0; CHUNK];
        let written = written(directory.path(), &values);
        let path = directory.path().join(&written.stored.file);
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::End(-1)).unwrap();
        file.write_all(&[1]).unwrap();
        let array = opened(directory.path(), "rows", &written.stored, true).unwrap();
        array.check(0..3 * CHUNK).unwrap();
        for _ in 0..2 {
            let Err(Error::Damaged { path: named, .. }) = array.check(3 * CHUNK - 1..3 * CHUNK + 1)
            else {
                panic!("not refused");
            };
            assert_eq!(named, path);
        }
        assert!(array.check_all(&Run::new().unwrap()).is_err());
    }

    #[test]
    fn a_link_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let written = written(directory.path(), &[1.0, 2.0]);
        let path = directory.path().join(&written.stored.file);
        let reopen = |file: &str| {
            ArrayWriter::reopen("rows", written.stored.shape(), directory.path(), file)
        };
        let again = reopen(&written.stored.file).unwrap();
        assert_eq!(again.values::<f32>().unwrap(), [1.0, 2.0]);
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
            assert!(matches!(reopen("link"), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn impossible_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let written = written(directory.path(), &[1.0, 2.0]);
        let refused = |change: &dyn Fn(&mut StoredArray)| {
            let mut stored = written.stored.clone();
            change(&mut stored);
            let found = opened(directory.path(), "rows", &stored, true);
            assert!(matches!(found, Err(Error::Damaged { .. })), "{stored:?}");
        };
        refused(&|stored| stored.shape = vec![usize::MAX, usize::MAX]);
        refused(&|stored| stored.shape = vec![2, 2]);
        refused(&|stored| stored.dtype = Dtype::I32);
        refused(&|stored| stored.dtype = Dtype::F4);
        refused(&|stored| stored.xxh3.clear());
        refused(&|stored| stored.xxh3.push(Checksum(0)));
        refused(&|stored| stored.chunk_bytes = 1);
        for name in [
            "../{}", "./{}", "{}/", "{}/..", "/{}", "{}\0", "", "..", "codes-{}",
        ] {
            refused(&|stored| stored.file = name.replace("{}", &stored.file));
        }
        assert!(opened(directory.path(), "codes", &written.stored, true).is_err());
    }

    #[test]
    fn checksums_are_16_hexadecimal_digits() {
        let sum: Checksum = serde_json::from_str("\"00000000000000ff\"").unwrap();
        assert_eq!(sum, Checksum(255));
        assert_eq!(serde_json::to_string(&sum).unwrap(), "\"00000000000000ff\"");
        for text in [
            "\"ff\"",
            "\"\"",
            "\"00000000000000FF\"",
            "\"+0000000000000ff\"",
            "255",
        ] {
            assert!(serde_json::from_str::<Checksum>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_though_its_checksum_fits() {
        let run = Run::new().unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let directory = tempfile::tempdir().unwrap();
            let mut values = vec![1.0; CHUNK];
            values[CHUNK / 2 + 3] = value;
            let written = written(directory.path(), &values);
            let array = opened(directory.path(), "rows", &written.stored, true).unwrap();
            array.check(0..2 * CHUNK).unwrap();
            for refused in [array.check(2 * CHUNK..2 * CHUNK + 1), array.check_all(&run)] {
                let problem = format!("it holds {value} as value {} of its data", CHUNK / 2 + 3);
                let path = directory.path().join(&written.stored.file);
                let expected = Error::damaged(&path, &problem);
                assert_eq!(refused, Err(expected));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let written = written(directory.path(), &[1.0, 2.0]);
        let path = directory.path().join("rows-other.safetensors");
        let mut stored = written.stored.clone();
        stored.file = "rows-other.safetensors".into();
        let refused = || {
            let found = opened(directory.path(), "rows", &stored, true);
            assert!(matches!(found, Err(Error::Damaged { path: named, .. }) if named == path));
            let shape = stored.shape();
            let reopened = ArrayWriter::reopen("rows", shape, directory.path(), &stored.file);
            assert!(matches!(reopened, Err(Error::Damaged { path: named, .. }) if named == path));
        };
        for target in [
            directory.path().join(&written.stored.file).as_path(),
            Path::new("/dev/zero"),
            Path::new("nowhere"),
        ] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            refused();
            fs::remove_file(&path).unwrap();
        }
        fs::create_dir(&path).unwrap();
        refused();
        fs::remove_dir(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        refused();
    }

    #[test]
    fn a_file_outside_is_not_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let written = written(directory.path(), &[1.0, 2.0]);
        let file = format!("../{}", written.stored.file);
        let reopened = ArrayWriter::reopen("rows", written.stored.shape(), &inside, &file);
        assert!(matches!(reopened, Err(Error::Damaged { .. })));
    }
}
