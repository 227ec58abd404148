//! The directory of an index: a manifest, and the files that it names.
//!
//! Files are never written to again. A new index in the same place has files of new names, and
//! exists from the moment that its manifest is renamed over the old one; the old files are removed
//! after that. Whoever has them mapped keeps them.
//!
//! Before a file is made, a journal says that it is going to be. What the journal names, and the
//! manifest does not, may be removed, whoever left it; nothing else ever is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    base::error::{Error, Result},
    storage::{
        files::{is_name_of, is_name_of_spill, read_if_there, remove},
        format::{Shape, Written},
        layout::{ARRAYS, CHECKPOINT_ARRAYS, SPILL_PARTS},
        manifest::{FORMAT, IndexMetadata, MANIFEST, Manifest},
        spill::Spill,
        writer::ArrayWriter,
    },
};

const JOURNAL: &str = "manifest-unfinished.json";
/// The name of either until it is complete.
const TEMPORARY: &str = ".manifest.unfinished";
/// What is locked on Windows, which opens no directories.
const LOCK: &str = ".manifest.lock";

/// The files that are there, or may be, beside the manifest.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    /// Those of the manifest too: when it is replaced, they can go.
    files: BTreeSet<String>,
    /// A build that can be resumed.
    build: Option<Checkpoint>,
}

/// How far the build of an index has come.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checkpoint {
    library_version: String,
    metadata: IndexMetadata,
    /// Items whose lists were found, and which were put aside.
    pub(crate) seen: usize,
    /// Parts of the spill that were written by list after that.
    pub(crate) stored: usize,
    /// The files of the other parts.
    pub(crate) spill: Vec<String>,
    /// The scale of codes, as bits, so that it is restored exactly.
    pub(crate) scale: Option<u32>,
    /// The largest norm, as bits.
    pub(crate) longest: u64,
    /// The files of all arrays, by the names of these.
    pub(crate) files: BTreeMap<String, CheckpointFile>,
}

/// A file that is being written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointFile {
    pub(crate) file: String,
    pub(crate) shape: Shape,
}

impl Checkpoint {
    pub(crate) fn new(metadata: IndexMetadata, files: BTreeMap<String, CheckpointFile>) -> Self {
        Self {
            library_version: env!("CARGO_PKG_VERSION").into(),
            metadata,
            seen: 0,
            stored: 0,
            spill: Vec::new(),
            scale: None,
            longest: 0,
            files,
        }
    }

    /// The names of all its files.
    fn names(&self) -> impl Iterator<Item = &String> {
        let arrays = self.files.values().map(|file| &file.file);
        arrays.chain(&self.spill)
    }
}

/// A directory that an index is written to. Nobody else writes to it meanwhile.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The directory itself, or [`LOCK`], locked. The lock ends with the process, however that ends.
    lock: File,
    journal: Journal,
    /// What the names of new files end in.
    token: String,
}

impl Directory {
    /// Locks the directory, making it if there is none, and removes what is left of writers that
    /// were killed.
    ///
    /// # Errors
    /// When it holds anything but an index, or another process is writing to it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let io = |error| Error::io(path, error);
        fs::create_dir_all(path).map_err(io)?;
        let lock = if cfg!(windows) {
            File::create(path.join(LOCK))
        } else {
            File::open(path)
        };
        let lock = lock.map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io(io::Error::new(
                io::ErrorKind::WouldBlock,
                "another process is saving an index there; wait for it or end it",
            )),
            fs::TryLockError::Error(error) => io(error),
        })?;
        let named = named_files(path)?;
        let mut journal = read_journal(path)?;
        let mut there = BTreeSet::new();
        for entry in fs::read_dir(path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let name: String = name.to_string_lossy().into();
            if ![MANIFEST, JOURNAL, TEMPORARY, LOCK].contains(&&*name)
                && !named.contains(&name)
                && !journal.files.contains(&name)
            {
                return Err(Error::damaged(
                    path,
                    &format!(
                        "it holds {name:?}, which is of no lshjoin index: give another directory"
                    ),
                ));
            }
            there.insert(name);
        }
        // A build that was committed, or has lost files, is not resumed.
        journal.build = journal.build.filter(|build| {
            let mut names = build.names();
            names.all(|name| there.contains(name) && !named.contains(name))
        });
        journal.files.extend(named);
        let mut directory = Self {
            path: path.into(),
            lock,
            journal,
            token: format!("{:016x}", RandomState::new().hash_one(path)),
        };
        directory.settle()?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names all files that will be made, in the journal. To be called before the first
    /// [`Directory::writer`].
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let names = ARRAYS.into_iter().chain(CHECKPOINT_ARRAYS);
        let arrays = names.map(|name| self.file_name(name));
        let parts = (0..SPILL_PARTS).map(|part| self.spill_name(part));
        let names: Vec<String> = arrays.chain(parts).collect();
        self.journal.files.extend(names);
        self.write_json(JOURNAL, &self.journal)
    }

    fn file_name(&self, array: &str) -> String {
        format!("{array}-{}.safetensors", self.token)
    }

    fn spill_name(&self, part: usize) -> String {
        format!("spill-{}{part:02}.bin", self.token)
    }

    pub(crate) fn writer(&self, name: &'static str, shape: Shape) -> Result<ArrayWriter> {
        let path = self.path.join(self.file_name(name));
        ArrayWriter::new(name, shape, Some(&path))
    }

    /// A spill of so many parts, [`SPILL_PARTS`] at most.
    pub(crate) fn spill(&self, record: usize, parts: usize) -> Result<Spill> {
        let paths = (0..parts).map(|part| self.path.join(self.spill_name(part)));
        Spill::create(record, &paths.collect::<Vec<_>>())
    }

    /// Makes these files the index of this directory.
    ///
    /// # Errors
    /// What the system says. The directory has its old index then, or the new one.
    pub(crate) fn commit(
        mut self,
        metadata: IndexMetadata,
        files: Vec<Written>,
    ) -> Result<Manifest> {
        let stored = |written: Written| (written.name.into(), written.stored);
        let manifest = Manifest::new(metadata, files.into_iter().map(stored).collect());
        self.lock
            .sync_all()
            .map_err(|error| Error::io(&self.path, error))?;
        self.write_json(MANIFEST, &manifest)?;
        self.clear()?;
        Ok(manifest)
    }

    /// Removes what belongs to no index, even a build that could be resumed.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.journal.build = None;
        self.settle()
    }

    /// Removes what belongs neither to an index nor to a build that can be resumed.
    fn settle(&mut self) -> Result<()> {
        let mut kept = named_files(&self.path)?;
        let build = self.journal.build.iter();
        kept.extend(build.flat_map(Checkpoint::names).cloned());
        for name in self.journal.files.difference(&kept) {
            remove(&self.path.join(name))?;
        }
        remove(&self.path.join(TEMPORARY))?;
        if self.journal.build.is_none() {
            // Last: it says that the others may go.
            remove(&self.path.join(JOURNAL))?;
            self.journal.files = kept;
        }
        Ok(())
    }

    /// Writes a file in place of any of the same name. When this returns, it is on disk.
    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let io = |error| Error::io(&self.path, error);
        let text = serde_json::to_vec_pretty(value).map_err(|error| io(error.into()))?;
        let temporary = self.path.join(TEMPORARY);
        remove(&temporary)?;
        let mut file = File::create_new(&temporary).map_err(io)?;
        file.write_all(&text).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&temporary, self.path.join(name)).map_err(io)?;
        self.lock.sync_all().map_err(io)
    }

    /// Records what a builder needs to go on from here.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn record(&mut self, checkpoint: Checkpoint) -> Result<()> {
        self.journal.build = Some(checkpoint);
        self.write_json(JOURNAL, &self.journal)
    }

    /// What a builder of the same index left that can be resumed.
    pub(crate) fn checkpoint(&self, metadata: &IndexMetadata) -> Option<&Checkpoint> {
        self.journal.build.as_ref().filter(|build| {
            build.library_version == env!("CARGO_PKG_VERSION") && build.metadata == *metadata
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The next writer does it if this fails.
        let _ = self.settle();
    }
}

/// The array files that the manifest in a directory names; none where there is no manifest. An
/// index may be replaced, also a damaged one or one of another version; anything else may not.
fn named_files(directory: &Path) -> Result<BTreeSet<String>> {
    let path = directory.join(MANIFEST);
    let Some(text) = read_if_there(&path)? else {
        return Ok(BTreeSet::new());
    };
    let manifest: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| Error::damaged(&path, &format!("it is no manifest: {error}")))?;
    if manifest["format"] != FORMAT {
        return Err(Error::damaged(
            &path,
            "it is not the manifest of an lshjoin index",
        ));
    }
    let arrays = manifest["arrays"].as_object();
    let files = arrays.into_iter().flat_map(|arrays| arrays.values());
    let names = files.filter_map(|stored| stored["file"].as_str());
    Ok(names.filter(|name| is_own(name)).map(Into::into).collect())
}

fn read_journal(directory: &Path) -> Result<Journal> {
    let path = directory.join(JOURNAL);
    let Some(text) = read_if_there(&path)? else {
        return Ok(Journal::default());
    };
    let journal: Option<Journal> = serde_json::from_slice(&text).ok();
    let own = |journal: &Journal| {
        let mut names = journal.build.iter().flat_map(Checkpoint::names);
        names.all(|name| journal.files.contains(name))
            && journal.files.iter().all(|name| is_own(name))
    };
    journal.filter(own).ok_or_else(|| {
        Error::damaged(
            &path,
            "it is not what a save left that did not come to its end: delete it, or give another \
             directory",
        )
    })
}

/// Whether a file can be one of an index, or of its build, by its name.
fn is_own(name: &str) -> bool {
    let mut arrays = ARRAYS.iter().chain(&CHECKPOINT_ARRAYS);
    arrays.any(|array| is_name_of(array, name)) || is_name_of_spill(name)
}

#[cfg(test)]
mod tests {
    use crate::storage::manifest::MANIFEST;
    use crate::storage::manifest::Manifest;
    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{base::context::Context, base::metric::Metric, index::Index};

    fn saved(path: &Path) -> Index {
        let values: Vec<f32> = (0..60).map(|value| (value * 7 % 60) as f32).collect();
        let ctx = Context::new().unwrap();
        let rows = Rows::new(&values, 2).unwrap();
        let ids: Vec<i64> = (0..30).collect();
        let index = Index::build(rows, &ids, Metric::Cosine, None, 0, &ctx).unwrap();
        index.save(path, &ctx).unwrap();
        index
    }

    #[test]
    fn a_manifest_is_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path());
        let manifest = Manifest::read(directory.path()).unwrap();
        assert_eq!(manifest.checksum, manifest.sum());
        assert_eq!(manifest.metadata.items, 30);
        assert!(manifest.arrays.keys().eq(ARRAYS));
    }

    #[test]
    fn every_letter_of_a_manifest_counts() {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path());
        let path = directory.path().join(MANIFEST);
        let text = fs::read(&path).unwrap();
        let manifest = Manifest::read(directory.path()).unwrap();
        for at in 0..text.len() {
            let mut altered = text.clone();
            altered[at] ^= 1;
            fs::write(&path, altered).unwrap();
            match Manifest::read(directory.path()) {
                Err(Error::Damaged { path: named, .. }) => assert_eq!(named, path),
                // One kind of white space for another.
                read => assert_eq!(read.unwrap(), manifest, "byte {at}"),
            }
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Directory::create(directory.path()).unwrap();
        assert!(matches!(
            Directory::create(directory.path()),
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock
        ));
        drop(first);
        Directory::create(directory.path()).unwrap();
    }

    /// A directory as a kill leaves it after some files were begun.
    fn killed(path: &Path) -> Vec<String> {
        let mut directory = Directory::create(path).unwrap();
        directory.begin().unwrap();
        for name in ["lists", "rows"] {
            let shape = Shape::new(safetensors::Dtype::U8, &[3]);
            directory.writer(name, shape).unwrap();
        }
        directory.lock.unlock().unwrap();
        std::mem::forget(directory);
        names(path)
    }

    #[test]
    fn what_a_kill_left_goes_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let index = saved(directory.path());
        let before = names(directory.path());
        let left = killed(directory.path());
        assert_eq!(left.len(), before.len() + 3);
        Index::open(directory.path(), true, &Context::new().unwrap()).unwrap();
        fs::write(directory.path().join("rows-mine.safetensors"), "all mine").unwrap();
        let refused = index.save(directory.path(), &Context::new().unwrap());
        assert!(refused.unwrap_err().to_string().contains("rows-mine"));
        assert_eq!(names(directory.path()).len(), left.len() + 1);
        fs::remove_file(directory.path().join("rows-mine.safetensors")).unwrap();
        drop(Directory::create(directory.path()).unwrap());
        assert_eq!(names(directory.path()), before);
    }

    /// The journal goes last, after all files that it names and the manifest does not.
    #[test]
    fn the_journal_is_the_last_to_go() {
        let directory = tempfile::tempdir().unwrap();
        let left = killed(directory.path());
        let lists = left.iter().find(|name| name.starts_with("lists")).unwrap();
        let lists = directory.path().join(lists);
        fs::remove_file(&lists).unwrap();
        fs::create_dir(&lists).unwrap(); // which can't be removed as a file is
        assert!(matches!(
            Directory::create(directory.path()),
            Err(Error::Io { .. })
        ));
        assert!(names(directory.path()).contains(&JOURNAL.into()));
        fs::remove_dir(&lists).unwrap();
        drop(Directory::create(directory.path()).unwrap());
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_journal_of_other_files_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join(JOURNAL);
        for name in ["../rows-1.safetensors", "thesis.txt", "manifest-notes.json"] {
            let files = BTreeSet::from([name.to_string()]);
            let text = serde_json::to_vec(&Journal { files, build: None });
            fs::write(&journal, text.unwrap()).unwrap();
            let refused = Directory::create(directory.path()).unwrap_err();
            assert!(refused.to_string().contains(JOURNAL), "{refused}");
            assert_eq!(names(directory.path()), [JOURNAL]);
        }
    }

    #[test]
    fn a_save_that_is_not_committed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let index = saved(directory.path());
        let ctx = Context::new().unwrap();
        ctx.cancel();
        assert_eq!(index.save(directory.path(), &ctx), Err(Error::Cancelled));
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, ARRAYS.len() + 1);
        Index::open(directory.path(), false, &Context::new().unwrap()).unwrap();
    }
}
