//! The manifest of an index: what it is, and which files it has.

use std::{collections::BTreeMap, io, path::Path};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        plan::JoinPlan,
    },
    storage::{array::Array, files::read, format::StoredArray},
};

pub(crate) const MANIFEST: &str = "manifest.json";

pub(crate) const FORMAT: &str = "lshjoin index";

const FORMAT_VERSION: u64 = 2;

/// What is known of an index without reading its arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    format_version: u64,
    library_version: String,
    pub(crate) metadata: IndexMetadata,
    pub(crate) arrays: BTreeMap<String, StoredArray>,
    /// The checksum of this manifest with this field empty.
    pub(crate) checksum: String,
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
pub(crate) struct IndexMetadata {
    pub(crate) items: usize,
    pub(crate) dim: usize,
    /// The metric's name.
    pub(crate) metric: String,
    /// The plan by which the lists were made.
    pub(crate) plan: JoinPlan,
}

impl Manifest {
    pub(crate) fn new(metadata: IndexMetadata, arrays: BTreeMap<String, StoredArray>) -> Self {
        let mut manifest = Self {
            format: FORMAT.into(),
            format_version: FORMAT_VERSION,
            library_version: env!("CARGO_PKG_VERSION").into(),
            metadata,
            arrays,
            checksum: String::new(),
        };
        manifest.checksum = manifest.sum();
        manifest
    }

    /// The checksum that this manifest has to have.
    pub(crate) fn sum(&self) -> String {
        let mut unsigned = self.clone();
        unsigned.checksum.clear();
        // This always succeeds: all fields are strings and numbers.
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
            Error::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) && directory.exists() =>
            {
                Error::damaged(
                    directory,
                    "it is not an lshjoin index: it has no manifest.json",
                )
            }
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
            Some(FORMAT_VERSION) => {}
            Some(version) if version < FORMAT_VERSION => {
                return Err(damaged(&format!(
                    "it has format version {version}, and this lshjoin reads {FORMAT_VERSION}: build \
                     the index anew of the same vectors, with Index.build or `lshjoin index build`"
                )));
            }
            Some(version) => {
                let by = format!("{:?}", head.library_version.unwrap_or_default());
                return Err(damaged(&format!(
                    "it has format version {version}, by lshjoin {by:.50}, and this lshjoin reads \
                     {FORMAT_VERSION}: upgrade lshjoin"
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

    /// What was saved in a directory, to be mapped or read into memory: the manifest, what `checked`
    /// makes of it, and the arrays.
    ///
    /// # Errors
    /// Those of [`Manifest::read`], of `checked` and of [`Manifest::open`].
    pub(crate) fn opened<C>(
        directory: &Path,
        mapped: bool,
        ctx: &Context,
        checked: impl Fn(&Self) -> Result<C>,
    ) -> Result<(Self, C, BTreeMap<String, Array>)> {
        loop {
            let manifest = Self::read(directory)?;
            let known = checked(&manifest)?;
            match manifest.open(directory, mapped, ctx) {
                // It was saved anew in between, and the old files were removed.
                Err(Error::Io { .. }) if Self::read(directory)? != manifest => {}
                arrays => return Ok((manifest, known, arrays?)),
            }
        }
    }

    /// An error about the manifest of this directory.
    pub(crate) fn damaged(directory: &Path, problem: &str) -> Error {
        Error::damaged(&directory.join(MANIFEST), problem)
    }

    /// Opens the arrays, to be mapped or read into memory.
    ///
    /// # Errors
    /// When a file is missing or is not the one that was written, or the run is cancelled.
    fn open(
        &self,
        directory: &Path,
        mapped: bool,
        ctx: &Context,
    ) -> Result<BTreeMap<String, Array>> {
        let open = |(name, stored): (&String, _)| {
            let array = Array::open(directory, name, stored, mapped, ctx)?;
            Ok((name.clone(), array))
        };
        self.arrays.iter().map(open).collect()
    }
}
