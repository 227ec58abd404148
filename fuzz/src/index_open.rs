//! Indexes with numbers, shapes and files altered and all checksums right: opened, and made use of.

use lshjoin::JoinPlan;
use safetensors::tensor::Dtype;

use super::{
    input::Input,
    saved::{METRICS, Saved, Stored, temporary, use_all},
};

/// Bytes that an array is made longer to, at most.
const MOST: usize = 1 << 22;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut saved = Saved::of(input.pick(&METRICS)).clone();
    for _ in 0..input.up_to(6) {
        alter(&mut saved, &mut input);
    }
    let directory = temporary();
    saved.write(directory.path());
    use_all(directory.path(), &mut input);
}

fn alter(saved: &mut Saved, input: &mut Input) {
    let names: Vec<String> = saved.manifest.arrays.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = &names[input.up_to(names.len() - 1)];
    let other = &names[input.up_to(names.len() - 1)];
    let metadata = &mut saved.manifest.metadata;
    let Some(stored) = saved.manifest.arrays.get_mut(name) else {
        return;
    };
    let Some(data) = saved.data.get_mut(name) else {
        return;
    };
    match input.up_to(11) {
        // What is in an array: most often.
        0..=3 => {
            let times = 1 + input.up_to(7);
            for _ in 0..times {
                overwrite(data, stored.dtype, input);
            }
        }
        4 => fill(data, stored.dtype, input),
        5 => *metadata = metadata_of(metadata, input),
        6 => {
            let place = input.up_to(stored.shape.len().max(1) - 1);
            if let Some(length) = stored.shape.get_mut(place) {
                *length = number(*length, input);
            }
            fit(data, stored);
        }
        7 => {
            stored.dtype = input.pick(&[
                Dtype::F32,
                Dtype::F64,
                Dtype::I8,
                Dtype::U8,
                Dtype::U32,
                Dtype::I64,
                Dtype::U64,
                Dtype::BOOL,
            ]);
            fit(data, stored);
        }
        8 => alter_words(saved, name, other, input),
        // All arrays of fewer, or more, items.
        9 => {
            let (before, items) = (metadata.items, number(metadata.items, input));
            metadata.items = items;
            for (name, stored) in &mut saved.manifest.arrays {
                let of_items = stored.shape.first() == Some(&before);
                if let (true, Some(data)) = (of_items, saved.data.get_mut(name)) {
                    stored.shape[0] = items;
                    fit(data, stored);
                }
            }
        }
        // More lists than the plan has.
        10 => {
            let lists = input.up_to(3000);
            metadata.plan = match metadata.plan {
                JoinPlan::Partitions(mut plan) if input.flag() => {
                    plan.lists = lists;
                    JoinPlan::Partitions(plan)
                }
                plan => plan,
            };
            for (name, lists) in [("centroids", lists), ("starts", lists + 1)] {
                let stored = saved.manifest.arrays.get_mut(name);
                if let (Some(stored), Some(data)) = (stored, saved.data.get_mut(name)) {
                    if let Some(length) = stored.shape.first_mut() {
                        *length = lists;
                    }
                    fit(data, stored);
                }
            }
        }
        _ => {
            if let Some(data) = saved.data.get(other).cloned() {
                saved.data.insert(name.clone(), data);
            }
        }
    }
}

/// Something near a number, or far from it.
fn number(now: usize, input: &mut Input) -> usize {
    match input.up_to(7) {
        0 => 0,
        1 => 1,
        2 => now.wrapping_sub(1),
        3 => now.wrapping_add(1),
        4 => now.wrapping_mul(2),
        5 => input.up_to(64),
        6 => input.pick(&[1 << 14, u32::MAX as usize, 1 << 32, 1 << 62, usize::MAX]),
        _ => input.any::<u32>() as usize,
    }
}

fn metadata_of(
    metadata: &super::saved::IndexMetadata,
    input: &mut Input,
) -> super::saved::IndexMetadata {
    let mut metadata = metadata.clone();
    match input.up_to(3) {
        0 => metadata.items = number(metadata.items, input),
        1 => metadata.dim = number(metadata.dim, input),
        2 => {
            metadata.metric = match input.up_to(METRICS.len()) {
                place if place < METRICS.len() => METRICS[place].to_string(),
                _ => "hamming".into(),
            }
        }
        _ => match &mut metadata.plan {
            JoinPlan::Partitions(plan) => match input.up_to(3) {
                0 => plan.seed = input.any(),
                1 => plan.lists = number(plan.lists, input),
                2 => plan.probes = f64::from(input.odd_f32()),
                _ => plan.until_recall = Some(f64::from(input.odd_f32())),
            },
            plan => *plan = JoinPlan::Exact,
        },
    }
    if input.once_in(16) {
        metadata.plan = JoinPlan::Exact;
    }
    metadata
}

/// Makes the data as long as the shape says, where that is within reason.
fn fit(data: &mut Vec<u8>, stored: &Stored) {
    let values = stored
        .shape
        .iter()
        .try_fold(1_usize, |values, &length| values.checked_mul(length));
    let bytes = values.and_then(|values| values.checked_mul(stored.dtype.bitsize() / 8));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= MOST) else {
        return;
    };
    let before = data.len();
    data.resize(bytes, 0);
    for at in before.max(1)..bytes {
        data[at] = data[at % before.max(1)];
    }
}

/// What a number of the type may be, to do harm.
fn odd_word(dtype: Dtype, input: &mut Input) -> Vec<u8> {
    match dtype {
        Dtype::F32 => input.odd_f32().to_le_bytes().into(),
        Dtype::F64 => f64::from(input.odd_f32()).to_le_bytes().into(),
        Dtype::U32 | Dtype::I32 => (number(3, input) as u32).to_le_bytes().into(),
        Dtype::U64 | Dtype::I64 => (number(3, input) as u64).to_le_bytes().into(),
        // Codes, and what is known of them: four numbers of 4 bytes a row.
        _ => match input.up_to(2) {
            0 => vec![input.any()],
            1 => input.odd_f32().to_le_bytes().into(),
            _ => (number(3, input) as u32).to_le_bytes().into(),
        },
    }
}

fn overwrite(data: &mut [u8], dtype: Dtype, input: &mut Input) {
    let word = odd_word(dtype, input);
    let places = data.len() / word.len();
    if places > 0 {
        let place = input.up_to(places - 1) * word.len();
        data[place..][..word.len()].copy_from_slice(&word);
    }
}

fn fill(data: &mut [u8], dtype: Dtype, input: &mut Input) {
    let word = odd_word(dtype, input);
    let places = data.len() / word.len();
    let (first, last) = (input.up_to(places), input.up_to(places));
    for place in data.chunks_exact_mut(word.len()).take(last).skip(first) {
        place.copy_from_slice(&word);
    }
}

/// Names, versions, checksums' layout.
fn alter_words(saved: &mut Saved, name: &str, other: &str, input: &mut Input) {
    let manifest = &mut saved.manifest;
    let file_of_other = manifest.arrays.get(other).map(|other| other.file.clone());
    let Some(stored) = manifest.arrays.get_mut(name) else {
        return;
    };
    match input.up_to(8) {
        0 => stored.file = file_of_other.unwrap_or_default(),
        1 => stored.file = format!("../{}", stored.file),
        2 => {
            stored.file = input
                .pick(&["", ".", "..", "/dev/zero", "manifest.json", "a\0b"])
                .into()
        }
        3 => stored.chunk_bytes = number(stored.chunk_bytes, input),
        4 => stored.xxh3.clear(),
        5 => manifest.format_version = input.any(),
        6 => manifest.library_version = "\u{7f}\"\\".into(),
        7 => {
            manifest.arrays.remove(name);
        }
        _ => {
            let stored = stored.clone();
            manifest.arrays.insert(format!("{name}2"), stored);
        }
    }
}
