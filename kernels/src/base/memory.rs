//! Memory that the system may refuse: for whatever is as long as the input, where Rust's own vectors
//! would end the process.

use bytemuck::Zeroable;
use memmap2::MmapMut;
use rayon::prelude::*;

use super::error::{KernelError, Result};

/// Bytes from which on an allocation is large: after it there have to be [`SPARE`] bytes left, for
/// all that is small, of bounded size, and taken without asking.
const LARGE: usize = 1 << 20;

/// No page of it is ever touched.
const SPARE: usize = 48 << 20;

/// `len` times zero; pages are made as they are touched. `what` is for the error, as everywhere here.
///
/// ```
/// use lshjoin_kernels::{KernelError, memory};
///
/// assert_eq!(memory::zeroed::<u32>(2, "numbers")?, [0, 0]);
/// let error = memory::zeroed::<u32>(usize::MAX / 4, "numbers").unwrap_err();
/// assert!(matches!(error, KernelError::Memory { what: "numbers", .. }));
/// # Ok::<(), KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Memory`], as everywhere here.
pub fn zeroed<T: Zeroable>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let values = bytemuck::try_zeroed_vec(len).map_err(|()| refusal::<T>(len, what))?;
    keep_spare::<T>(len, what)?;
    Ok(values)
}

/// The same on huge pages, if the system can: of the time to write what is fresh, most is spent on
/// making small pages, one at a time.
pub(crate) fn zeroed_on_huge_pages<T: Zeroable>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let zeroed = zeroed(len, what)?;
    #[cfg(all(target_os = "linux", not(miri)))]
    ask_for_huge_pages(&zeroed);
    Ok(zeroed)
}

/// `len` times the same value.
///
/// # Errors
/// As [`zeroed`].
pub fn filled<T: Clone>(value: T, len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut values = empty(len, what)?;
    values.resize(len, value);
    Ok(values)
}

/// Room for `len` values.
///
/// # Errors
/// As [`zeroed`].
pub fn empty<T>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let reserved = values.try_reserve_exact(len);
    reserved.map_err(|_| refusal::<T>(len, what))?;
    keep_spare::<T>(len, what)?;
    Ok(values)
}

/// Makes room for so many values more. Called again and again, room grows by factors.
///
/// # Errors
/// As [`zeroed`].
#[inline]
pub fn reserve<T>(values: &mut Vec<T>, more: usize, what: &'static str) -> Result<()> {
    if values.capacity() - values.len() >= more {
        return Ok(());
    }
    grow(values, more, what)
}

#[cold]
fn grow<T>(values: &mut Vec<T>, more: usize, what: &'static str) -> Result<()> {
    let len = values.len().saturating_add(more);
    let reserved = values.try_reserve(more);
    reserved.map_err(|_| refusal::<T>(len, what))?;
    keep_spare::<T>(len, what)
}

/// [`slice::to_vec`].
///
/// # Errors
/// As [`zeroed`].
pub fn copied<T: Copy>(values: &[T], what: &'static str) -> Result<Vec<T>> {
    let mut copied = empty(values.len(), what)?;
    copied.extend_from_slice(values);
    Ok(copied)
}

/// [`Vec::resize`].
///
/// # Errors
/// As [`zeroed`].
pub fn resize<T: Clone>(
    values: &mut Vec<T>,
    len: usize,
    value: T,
    what: &'static str,
) -> Result<()> {
    reserve(values, len.saturating_sub(values.len()), what)?;
    values.resize(len, value);
    Ok(())
}

/// [`Vec::push`].
///
/// # Errors
/// As [`zeroed`].
#[inline]
pub fn push<T>(values: &mut Vec<T>, value: T, what: &'static str) -> Result<()> {
    reserve(values, 1, what)?;
    values.push(value);
    Ok(())
}

/// [`Iterator::collect`].
///
/// ```
/// use lshjoin_kernels::memory;
///
/// assert_eq!(memory::collect((0..9).filter(|n| n % 3 == 0), "numbers")?, [0, 3, 6]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`zeroed`].
pub fn collect<T>(values: impl IntoIterator<Item = T>, what: &'static str) -> Result<Vec<T>> {
    let mut collected = Vec::new();
    extend(&mut collected, values, what)?;
    Ok(collected)
}

/// [`Extend::extend`].
///
/// # Errors
/// As [`zeroed`]; some of the values are added then.
pub fn extend<T>(
    to: &mut Vec<T>,
    values: impl IntoIterator<Item = T>,
    what: &'static str,
) -> Result<()> {
    let mut values = values.into_iter();
    let (least, _) = values.size_hint();
    reserve(to, least, what)?;
    to.extend(values.by_ref().take(least));
    for value in values {
        push(to, value, what)?;
    }
    Ok(())
}

/// [`ParallelIterator::collect`].
///
/// # Errors
/// As [`zeroed`].
pub fn par_collect<T: Send>(
    values: impl IndexedParallelIterator<Item = T>,
    what: &'static str,
) -> Result<Vec<T>> {
    let mut collected = empty(values.len(), what)?;
    values.collect_into_vec(&mut collected);
    Ok(collected)
}

/// Whether there is memory for so much and for what is small, before any of it is taken: it is asked
/// for and given back.
///
/// # Errors
/// As [`zeroed`].
pub fn check(bytes: usize, what: &'static str) -> Result<()> {
    // Of the system: the allocator may have as much that was freed, which no thread's stack is made of,
    // and an allocation that is never used the compiler leaves out.
    match MmapMut::map_anon(bytes.saturating_add(SPARE)) {
        Ok(_) => Ok(()),
        Err(_) => Err(refusal::<u8>(bytes, what)),
    }
}

fn keep_spare<T>(len: usize, what: &'static str) -> Result<()> {
    if len.saturating_mul(size_of::<T>()) < LARGE {
        return Ok(());
    }
    check(0, what).map_err(|_| refusal::<T>(len, what))
}

#[cold]
fn refusal<T>(len: usize, what: &'static str) -> KernelError {
    let bytes = len.saturating_mul(size_of::<T>());
    KernelError::Memory { what, bytes }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOO_MANY: usize = isize::MAX as usize / 8;

    proptest! {
        #[test]
        fn what_is_collected_is_what_the_standard_library_collects(
            values in prop::collection::vec(any::<u32>(), 0..300),
            odd: bool,
        ) {
            let wanted = |value: &u32| !odd || value % 2 == 1;
            let expected: Vec<u32> = values.iter().copied().filter(wanted).collect();
            let collected = collect(values.iter().copied().filter(wanted), "numbers").unwrap();
            prop_assert_eq!(&collected, &expected);
            let mut extended = values.clone();
            extend(&mut extended, expected.iter().copied(), "numbers").unwrap();
            prop_assert_eq!(extended, [&values[..], &expected].concat());
            let same = par_collect(values.par_iter().copied(), "numbers").unwrap();
            prop_assert_eq!(&same, &values);
            prop_assert_eq!(&copied(&values, "numbers").unwrap(), &values);
            for len in [expected.len(), 300] {
                let mut resized = values.clone();
                resize(&mut resized, len, 7, "numbers").unwrap();
                let mut as_expected = values.clone();
                as_expected.resize(len, 7);
                prop_assert_eq!(resized, as_expected);
            }
        }
    }

    #[test]
    fn too_much_is_refused_with_its_name_and_size() {
        let bytes = TOO_MANY.saturating_mul(8);
        let refused = KernelError::Memory {
            what: "sums",
            bytes,
        };
        assert_eq!(zeroed::<u64>(TOO_MANY, "sums"), Err(refused.clone()));
        assert_eq!(filled(1_u64, TOO_MANY, "sums"), Err(refused.clone()));
        assert_eq!(empty::<u64>(TOO_MANY, "sums"), Err(refused.clone()));
        assert_eq!(
            reserve(&mut Vec::<u64>::new(), TOO_MANY, "sums"),
            Err(refused.clone())
        );
        assert_eq!(
            resize(&mut Vec::<u64>::new(), TOO_MANY, 7, "sums"),
            Err(refused.clone())
        );
        assert_eq!(collect(0..TOO_MANY as u64, "sums"), Err(refused.clone()));
        let parallel = par_collect((0..TOO_MANY).into_par_iter(), "sums");
        assert_eq!(parallel.unwrap_err(), refused);
        let (what, bytes) = ("sums", 1 << 60);
        assert_eq!(check(bytes, what), Err(KernelError::Memory { what, bytes }));
        let overflown = zeroed::<u64>(usize::MAX, "sums").unwrap_err();
        assert_eq!(
            overflown,
            KernelError::Memory {
                what: "sums",
                bytes: usize::MAX
            }
        );
    }
}
