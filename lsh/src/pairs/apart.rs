//! Which pairs of rows are kept apart, since both have the same key.

use std::{borrow::Cow, collections::HashMap};

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{error::Result, keys::NO_KEY},
    pairs::groups::GROUPS,
    vectors::Vectors,
};

/// The keys of both sides' rows by internal id.
pub(crate) struct Apart<'a> {
    /// `None` in a self-join.
    left: Option<Cow<'a, [u32]>>,
    right: Cow<'a, [u32]>,
}

impl<'a> Apart<'a> {
    /// The keys that these sides have, if they have some.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn of<T: Scalar>(
        left: Option<&'a Vectors<'_, T>>,
        right: &'a Vectors<'_, T>,
    ) -> Result<Option<Self>> {
        let Some(of_right) = by_id(right)? else {
            return Ok(None);
        };
        let left = left.map(by_id).transpose()?;
        Ok(Some(Self {
            left: left.flatten(),
            right: of_right,
        }))
    }

    /// Whether a left and a right row may be neighbours.
    pub(crate) fn lets_in(&self, left: u32, right: u32) -> bool {
        let key = self.key(left);
        key == NO_KEY || key != self.right[right as usize]
    }

    /// Of these left rows, those that have found fewer than the `k` right rows, or than there are for
    /// them.
    pub(crate) fn unfilled(&self, rows: &mut Vec<u32>, k: usize, found: impl Fn(u32) -> usize) {
        let mut same = HashMap::new();
        for &key in self.right.iter().filter(|&&key| key != NO_KEY) {
            *same.entry(key).or_insert(0_usize) += 1;
        }
        let of_key = |key| same.get(&key).copied().unwrap_or(0);
        rows.retain(|&row| {
            let others = self.right.len() - of_key(self.key(row));
            found(row) < k.min(others)
        });
    }

    fn key(&self, left: u32) -> u32 {
        self.left.as_ref().unwrap_or(&self.right)[left as usize]
    }
}

fn by_id<'a, T: Scalar>(side: &'a Vectors<'_, T>) -> Result<Option<Cow<'a, [u32]>>> {
    let Some(keys) = side.apart() else {
        return Ok(None);
    };
    Ok(Some(match side.rows_by_id() {
        None => keys.into(),
        Some(rows) => {
            let keys = rows.iter().map(|&row| keys[row as usize]);
            memory::collect(keys, GROUPS)?.into()
        }
    }))
}
