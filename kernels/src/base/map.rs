//! Files mapped into memory.

use std::{fs::File, io};

use memmap2::Mmap;

/// Maps a file into memory, to be read as pages are touched; the system may drop them again.
///
/// ```
/// use std::io::Write;
///
/// let mut file = tempfile::tempfile()?;
/// file.write_all(b"1234")?;
/// // SAFETY: nobody else knows this file.
/// let map = unsafe { lshjoin_kernels::map(&file)? };
/// assert_eq!(&map[..], b"1234");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// Nothing but the caller can know that:
///
/// ```compile_fail,E0133
/// let file = std::fs::File::open("Cargo.toml")?;
/// let map = lshjoin_kernels::map(&file)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the system says, of a directory for example.
///
/// # Safety
/// While the map lives, nobody writes to the file or cuts it short, neither this process nor
/// another. Reading what was cut off ends the process with SIGBUS. So map only files that are replaced
/// by renaming a new one over them and never written to again.
pub unsafe fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read only, and bytes have no invalid values; that they change under a
    // reference is what the caller rules out.
    unsafe { Mmap::map(file) }
}
