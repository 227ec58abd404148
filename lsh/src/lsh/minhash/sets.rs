//! Sets as rows of a sparse matrix: which elements each has, as numbers.

use lshjoin_kernels::{MinHashFunction, memory};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::base::{
    context::Context,
    error::{Error, Result},
};

/// The prime that Spark computes modulo: elements are below it, so that no two are always one.
pub(crate) const HASH_PRIME: u32 = MinHashFunction::PRIME;

/// How an out-of-memory error names them.
const SETS: &str = "sets";

/// Sets of whole numbers from 0 to 2038074742, none of them empty.
///
/// Laid out as the rows of a sparse matrix (CSR): the elements one set after the other, and where
/// each set starts.
///
/// ```
/// use lshjoin::{Context, Sets};
///
/// let ctx = Context::new()?;
/// let sets = Sets::new(&[0, 3, 5], &[7_u32, 2, 7, 1, 2], &ctx)?;
/// assert_eq!((sets.get(0), sets.get(1)), (&[2, 7][..], &[1, 2][..]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sets {
    offsets: Vec<usize>,
    elements: Vec<u32>,
}

impl Sets {
    /// Set i has `elements[offsets[i]..offsets[i + 1]]`, in any order; what comes twice is there
    /// once.
    ///
    /// # Errors
    /// When offsets do not rise from 0 to the number of elements, a set is empty or holds an element
    /// that is out of range, there is no memory for a copy, or the run is cancelled.
    pub fn new<I: Copy + Into<i64> + Sync>(
        offsets: &[usize],
        elements: &[I],
        ctx: &Context,
    ) -> Result<Self> {
        let whole = offsets.first() == Some(&0) && offsets.last() == Some(&elements.len());
        if !whole || !offsets.is_sorted() {
            return Err(Error::parameter(
                "offsets",
                "rising from 0 to the number of elements",
                format!(
                    "from {:?} to {:?} of {}",
                    offsets.first(),
                    offsets.last(),
                    elements.len()
                ),
            ));
        }
        let mut copied = memory::zeroed(elements.len(), SETS)?;
        let mut rest = copied.as_mut_slice();
        let mut sets = memory::empty(offsets.len() - 1, SETS)?;
        for bounds in offsets.windows(2) {
            let (set, others) = rest.split_at_mut(bounds[1] - bounds[0]);
            sets.push((&elements[bounds[0]..bounds[1]], set));
            rest = others;
        }
        let problem = sets
            .into_par_iter()
            .enumerate()
            .find_map_first(|(row, (from, to))| {
                let filled = ctx.check().and_then(|()| fill(row, from, to));
                filled.err()
            });
        match problem {
            Some(error) => Err(error),
            None => Self::without_repeats(offsets, copied),
        }
    }

    /// Of elements that are in order within each set.
    fn without_repeats(offsets: &[usize], mut elements: Vec<u32>) -> Result<Self> {
        let mut distinct = memory::empty(offsets.len(), SETS)?;
        let mut end = 0;
        distinct.push(end);
        for bounds in offsets.windows(2) {
            let start = end;
            for at in bounds[0]..bounds[1] {
                if end == start || elements[end - 1] != elements[at] {
                    elements[end] = elements[at];
                    end += 1;
                }
            }
            distinct.push(end);
        }
        elements.truncate(end);
        Ok(Self {
            offsets: distinct,
            elements,
        })
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of set `row`, rising; none where there is no such set.
    pub fn get(&self, row: usize) -> &[u32] {
        match self.offsets.get(row..).unwrap_or_default() {
            [start, end, ..] => &self.elements[*start..*end],
            _ => &[],
        }
    }
}

/// Copies the elements of one set, in order.
fn fill<I: Copy + Into<i64>>(row: usize, from: &[I], to: &mut [u32]) -> Result<()> {
    if from.is_empty() {
        // The words of Spark's.
        let problem = "is an empty set: Must have at least 1 non zero entry.".into();
        return Err(Error::Set { row, problem });
    }
    for (&from, to) in from.iter().zip(to.iter_mut()) {
        let element = from.into();
        *to = u32::try_from(element)
            .ok()
            .filter(|&element| element < HASH_PRIME)
            .ok_or_else(|| Error::Set {
                row,
                problem: format!(
                    "holds the element {element}; elements are 0 to {}: number those that there are",
                    HASH_PRIME - 1
                ),
            })?;
    }
    if !to.is_sorted() {
        to.sort_unstable();
    }
    Ok(())
}

/// The element that stands for a token: xxh3 of its UTF-8, 64 bits, modulo 2038074743.
///
/// Two tokens of n share an element with a probability of n² / 2³².
///
/// ```
/// assert_eq!(lshjoin::token_index("near"), 629571662);
/// ```
pub fn token_index(token: impl AsRef<[u8]>) -> u32 {
    (xxh3_64(token.as_ref()) % u64::from(HASH_PRIME)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(offsets: &[usize], elements: &[i64]) -> Result<Sets> {
        Sets::new(offsets, elements, &Context::new().unwrap())
    }

    #[test]
    fn elements_are_in_order_and_there_once() {
        let made = sets(&[0, 4, 5, 8], &[5, 1, 5, 1, 5, 9, 8, 8]).unwrap();
        assert_eq!(made.len(), 3);
        let each: Vec<_> = (0..4).map(|row| made.get(row)).collect();
        assert_eq!(each, [&[1, 5][..], &[5], &[8, 9], &[]]);
        assert_eq!(sets(&[0], &[]).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_set_is_refused_with_its_row() {
        let row = |offsets: &[usize], elements: &[i64]| match sets(offsets, elements) {
            Err(Error::Set { row, .. }) => row,
            other => panic!("{other:?}"),
        };
        assert_eq!(row(&[0, 1, 1, 2], &[3, 4]), 1);
        assert_eq!(row(&[0, 1, 3], &[3, 4, -1]), 1);
        let prime = i64::from(HASH_PRIME);
        assert_eq!(row(&[0, 1], &[prime]), 0);
        assert_eq!(sets(&[0, 1], &[prime - 1]).unwrap().get(0), [2_038_074_742]);
        for offsets in [&[][..], &[1, 2], &[0, 1], &[0, 3, 2], &[0, 2, 1, 2]] {
            let error = sets(offsets, &[3, 4]).unwrap_err();
            assert!(matches!(
                error,
                Error::Parameter {
                    name: "offsets",
                    ..
                }
            ));
        }
    }
}
