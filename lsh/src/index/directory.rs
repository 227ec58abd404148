//! The directory of an index: a manifest, and the files that it names.
//!
//! Files are never written to again. A new index in the same place has files of new names, and
//! exists from the moment that its manifest is renamed over the old one; the old files are removed
//! after that. Whoever has them mapped keeps them.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::array::{Array, ArrayWriter, Shape, StoredArray, Written, new_file, open_regular};
use crate::{
    error::{Error, Result},
    plan::JoinPlan,
};

const MANIFEST: &str = "manifest.json";
const UNFINISHED: &str = "manifest-unfinished.json";
const FORMAT: &str = "lshjoin index";
const FORMAT_VERSION: u64 = 1;

/// Bytes of a manifest, of which a megabyte of arrays takes up some 30: those of 8 TB.
const MOST_BYTES: u64 = 1 << 28;

/// What is known of an index without a look at its arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    format_version: u64,
    library_version: String,
    pub(crate) facts: Facts,
    pub(crate) arrays: BTreeMap<String, StoredArray>,
    /// Of this manifest, with nothing in this place.
    checksum: String,
}

/// What the manifests of all versions have.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    format_version: Option<u64>,
    library_version: Option<String>,
}

/// What an index is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Facts {
    pub(crate) items: usize,
    pub(crate) dim: usize,
    /// By its name.
    pub(crate) metric: String,
    /// By which the cells were made.
    pub(crate) plan: JoinPlan,
}

/// How far an index is that is being built.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unfinished {
    library_version: String,
    facts: Facts,
    /// Whether items are being written by cell, or cells are being found.
    pub(crate) writing: bool,
    /// Items that were done in this pass.
    pub(crate) seen: usize,
    /// As bits: the scale of codes, and the largest squared norm.
    pub(crate) scale: Option<u32>,
    pub(crate) longest: u64,
    /// By array.
    pub(crate) files: BTreeMap<String, UnfinishedFile>,
}

/// A file that is being written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnfinishedFile {
    pub(crate) file: String,
    pub(crate) shape: Shape,
}

impl Unfinished {
    pub(crate) fn new(facts: Facts, files: BTreeMap<String, UnfinishedFile>) -> Self {
        Self {
            library_version: env!("CARGO_PKG_VERSION").into(),
            facts,
            writing: false,
            seen: 0,
            scale: None,
            longest: 0,
            files,
        }
    }
}

impl Manifest {
    fn new(facts: Facts, arrays: BTreeMap<String, StoredArray>) -> Self {
        let mut manifest = Self {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            library_version: env!("CARGO_PKG_VERSION").into(),
            facts,
            arrays,
            checksum: String::new(),
        };
        manifest.checksum = manifest.sum();
        manifest
    }

    fn sum(&self) -> String {
        let mut unsigned = self.clone();
        unsigned.checksum.clear();
        // Strings and numbers: they can be written.
        let text = serde_json::to_vec(&unsigned).unwrap_or_default();
        format!("{:016x}", xxh3_64(&text))
    }

    /// Reads the manifest of a directory.
    ///
    /// # Errors
    /// When there is none, it is of something else or of a later version, or it was altered.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST);
        let text = read(&path).map_err(|error| match error {
            Error::Io {
                kind: io::ErrorKind::NotFound | io::ErrorKind::NotADirectory,
                ..
            } if directory.exists() => Error::damaged(
                directory,
                "it is not an lshjoin index: it has no manifest.json",
            ),
            other => other,
        })?;
        let damaged = |what: &str| Error::damaged(&path, what);
        // Serde repeats a name that it does not know, however long it is.
        let because = |error: serde_json::Error| format!("{:.200}", error.to_string());
        let head: Head = serde_json::from_slice(&text)
            .map_err(|error| damaged(&format!("it is no manifest: {}", because(error))))?;
        if head.format.as_deref() != Some(FORMAT) {
            return Err(damaged("it is not the manifest of an lshjoin index"));
        }
        match head.format_version {
            Some(version) if version <= FORMAT_VERSION => {}
            Some(version) => {
                let by = format!("{:?}", head.library_version.unwrap_or_default());
                return Err(damaged(&format!(
                    "it has format version {version}, by lshjoin {by:.50}, and this lshjoin reads up \
                     to {FORMAT_VERSION}: upgrade lshjoin"
                )));
            }
            None => return Err(damaged("it has no format version")),
        }
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| damaged(&format!("it is damaged: {}", because(error))))?;
        if manifest.checksum != manifest.sum() {
            return Err(damaged("it was altered: its checksum does not fit"));
        }
        Ok(manifest)
    }

    /// An error about the manifest of this directory.
    pub(crate) fn damaged(directory: &Path, problem: &str) -> Error {
        Error::damaged(&directory.join(MANIFEST), problem)
    }

    /// Opens the arrays, to be mapped or read into memory.
    ///
    /// # Errors
    /// When they are not those of an index, a file is missing or is not the one that was written.
    pub(crate) fn open(&self, directory: &Path, mapped: bool) -> Result<BTreeMap<String, Array>> {
        if !self.arrays.keys().map(String::as_str).eq(super::ARRAYS) {
            return Err(Self::damaged(
                directory,
                "it has other arrays than those of an index",
            ));
        }
        let open = |(name, stored): (&String, _)| {
            let array = Array::open(directory, name, stored, mapped)?;
            Ok((name.clone(), array))
        };
        self.arrays.iter().map(open).collect()
    }
}

/// A directory that an index is written to. Nobody else writes to it meanwhile.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The directory itself, locked until it is closed, by a kill too.
    lock: File,
}

impl Directory {
    /// Makes the directory, if there is none.
    ///
    /// # Errors
    /// When it holds anything but an index, or another process is writing to it.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let io = |error| Error::io(path, &error);
        fs::create_dir_all(path).map_err(io)?;
        let lock = File::open(path).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                Error::damaged(path, "another index is being saved there just now")
            }
            fs::TryLockError::Error(error) => io(error),
        })?;
        let directory = Self {
            path: path.into(),
            lock,
        };
        for name in directory.names()? {
            if name != MANIFEST && !is_own(&name) {
                return Err(Error::damaged(
                    path,
                    &format!("it holds {name:?} and is no lshjoin index: give another directory"),
                ));
            }
        }
        if path.join(MANIFEST).exists() {
            // An index may be replaced, also one of another version; anything else may not.
            match Manifest::read(path) {
                Err(error @ Error::Damaged { .. }) if !names_format(path) => return Err(error),
                _ => {}
            }
        }
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn writer(&self, name: &'static str, shape: Shape) -> Result<ArrayWriter> {
        ArrayWriter::new(name, shape, Some(&self.path))
    }

    /// Makes these files the index of this directory.
    ///
    /// # Errors
    /// What the system says. The directory has its old index then, or the new one.
    pub(crate) fn commit(self, facts: Facts, files: Vec<Written>) -> Result<Manifest> {
        let io = |error| Error::io(&self.path, &error);
        let stored = |written: &Written| (written.name.into(), written.stored.clone());
        let manifest = Manifest::new(facts, files.iter().map(stored).collect());
        for written in files {
            written.file.keep().map_err(|error| io(error.error))?;
        }
        self.lock.sync_all().map_err(io)?;
        self.write_json(MANIFEST, &manifest)?;
        self.sweep(&manifest)?;
        Ok(manifest)
    }

    /// Removes what belongs to no index: what builders left that did not come to their end.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn clear(&self) -> Result<()> {
        // One that can't be read may be of a later version.
        match self.path.join(MANIFEST).exists() {
            true => Manifest::read(&self.path).map_or(Ok(()), |manifest| self.sweep(&manifest)),
            false => self.remove(|_| true),
        }
    }

    fn sweep(&self, manifest: &Manifest) -> Result<()> {
        self.remove(|name| {
            let named = manifest.arrays.values().any(|stored| stored.file == name);
            name != MANIFEST && !named
        })
    }

    fn remove(&self, unwanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut names = self.names()?;
        // First what names others, so that it never names a file that is not there.
        names.sort_by_key(|name| name != UNFINISHED);
        for name in names {
            if unwanted(&name) {
                let path = self.path.join(name);
                fs::remove_file(&path).map_err(|error| Error::io(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Writes a file, on disk when this returns, in place of one of the same name.
    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let io = |error| Error::io(&self.path, &error);
        let text = serde_json::to_vec_pretty(value).map_err(|error| io(error.into()))?;
        let mut file = new_file(&self.path, "manifest", ".json")?;
        file.write_all(&text).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(self.path.join(name))
            .map_err(|error| io(error.error))?;
        self.lock.sync_all().map_err(io)
    }

    /// Writes what a builder needs to go on from here.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn record(&self, unfinished: &Unfinished) -> Result<()> {
        self.write_json(UNFINISHED, unfinished)
    }

    /// What a builder of the same index left, if there is something of the kind.
    pub(crate) fn unfinished(&self, facts: &Facts) -> Option<Unfinished> {
        let text = read(&self.path.join(UNFINISHED)).ok()?;
        let unfinished: Unfinished = serde_json::from_slice(&text).ok()?;
        let same = unfinished.library_version == env!("CARGO_PKG_VERSION");
        (same && unfinished.facts == *facts).then_some(unfinished)
    }

    fn names(&self) -> Result<Vec<String>> {
        let io = |error| Error::io(&self.path, &error);
        let entries = fs::read_dir(&self.path).map_err(io)?;
        entries
            .map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into()))
            .collect()
    }
}

/// Reads a file of JSON.
///
/// # Errors
/// What the system says, and when it is no regular file or larger than any that is written.
fn read(path: &Path) -> Result<Vec<u8>> {
    let file = open_regular(path, OpenOptions::new().read(true))?;
    let mut text = Vec::new();
    let length = file.take(MOST_BYTES + 1).read_to_end(&mut text);
    match length.map_err(|error| Error::io(path, &error))? as u64 {
        0..=MOST_BYTES => Ok(text),
        _ => Err(Error::damaged(
            path,
            &format!("it has more than {MOST_BYTES} bytes"),
        )),
    }
}

/// Whether a file of this name is what a save left that did not come to its end, or an index.
fn is_own(name: &str) -> bool {
    let array = |name: &str| super::ARRAYS.contains(&name) || super::UNDER_WAY.contains(&name);
    let prefix = name.split_once('-').map_or("", |(prefix, _)| prefix);
    (array(prefix) && name.ends_with(".safetensors"))
        || (prefix == "manifest" && name.ends_with(".json"))
}

fn names_format(directory: &Path) -> bool {
    let text = read(&directory.join(MANIFEST)).unwrap_or_default();
    let quoted = format!("\"{FORMAT}\"");
    text.windows(quoted.len())
        .any(|bytes| bytes == quoted.as_bytes())
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{index::Index, metric::Metric, run::Run};

    fn saved(path: &Path) -> Index {
        let values: Vec<f32> = (0..60).map(|value| (value * 7 % 60) as f32).collect();
        let run = Run::new().unwrap();
        let rows = Rows::new(&values, 2).unwrap();
        let ids: Vec<i64> = (0..30).collect();
        let index = Index::build(rows, &ids, Metric::Cosine, None, 0, &run).unwrap();
        index.save(path, &run).unwrap();
        index
    }

    #[test]
    fn a_manifest_is_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path());
        let manifest = Manifest::read(directory.path()).unwrap();
        assert_eq!(manifest.checksum, manifest.sum());
        assert_eq!(manifest.facts.items, 30);
        assert!(manifest.arrays.keys().eq(super::super::ARRAYS));
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
                // White space for other white space.
                read => assert_eq!(read.unwrap(), manifest, "byte {at}"),
            }
        }
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = Directory::create(directory.path()).unwrap();
        assert!(matches!(
            Directory::create(directory.path()),
            Err(Error::Damaged { .. })
        ));
        drop(first);
        Directory::create(directory.path()).unwrap();
    }

    #[test]
    fn what_names_others_is_removed_before_them() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(UNFINISHED), "{}").unwrap();
        // It can't be removed as a file is.
        fs::create_dir(directory.path().join("cells-1.safetensors")).unwrap();
        let of = Directory::create(directory.path()).unwrap();
        assert!(matches!(of.clear(), Err(Error::Io { .. })));
        assert_eq!(of.names().unwrap(), ["cells-1.safetensors"]);
    }

    #[test]
    fn a_save_that_is_not_committed_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let index = saved(directory.path());
        let run = Run::new().unwrap();
        run.cancel();
        assert_eq!(index.save(directory.path(), &run), Err(Error::Cancelled));
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, super::super::ARRAYS.len() + 1);
        Index::open(directory.path(), false, &Run::new().unwrap()).unwrap();
    }
}
