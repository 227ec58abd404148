//! Files and memory, as the system gives them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use lshjoin_kernels::{Mmap, MmapMut, map, memory};

use crate::base::error::{Error, Result};

/// Most bytes that a manifest may have. A megabyte of arrays takes up some 30 of it, so that this
/// is enough for 8 TB.
const MOST_BYTES: u64 = 1 << 28;

/// Bytes of a file that are written before it is synced: neither the last sync nor Ctrl-C then
/// waits for more.
const UNSYNCED: usize = 256 << 20;

/// Whether a file of this name can be one of this array's.
pub(crate) fn is_name_of(array: &str, file: &str) -> bool {
    is_own_name(array, file, ".safetensors")
}

/// Whether a file of this name can be a part of a spill.
pub(crate) fn is_name_of_spill(file: &str) -> bool {
    is_own_name("spill", file, ".bin")
}

fn is_own_name(stem: &str, file: &str, extension: &str) -> bool {
    let rest = file
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-'));
    let own = rest.and_then(|rest| rest.strip_suffix(extension));
    own.is_some_and(|own| own.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// A file that is not complete, synced as it is written.
#[derive(Debug)]
pub(crate) struct UnfinishedFile {
    file: File,
    path: PathBuf,
    /// Bytes written since it was last synced.
    unsynced: usize,
}

impl UnfinishedFile {
    /// A new file.
    ///
    /// # Errors
    /// What the system says; when there is one.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut how = OpenOptions::new();
        let how = how.read(true).write(true).create_new(true);
        let file = how.open(path).map_err(|error| Error::io(path, error))?;
        Ok(Self::of(file, path))
    }

    /// One that was begun before.
    ///
    /// # Errors
    /// As [`open_regular`].
    pub(crate) fn reopen(path: &Path) -> Result<Self> {
        let file = open_regular(path, OpenOptions::new().read(true).write(true))?;
        Ok(Self::of(file, path))
    }

    fn of(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.into(),
            unsynced: 0,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of its path.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into()
    }

    /// How many bytes it has.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|error| self.io(error))?;
        Ok(metadata.len())
    }

    /// Makes it so many bytes long.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(|error| self.io(error))
    }

    /// Writes bytes, the first of them at `at`.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let sought = self.file.seek(SeekFrom::Start(at as u64));
        let written = sought.and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| self.io(error))?;
        self.unsynced += bytes.len();
        if self.unsynced >= UNSYNCED {
            self.sync()?;
        }
        Ok(())
    }

    /// Reads bytes, the first of them at `at`. They are not mapped: touching a page of a map that
    /// was not written yet needs room on disk, and ends the process where there is none.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) -> Result<()> {
        let mut file: &File = &self.file;
        let sought = file.seek(SeekFrom::Start(at as u64));
        let read = sought.and_then(|_| file.read_exact(bytes));
        read.map_err(|error| self.io(error))
    }

    /// Brings to disk what was written so far.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if self.unsynced > 0 {
            self.file.sync_data().map_err(|error| self.io(error))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Brings it to disk, complete, and maps it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn finish(self) -> Result<(Mmap, PathBuf)> {
        let mapped = self.file.sync_all().and_then(|()| mapped_file(&self.file));
        Ok((mapped.map_err(|error| self.io(error))?, self.path))
    }

    fn io(&self, error: io::Error) -> Error {
        Error::io(&self.path, error)
    }
}

/// Opens a file, if it is one: what else may lie under its name in a directory of unknown origin
/// would block (a pipe), never end (a device) or be somewhere else (a link).
///
/// # Errors
/// What the system says, and when it is anything but a regular file.
pub(crate) fn open_regular(path: &Path, how: &OpenOptions) -> Result<File> {
    let io = |error| Error::io(path, error);
    if !fs::symlink_metadata(path).map_err(io)?.is_file() {
        return Err(Error::damaged(
            path,
            "it is not a regular file; the files of an index lie in its directory themselves",
        ));
    }
    how.open(path).map_err(io)
}

/// Maps a file of an index.
pub(crate) fn mapped_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: files of an index are not written to once they are complete: a new index has new
    // files, and old ones are unlinked, which leaves their maps as they are. Those under way are
    // this process's alone, since it has the directory locked.
    unsafe { map(file) }
}

/// So many bytes of memory, zeroed.
pub(crate) fn anonymous(bytes: usize) -> Result<MmapMut> {
    memory::check(bytes, ARRAY_BYTES)?;
    MmapMut::map_anon(bytes).map_err(|_| {
        let what = ARRAY_BYTES;
        Error::Memory { what, bytes }
    })
}

/// Reads a file of JSON; `None` where there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a file of JSON.
///
/// # Errors
/// What the system says, and when it is no regular file or larger than any that is written.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, error);
    let file = open_regular(path, OpenOptions::new().read(true))?;
    let length = file.metadata().map_err(io)?.len();
    if length > MOST_BYTES {
        let problem = format!("it has {length} bytes, where {MOST_BYTES} are the most there are");
        return Err(Error::damaged(path, &problem));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(io)?;
    Ok(text)
}

/// Removes a file, which need not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// How an out-of-memory error names them.
pub(crate) const ARRAY_BYTES: &str = "the arrays of an index";
