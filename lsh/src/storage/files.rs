//! Files and memory, as the system gives them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::Path,
};

use lshjoin_kernels::{Mmap, MmapMut, map, memory};

use crate::base::error::{Error, Result};

/// Most bytes that a manifest may have. A megabyte of arrays takes up some 30 of it, so that this
/// is enough for 8 TB.
const MOST_BYTES: u64 = 1 << 28;

/// Whether a file of this name can be one of this array's.
pub(crate) fn is_name_of(array: &str, file: &str) -> bool {
    let rest = file
        .strip_prefix(array)
        .and_then(|rest| rest.strip_prefix('-'));
    let own = rest.and_then(|rest| rest.strip_suffix(".safetensors"));
    own.is_some_and(|own| own.bytes().all(|byte| byte.is_ascii_alphanumeric()))
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
