//! Saved indexes to be altered, with every checksum right again afterwards, and opened.

use std::{collections::BTreeMap, fs, path::Path, sync::OnceLock};

use lshjoin::{Context, Index, JoinPlan, Metric, PartitionPlan, Rows};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::input::Input;

pub const METRICS: [Metric; 4] = [
    Metric::Euclidean,
    Metric::Cosine,
    Metric::InnerProduct,
    Metric::Manhattan,
];

/// Items of each saved index, and values of an item.
pub const ITEMS: usize = 40;
pub const DIM: usize = 3;

const MANIFEST: &str = "manifest.json";
const CHUNK: usize = 1 << 20;
const ALIGN: usize = 64;

/// A manifest as it is written: fields in this order, or its checksum is another.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Manifest {
    pub format: String,
    pub format_version: u32,
    pub library_version: String,
    pub metadata: IndexMetadata,
    pub arrays: BTreeMap<String, Stored>,
    checksum: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IndexMetadata {
    pub items: usize,
    pub dim: usize,
    pub metric: String,
    pub plan: JoinPlan,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stored {
    pub file: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub chunk_bytes: usize,
    pub xxh3: Vec<String>,
}

/// A saved index in memory: what is named by the manifest as its data, without headers.
#[derive(Clone)]
pub struct Saved {
    pub manifest: Manifest,
    pub data: BTreeMap<String, Vec<u8>>,
}

/// The plan by which the saved indexes have lists.
pub fn plan() -> PartitionPlan {
    PartitionPlan::new(5, 2.0).seed(1)
}

pub fn items() -> Vec<f32> {
    (0..ITEMS * DIM)
        .map(|at| (at * 7919 % 37) as f32 / 4.0 - 3.0)
        .collect()
}

impl Saved {
    /// An index of this metric.
    pub fn of(metric: Metric) -> &'static Self {
        static SAVED: OnceLock<Vec<Saved>> = OnceLock::new();
        let saved = SAVED.get_or_init(|| METRICS.map(Self::new).into());
        let place = METRICS.iter().position(|&other| other == metric);
        &saved[place.expect("one of them")]
    }

    fn new(metric: Metric) -> Self {
        let (directory, ctx) = (temporary(), Context::new().expect("an instruction set"));
        let (items, ids) = (items(), (0..ITEMS as i64).collect::<Vec<_>>());
        let items = Rows::new(&items, DIM).expect("whole rows");
        let index = Index::build(items, &ids, metric, Some(plan()), 1, &ctx).expect("an index");
        index.save(directory.path(), &ctx).expect("room for it");

        let text = fs::read(directory.path().join(MANIFEST)).expect("a manifest");
        let manifest: Manifest = serde_json::from_slice(&text).expect("the fields that we know");
        let data = manifest.arrays.iter().map(|(name, stored)| {
            let mut bytes = fs::read(directory.path().join(&stored.file)).expect("its files");
            let header = header(name, stored).expect("its header");
            assert!(bytes.starts_with(&header));
            (name.clone(), bytes.split_off(header.len()))
        });
        let data = data.collect();
        let saved = Self { manifest, data };
        // Nobody learns from files that are all refused.
        let directory = temporary();
        saved.write(directory.path());
        let opened = Index::open(directory.path(), false, &ctx).expect("what was not altered");
        assert_eq!(opened.len(), ITEMS);
        saved
    }

    /// Writes the files, with headers and checksums that fit them.
    pub fn write(&self, directory: &Path) {
        let mut manifest = self.manifest.clone();
        for (name, stored) in &mut manifest.arrays {
            let data = self.data.get(name).map_or(&[][..], Vec::as_slice);
            let sums = data.chunks(CHUNK).map(|chunk| hexadecimal(xxh3_64(chunk)));
            if !stored.xxh3.is_empty() {
                stored.xxh3 = sums.collect();
            }
            let mut bytes = header(name, stored).unwrap_or_default();
            bytes.extend_from_slice(data);
            let plain = Path::new(&stored.file).file_name() == Some(stored.file.as_ref());
            if plain && stored.file != MANIFEST {
                // A name that no file can have is the manifest's problem.
                let _ = fs::write(directory.join(&stored.file), bytes);
            }
        }
        manifest.sign();
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest can be written");
        fs::write(directory.join(MANIFEST), text).expect("room for it");
    }
}

impl Manifest {
    /// Makes its checksum the right one.
    pub fn sign(&mut self) {
        self.checksum.clear();
        let text = serde_json::to_vec(self).expect("a manifest can be written");
        self.checksum = hexadecimal(xxh3_64(&text));
    }
}

fn hexadecimal(sum: u64) -> String {
    format!("{sum:016x}")
}

/// The first bytes of a safetensors file, up to its data.
fn header(name: &str, stored: &Stored) -> Option<Vec<u8>> {
    let shape = stored.shape.clone();
    let values = shape
        .iter()
        .try_fold(1_usize, |values, &length| values.checked_mul(length))?;
    let info = TensorInfo {
        dtype: stored.dtype,
        data_offsets: (0, values.checked_mul(stored.dtype.bitsize() / 8)?),
        shape,
    };
    let metadata = Metadata::new(None, vec![(name.into(), info)]).ok()?;
    let mut text = serde_json::to_vec(&metadata).ok()?;
    text.resize((text.len() + 8).next_multiple_of(ALIGN) - 8, b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    Some(header)
}

pub fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Opens what is there and, if it is an index, has it do all that an index can. Whatever it says,
/// and whatever is found in numbers that are not an index's, is right.
pub fn use_all(directory: &Path, input: &mut Input) {
    let ctx = Context::on(input.isa());
    let Ok(mut index) = Index::open(directory, input.flag(), &ctx) else {
        return;
    };
    let info = index.info();
    let k = input.up_to(4);
    if input.flag() {
        let _ = index.verify(&ctx);
    }
    if info.dim > 1 << 16 {
        return;
    }
    let queries: Vec<f32> = (0..2 * info.dim).map(|at| (at % 7) as f32 - 2.0).collect();
    let queries = Rows::new(&queries, info.dim).expect("whole rows");
    let until_recall = input.flag().then_some(0.9);
    let mut plan = info.plan.until_recall(until_recall);
    plan.probes = input.up_to(6) as f64;
    let of_lists = JoinPlan::Partitions(plan);
    for plan in [JoinPlan::Exact, of_lists] {
        let _ = index.knn(queries, k, &plan, &ctx);
        let _ = index.fixed_plan(None, k, &plan, &ctx);
        let _ = index.knn_of_chunk(0..index.len(), k, &plan, &ctx);
    }
    let radius = f64::from(input.odd_f32());
    let _ = index.radius(queries, radius, &ctx);
    let _ = index.radius_of_chunk(0..index.len(), radius, &ctx);
    let _ = index.remove(&[input.any::<u8>().into()], &ctx);
    let _ = index.add(queries, &[input.any(), 1000], &ctx);
    let _ = index.knn(queries, k, &JoinPlan::Exact, &ctx);
    if input.once_in(8) {
        let other = temporary();
        if index.save(other.path(), &ctx).is_ok() {
            let saved = Index::open(other.path(), true, &ctx);
            assert!(saved.is_ok(), "what was saved can be opened: {saved:?}");
        }
    }
}
