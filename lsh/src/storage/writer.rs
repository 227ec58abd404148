//! An array that is being written.

use std::path::Path;

use bytemuck::Pod;
use lshjoin_kernels::{MmapMut, memory};

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
    },
    storage::{
        array::Array,
        files::{ARRAY_BYTES, UnfinishedFile, anonymous, is_name_of},
        format::{Shape, Written},
    },
};

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
    File(UnfinishedFile),
}

impl ArrayWriter {
    /// An array in memory or, with a path, in a new file.
    ///
    /// # Errors
    /// When memory or disk have no room, or the shape is impossible.
    pub(crate) fn new(name: &'static str, shape: Shape, path: Option<&Path>) -> Result<Self> {
        let (header, bytes) = shape.header(name).ok_or_else(|| {
            Error::parameter(
                name,
                "an array that can be addressed",
                format!("{:?}", shape.shape),
            )
        })?;
        let length = header.len() + bytes;
        let sink = match path {
            None => {
                let mut memory = anonymous(length)?;
                memory[..header.len()].copy_from_slice(&header);
                Sink::Memory(memory)
            }
            Some(path) => {
                let mut file = UnfinishedFile::create(path)?;
                file.set_len(length as u64)?;
                file.write(0, &header)?;
                Sink::File(file)
            }
        };
        Ok(Self {
            name,
            shape,
            start: header.len(),
            sink,
        })
    }

    /// Goes on with a file that was begun in `directory`.
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
        let opened = UnfinishedFile::reopen(&path)?;
        if opened.len()? != (header.len() + bytes) as u64 {
            return Err(other());
        }
        let mut start = vec![0; header.len()];
        opened.read(0, &mut start)?;
        if start != header {
            return Err(other());
        }
        Ok(Self {
            name,
            shape,
            start: header.len(),
            sink: Sink::File(opened),
        })
    }

    /// The name of the file, if it is one.
    pub(crate) fn file(&self) -> Option<String> {
        match &self.sink {
            Sink::Memory(_) => None,
            Sink::File(file) => Some(file.name()),
        }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Brings to disk what was written so far.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(&mut self) -> Result<()> {
        match &mut self.sink {
            Sink::Memory(_) => Ok(()),
            Sink::File(file) => file.sync(),
        }
    }

    /// All values as they are now.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn values<V: Pod>(&self) -> Result<Vec<V>> {
        match &self.sink {
            Sink::Memory(memory) => {
                let values = bytemuck::try_cast_slice(&memory[self.start..]);
                Ok(memory::copied(values.unwrap_or_default(), ARRAY_BYTES)?)
            }
            Sink::File(file) => {
                let count = self.shape.shape.iter().product();
                let mut values = memory::zeroed(count, ARRAY_BYTES)?;
                file.read(self.start, bytemuck::cast_slice_mut(&mut values))?;
                Ok(values)
            }
        }
    }

    /// Writes values, the first of them at this index of the array.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write<V: Pod>(&mut self, first: usize, values: &[V]) -> Result<()> {
        let at = self.start + first * size_of::<V>();
        let bytes: &[u8] = bytemuck::cast_slice(values);
        match &mut self.sink {
            Sink::Memory(memory) => {
                memory[at..][..bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            Sink::File(file) => file.write(at, bytes),
        }
    }

    /// The finished array, and the file that a manifest has to name for it to stay.
    ///
    /// # Errors
    /// What the system says, or when the run is cancelled.
    pub(crate) fn finish(self, ctx: &Context) -> Result<(Array, Option<Written>)> {
        let (bytes, path) = match self.sink {
            Sink::Memory(memory) => {
                let io = |error| Error::io(Path::new(self.name), error);
                (memory.make_read_only().map_err(io)?, None)
            }
            Sink::File(file) => {
                let (bytes, path) = file.finish()?;
                (bytes, Some(path))
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
                stored: array.stored(&path, ctx)?,
            }),
        };
        Ok((array, written))
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::array::Array;
    use crate::storage::array::CHUNK;
    use crate::storage::format::ALIGN;
    use crate::storage::format::Checksum;
    use crate::storage::format::StoredArray;
    use crate::storage::format::Written;
    use std::fs::{self, OpenOptions};
    use std::io::{Seek, SeekFrom, Write};

    use safetensors::{Dtype, SafeTensors};

    use super::*;

    fn written(directory: &Path, values: &[f32]) -> Written {
        let shape = Shape::new(Dtype::F32, &[values.len() / 2, 2]);
        let path = directory.join(format!("rows-{}.safetensors", values.len()));
        let mut writer = ArrayWriter::new("rows", shape, Some(&path)).unwrap();
        let (early, late) = values.split_at(values.len() / 3);
        writer.write(early.len(), late).unwrap();
        writer.write(0, early).unwrap();
        let (array, written) = writer.finish(&Context::new().unwrap()).unwrap();
        assert_eq!(array.data(), bytemuck::cast_slice::<f32, u8>(values));
        written.unwrap()
    }

    fn opened(directory: &Path, name: &str, stored: &StoredArray, mapped: bool) -> Result<Array> {
        Array::open(directory, name, stored, mapped, &Context::new().unwrap())
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
        let ctx = Context::new().unwrap();
        let values: Vec<f32> = (0..CHUNK).map(|value| value as f32).collect();
        let written = written(directory.path(), &values);
        for mapped in [true, false] {
            let array = opened(directory.path(), "rows", &written.stored, mapped).unwrap();
            array.check_all(&ctx).unwrap();
            assert_eq!(array.values::<f32>(), values);
        }
        let mut writer = ArrayWriter::new("rows", written.stored.shape(), None).unwrap();
        writer.write(0, &values).unwrap();
        let (array, file) = writer.finish(&ctx).unwrap();
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
        assert!(array.check_all(&Context::new().unwrap()).is_err());
    }

    #[test]
    fn a_link_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let written = written(directory.path(), &[1.0, 2.0]);
        let reopen = |file: &str| {
            ArrayWriter::reopen("rows", written.stored.shape(), directory.path(), file)
        };
        let again = reopen(&written.stored.file).unwrap();
        assert_eq!(again.values::<f32>().unwrap(), [1.0, 2.0]);
        #[cfg(unix)]
        {
            let path = directory.path().join(&written.stored.file);
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
        let ctx = Context::new().unwrap();
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let directory = tempfile::tempdir().unwrap();
            let mut values = vec![1.0; CHUNK];
            values[CHUNK / 2 + 3] = value;
            let written = written(directory.path(), &values);
            let array = opened(directory.path(), "rows", &written.stored, true).unwrap();
            array.check(0..2 * CHUNK).unwrap();
            for refused in [array.check(2 * CHUNK..2 * CHUNK + 1), array.check_all(&ctx)] {
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
