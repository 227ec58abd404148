//! Records that are put aside on disk until it is known where they go: in parts, of which each has its
//! records in the order in which they came.

use std::path::{Path, PathBuf};

use lshjoin_kernels::memory;
use rayon::prelude::*;

use crate::{
    base::error::{Error, Result},
    storage::files::{UnfinishedFile, is_name_of_spill, remove},
};

/// How an out-of-memory error names them.
pub(crate) const PUT_ASIDE: &str = "items on their way to their lists";

/// Records of so many 32-bit words each, in parts, each of which is a file until it is removed.
#[derive(Debug, Default)]
pub(crate) struct Spill {
    record: usize,
    parts: Vec<Option<Part>>,
}

#[derive(Debug)]
struct Part {
    file: UnfinishedFile,
    /// Words that it has.
    words: usize,
}

impl Spill {
    /// In new files, one for each part.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn create(record: usize, paths: &[PathBuf]) -> Result<Self> {
        let parts = paths.iter().map(|path| {
            let file = UnfinishedFile::create(path)?;
            Ok(Some(Part { file, words: 0 }))
        });
        let parts = parts.collect::<Result<_>>()?;
        Ok(Self { record, parts })
    }

    /// Goes on with the files in `directory` of the last parts; those before were removed. Each part
    /// has so many records, or had.
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
        let left = files
            .iter()
            .zip(&records[removed..])
            .map(|(file, records)| {
                let path = directory.join(file);
                let other = || Error::damaged(&path, "it is not the file that was begun");
                if !is_name_of_spill(file) {
                    return Err(other());
                }
                let (file, words) = (UnfinishedFile::reopen(&path)?, records * record);
                // What was written after the last checkpoint is written over.
                if file.len()? < (words * size_of::<u32>()) as u64 {
                    return Err(other());
                }
                Ok(Some(Part { file, words }))
            });
        let parts = (0..removed).map(|_| Ok(None)).chain(left);
        let parts = parts.collect::<Result<_>>()?;
        Ok(Self { record, parts })
    }

    /// How many parts there are, those that were removed among them.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The names of the files of all parts from one on.
    pub(crate) fn files(&self, first: usize) -> Vec<String> {
        let left = self.parts[first..].iter().flatten();
        left.map(|part| part.file.name()).collect()
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
            let Some(part) = part else { return Ok(()) };
            let mut words = Vec::new();
            fill(number, &mut words)?;
            let at = part.words * size_of::<u32>();
            part.file.write(at, bytemuck::cast_slice(&words))?;
            part.words += words.len();
            Ok(())
        })
    }

    /// Brings to disk what was written so far.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let left = self.parts.par_iter_mut().flatten();
        left.try_for_each(|part| part.file.sync())
    }

    /// Hands over the records of a part, so many at a time at most.
    ///
    /// # Errors
    /// What the system says, and those of `each`.
    pub(crate) fn read(
        &self,
        part: usize,
        at_once: usize,
        mut each: impl FnMut(&[u32]) -> Result<()>,
    ) -> Result<()> {
        let Some(part) = &self.parts[part] else {
            return Ok(());
        };
        let at_once = at_once * self.record;
        let mut words: Vec<u32> = memory::zeroed(at_once.min(part.words), PUT_ASIDE)?;
        (0..part.words).step_by(at_once).try_for_each(|first| {
            let some = &mut words[..at_once.min(part.words - first)];
            let at = first * size_of::<u32>();
            part.file.read(at, bytemuck::cast_slice_mut(some))?;
            each(some)
        })
    }

    /// Removes a part.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn remove(&mut self, part: usize) -> Result<()> {
        let Some(part) = self.parts[part].take() else {
            return Ok(());
        };
        let path = part.file.path().to_path_buf();
        drop(part); // Windows removes no file that is open.
        remove(&path)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn paths(directory: &Path) -> Vec<PathBuf> {
        let names = (0..3).map(|part| format!("spill-{part}.bin"));
        names.map(|name| directory.join(name)).collect()
    }

    /// Appends records of 2 words to 3 parts in turn.
    fn append(spill: &mut Spill, range: Range<u32>) {
        let fill = |part: usize, words: &mut Vec<u32>| {
            let of_part = range.clone().filter(|record| record % 3 == part as u32);
            words.extend(of_part.flat_map(|record| [record, record * record]));
            Ok(())
        };
        spill.append(fill).unwrap();
    }

    fn records(spill: &Spill, part: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let each = |words: &[u32]| {
            assert!((1..=4).contains(&(words.len() / 2)) && words.len().is_multiple_of(2));
            assert!(words.chunks(2).all(|record| record[1] == record[0].pow(2)));
            found.extend(words.iter().step_by(2));
            Ok(())
        };
        spill.read(part, 4, each).unwrap();
        found
    }

    fn expected(part: usize, end: u32) -> Vec<u32> {
        (part as u32..end).step_by(3).collect()
    }

    #[test]
    fn parts_give_back_what_came_in_its_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(2, &paths(directory.path())).unwrap();
        for range in [0..10, 10..11, 11..40] {
            append(&mut spill, range);
        }
        for part in (0..3).rev() {
            assert_eq!(records(&spill, part), expected(part, 40));
            spill.remove(part).unwrap();
            assert!(records(&spill, part).is_empty());
            assert_eq!(spill.files(0).len(), part);
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_came_after_a_checkpoint_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(2, &paths(directory.path())).unwrap();
        append(&mut spill, 0..12);
        spill.sync().unwrap();
        append(&mut spill, 100..130);
        let files = spill.files(1);
        drop(spill);
        let reopen = |records: [usize; 3]| Spill::reopen(2, &records, directory.path(), &files);
        let mut spill = reopen([4, 4, 4]).unwrap();
        append(&mut spill, 12..30);
        assert_eq!((spill.len(), spill.files(0)), (3, files.clone()));
        for part in 1..3 {
            assert_eq!(records(&spill, part), expected(part, 30));
        }
        assert!(matches!(reopen([4, 4, 400]), Err(Error::Damaged { .. })));
    }
}
