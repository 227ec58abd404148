use std::{fs::File, io};

use memmap2::Mmap;

/// Maps a file into memory, to be read as pages are touched; the system may drop them again.
///
/// A safe function in front of what Rust can't know to be safe: that nobody writes to the file, or
/// cuts it short, while the map lives. Cutting it short ends the process with SIGBUS; other
/// values, where values are plain numbers, are wrong answers. So map only files that are replaced
/// by renaming a new one over them, never written to again, and look at their numbers as plain ones.
///
/// ```
/// use std::io::Write;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"1234")?;
/// assert_eq!(&lshjoin_kernels::map(&file)?[..], b"1234");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the system says, of a directory for example.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read only, and bytes have no invalid values; that they change under a
    // reference is what the contract above rules out.
    unsafe { Mmap::map(file) }
}
