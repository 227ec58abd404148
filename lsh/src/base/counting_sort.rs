//! Things sorted by the row that they belong to.

use lshjoin_kernels::memory;

use crate::base::error::Result;

/// Sets `sorted` to what was found, row by row, within a row as it comes: a counting sort. `ends` has how
/// much each row has found, and then where that ends. `filler` is anything; an error for want of memory
/// names `what`.
pub(crate) fn sort_by_row<V: Copy>(
    found: &[(u32, V)],
    ends: &mut [usize],
    sorted: &mut Vec<V>,
    filler: V,
    what: &'static str,
) -> Result<()> {
    let mut start = 0;
    for end in ends.iter_mut() {
        start += std::mem::replace(end, start);
    }
    memory::resize(sorted, found.len(), filler, what)?;
    for &(row, value) in found {
        let end = &mut ends[row as usize];
        sorted[*end] = value;
        *end += 1;
    }
    Ok(())
}
