//! Rows of both sides by key.

use std::ops::Range;

use lshjoin_kernels::{Sorter, memory};

use crate::base::{error::Result, keys::NO_KEY};

/// Rows of a block, at most, that groups share: to compare all of these takes no longer than to begin
/// with another.
const SHARED: usize = 64;

/// The rows that have a key, in the order of their keys, and where those of each are.
pub(crate) struct Groups {
    /// `None` in a self-join of the right side.
    left: Option<Vec<u32>>,
    right: Vec<u32>,
    pub(crate) groups: Vec<Group>,
}

/// The rows of one key: positions in the orders of both sides, none of them empty.
#[derive(Clone)]
pub(crate) struct Group {
    pub(crate) left: Range<usize>,
    pub(crate) right: Range<usize>,
}

impl Groups {
    /// All rows as one group, in these orders; in a self-join the right ones alone.
    pub(crate) fn of_all(left: Option<Vec<u32>>, right: Vec<u32>) -> Self {
        let all = Group {
            left: 0..left.as_ref().unwrap_or(&right).len(),
            right: 0..right.len(),
        };
        Self {
            left,
            right,
            groups: vec![all],
        }
    }

    /// By the keys of both sides; those of the right one alone in a self-join. Within a group rows
    /// stay in rising order.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(left: Option<&[u32]>, right: &[u32]) -> Result<Self> {
        let (right_order, of_right) = sorted(right)?;
        let Some(left) = left else {
            let groups = of_right.into_iter().map(|(_, rows)| Group {
                left: rows.clone(),
                right: rows,
            });
            return Ok(Self {
                left: None,
                right: right_order,
                groups: memory::collect(groups, GROUPS)?,
            });
        };
        let (left_order, of_left) = sorted(left)?;
        let mut of_right = of_right.into_iter().peekable();
        let both = of_left.into_iter().filter_map(|(key, left)| {
            while of_right.next_if(|&(other, _)| other < key).is_some() {}
            let (_, right) = of_right.next_if(|&(other, _)| other == key)?;
            Some(Group { left, right })
        });
        Ok(Self {
            groups: memory::collect(both, GROUPS)?,
            left: Some(left_order),
            right: right_order,
        })
    }

    /// The left and the right rows in the order of keys.
    pub(crate) fn order(&self) -> (&[u32], &[u32]) {
        (self.left.as_ref().unwrap_or(&self.right), &self.right)
    }

    /// The left and the right rows of a group.
    pub(crate) fn rows(&self, group: &Group) -> (&[u32], &[u32]) {
        let (left, right) = self.order();
        (&left[group.left.clone()], &right[group.right.clone()])
    }

    /// The groups as blocks to be compared. Those of a few rows share one: what else is in it, rows of
    /// two keys, has to be left out.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn blocks(&self) -> Result<Vec<Group>> {
        let mut blocks: Vec<Group> = Vec::new();
        for group in &self.groups {
            let is_small = |block: &&mut Group| {
                let left = group.left.end - block.left.start;
                let right = group.right.end - block.right.start;
                left.max(right) <= SHARED
            };
            match blocks.last_mut().filter(is_small) {
                Some(block) => {
                    block.left.end = group.left.end;
                    block.right.end = group.right.end;
                }
                None => memory::push(&mut blocks, group.clone(), GROUPS)?,
            }
        }
        Ok(blocks)
    }

    /// Pairs of rows of one key; in a self-join each once.
    pub(crate) fn pairs(&self) -> u64 {
        self.groups.iter().map(|group| self.pairs_of(group)).sum()
    }

    /// Those of one group.
    pub(crate) fn pairs_of(&self, group: &Group) -> u64 {
        let (left, right) = (group.left.len() as u64, group.right.len() as u64);
        match self.left {
            Some(_) => left * right,
            None => right * right.saturating_sub(1) / 2,
        }
    }
}

/// How an out-of-memory error names them.
pub(crate) const GROUPS: &str = "groups of rows";

/// A key, and where its rows are in the order of keys.
type OfKey = (u32, Range<usize>);

/// The rows that have a key, by key and then by row.
fn sorted(keys: &[u32]) -> Result<(Vec<u32>, Vec<OfKey>)> {
    let wide = memory::collect(keys.iter().map(|&key| u64::from(key)), GROUPS)?;
    let mut order = Vec::new();
    Sorter::new().sort(&wide, u32::BITS, &mut order)?;
    let key = |row: u32| keys[row as usize];
    order.truncate(order.partition_point(|&row| key(row) != NO_KEY));
    let mut groups = Vec::new();
    let mut start = 0;
    for rows in order.chunk_by(|&x, &y| key(x) == key(y)) {
        let end = start + rows.len();
        memory::push(&mut groups, (key(rows[0]), start..end), GROUPS)?;
        start = end;
    }
    Ok((order, groups))
}

impl Group {
    /// Whether the group has all rows of sides of these lengths.
    pub(crate) fn is_all(&self, left: usize, right: usize) -> bool {
        self.left.len() == left && self.right.len() == right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<u32>> {
        let key = prop_oneof![Just(NO_KEY), 0..5_u32, Just(NO_KEY - 1)];
        prop::collection::vec(key, 0..200)
    }

    proptest! {
        #[test]
        fn rows_meet_that_have_equal_keys(left in keys(), right in keys()) {
            let equal = |left: &[u32], right: &[u32]| {
                let mut pairs = Vec::new();
                for (x, of_x) in (0..).zip(left) {
                    let others = (0..).zip(right).filter(|&(_, of_y)| of_x == of_y);
                    pairs.extend(others.map(|(y, _): (u32, _)| (x, y)));
                }
                pairs.retain(|&(x, _): &(u32, u32)| left[x as usize] != NO_KEY);
                pairs
            };
            let within = |groups: &Groups, of: &[Group]| {
                let mut pairs = Vec::new();
                for group in of {
                    let (left, right) = groups.rows(group);
                    pairs.extend(left.iter().flat_map(|&x| right.iter().map(move |&y| (x, y))));
                }
                pairs.sort_unstable();
                pairs
            };
            for queries in [None, Some(left.as_slice())] {
                let groups = Groups::new(queries, &right).unwrap();
                let expected = equal(queries.unwrap_or(&right), &right);
                prop_assert_eq!(&within(&groups, &groups.groups), &expected);
                let found = groups.pairs() as usize;
                prop_assert_eq!(found, match queries {
                    None => (expected.len() - groups.order().1.len()) / 2,
                    Some(_) => expected.len(),
                });
                // Blocks have all of these pairs, each once, and some others.
                let mut blocks = within(&groups, &groups.blocks().unwrap());
                let all = blocks.len();
                blocks.dedup();
                prop_assert_eq!(blocks.len(), all);
                prop_assert!(expected.iter().all(|pair| blocks.binary_search(pair).is_ok()));
            }
        }
    }
}
