//! Large allocations on huge pages.

/// `len` times zero, where the system makes pages of it as they are touched: huge ones, if it can.
///
/// Of the time to write what is fresh, most is spent on making small pages, one at a time.
pub(crate) fn zeroed<T: Copy + Default>(len: usize) -> Vec<T> {
    let zeroed = vec![T::default(); len];
    #[cfg(all(target_os = "linux", not(miri)))]
    ask_for_huge_pages(&zeroed);
    zeroed
}

#[cfg(all(target_os = "linux", not(miri)))]
fn ask_for_huge_pages<T>(memory: &[T]) {
    const HUGE: usize = 2 << 20;
    let range = memory.as_ptr_range();
    let start = (range.start as usize).next_multiple_of(HUGE);
    let end = range.end as usize / HUGE * HUGE;
    if start < end {
        // SAFETY: a hint, which changes nothing that can be read; refused where it makes no sense.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
}
