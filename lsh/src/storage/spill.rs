//! Records that are put aside until it is known where they go: in parts, of which each has its
//! records in the order in which they came, in memory or in a file of its own.

use std::path::{Path, PathBuf};

use lshjoin_kernels::memory;
use rayon::prelude::*;

use crate::{
    base::error::{Error, Result},
    storage::files::{UnfinishedFile, is_name_of_spill, remove},
};

/// How an out-of-memory error names them.
pub(crate) const PUT_ASIDE: &str = "items on their way to their lists";

/// Records of so many 32-bit words each, in parts.
#[derive(Debug)]
pub(crate) struct Spill {
    record: usize,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    /// As they were appended.
    Memory(Vec<Vec<u32>>),
    /// So many words of a file.
    File(UnfinishedFile, usize),
}

impl Spill {
    /// Of so many parts, in memory.
    pub(crate) fn in_memory(record: usize, parts: usize) -> Self {
        let parts = (0..parts).map(|_| Part::Memory(Vec::new())).collect();
        Self { record, parts }
    }

    /// In new files, one for each part.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(record: usize, paths: &[PathBuf]) -> Result<Self> {
        let parts = paths.iter();
        let parts = parts.map(|path| Ok(Part::File(UnfinishedFile::create(path)?, 0)));
        let parts = parts.collect::<Result<_>>()?;
        Ok(Self { record, parts })
    }

    /// Goes on with the files in `directory` of the last parts, which have at least so many
    /// records, those of all parts; those that come before were removed.
    ///
    /// # Errors
    /// What the system says, or when they are not files that were begun.
    pub(crate) fn reopen(
        record: usize,
        records: &[usize],
        directory: &Path,
        files: &[String],
    ) -> Result<Self> {
        let removed = records.len().saturating_sub(files.len());
        let mut spill = Self::in_memory(record, removed);
        for (file, records) in files.iter().zip(&records[removed..]) {
            let path = directory.join(file);
            let other = || Error::damaged(&path, "it is not the file that was begun");
            if !is_name_of_spill(file) {
                return Err(other());
            }
            let (opened, words) = (UnfinishedFile::reopen(&path)?, records * record);
            // What was written after the last checkpoint is written over.
            if opened.len()? < (words * size_of::<u32>()) as u64 {
                return Err(other());
            }
            spill.parts.push(Part::File(opened, words));
        }
        Ok(spill)
    }

    /// How many parts there are, those that were removed among them.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The names of the files of all parts from one on.
    pub(crate) fn files(&self, first: usize) -> Vec<String> {
        let parts = self.parts[first..].iter();
        let names = parts.filter_map(|part| match part {
            Part::Memory(_) => None,
            Part::File(file, _) => Some(file.name()),
        });
        names.collect()
    }

    /// Appends to each part what `fill` gives of it, whole records.
    ///
    /// # Errors
    /// What the system says, and those of `fill`.
    pub(crate) fn append(
        &mut self,
        fill: impl Fn(usize, &mut Vec<u32>) -> Result<()> + Sync,
    ) -> Result<()> {
        let parts = self.parts.par_iter_mut().enumerate();
        parts.try_for_each(|(number, part)| {
            let mut added = Vec::new();
            fill(number, &mut added)?;
            match part {
                Part::Memory(records) => Ok(memory::push(records, added, PUT_ASIDE)?),
                Part::File(file, words) => {
                    file.write(*words * size_of::<u32>(), bytemuck::cast_slice(&added))?;
                    *words += added.len();
                    Ok(())
                }
            }
        })
    }

    /// Brings to disk what was written so far.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let parts = self.parts.par_iter_mut();
        parts.try_for_each(|part| match part {
            Part::Memory(_) => Ok(()),
            Part::File(file, _) => file.sync(),
        })
    }

    /// Hands over the records of a part, so many at a time at most. From memory they are gone then.
    ///
    /// # Errors
    /// What the system says, and those of `each`.
    pub(crate) fn read(
        &mut self,
        part: usize,
        at_once: usize,
        mut each: impl FnMut(&[u32]) -> Result<()>,
    ) -> Result<()> {
        let at_once = at_once * self.record;
        match &mut self.parts[part] {
            Part::Memory(records) => {
                let mut records = std::mem::take(records).into_iter();
                records.try_for_each(|records| records.chunks(at_once).try_for_each(&mut each))
            }
            Part::File(file, words) => {
                let mut read: Vec<u32> = memory::zeroed(at_once.min(*words), PUT_ASIDE)?;
                (0..*words).step_by(at_once).try_for_each(|first| {
                    let some = &mut read[..at_once.min(*words - first)];
                    file.read(first * size_of::<u32>(), bytemuck::cast_slice_mut(some))?;
                    each(some)
                })
            }
        }
    }

    /// Removes a part with its file.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn remove(&mut self, part: usize) -> Result<()> {
        let removed = std::mem::replace(&mut self.parts[part], Part::Memory(Vec::new()));
        let Part::File(file, _) = removed else {
            return Ok(());
        };
        let path = file.path().to_path_buf();
        drop(file); // Windows removes no file that is open.
        remove(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends records of 2 words to 3 parts in turn.
    fn append(spill: &mut Spill, range: std::ops::Range<u32>) {
        spill
            .append(|part, words| {
                let of_part = range.clone().filter(|record| record % 3 == part as u32);
                words.extend(of_part.flat_map(|record| [record, record * record]));
                Ok(())
            })
            .unwrap();
    }

    fn records(spill: &mut Spill, part: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let each = |words: &[u32]| {
            assert!(!words.is_empty() && words.len() <= 2 * 4 && words.len().is_multiple_of(2));
            assert!(words.chunks(2).all(|record| record[1] == record[0].pow(2)));
            found.extend(words.iter().step_by(2));
            Ok(())
        };
        spill.read(part, 4, each).unwrap();
        found
    }

    fn expected(part: u32, end: u32) -> Vec<u32> {
        (part..end).step_by(3).collect()
    }

    #[test]
    fn memory_and_files_give_back_what_came_in_its_order() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3)
            .map(|part| directory.path().join(format!("spill-{part}.bin")))
            .collect();
        for mut spill in [Spill::in_memory(2, 3), Spill::create(2, &paths).unwrap()] {
            for range in [0..10, 10..11, 11..40] {
                append(&mut spill, range);
            }
            for part in (0..3).rev() {
                assert_eq!(records(&mut spill, part), expected(part as u32, 40));
                spill.remove(part).unwrap();
                assert!(records(&mut spill, part).is_empty());
            }
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_came_after_a_checkpoint_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3)
            .map(|part| directory.path().join(format!("spill-{part}.bin")))
            .collect();
        let mut spill = Spill::create(2, &paths).unwrap();
        append(&mut spill, 0..12);
        spill.sync().unwrap();
        append(&mut spill, 100..130);
        let files = spill.files(1);
        drop(spill);
        let reopen = |records: [usize; 3]| Spill::reopen(2, &records, directory.path(), &files);
        let mut spill = reopen([4, 4, 4]).unwrap();
        append(&mut spill, 12..30);
        assert_eq!(spill.files(1), files);
        for part in 1..3 {
            assert_eq!(records(&mut spill, part), expected(part as u32, 30));
        }
        assert!(matches!(reopen([4, 4, 400]), Err(Error::Damaged { .. })));
    }
}
