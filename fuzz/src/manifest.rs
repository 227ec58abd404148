//! Manifests and safetensors headers of any bytes, alone and in the middle of right ones.

use std::{fs, path::Path};

use lshjoin::{Context, Index, IndexBuilder, Metric, Rows};

use super::{
    input::Input,
    saved::{DIM, ITEMS, METRICS, Manifest, Saved, items, plan, temporary, use_all},
};

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let metric = input.pick(&METRICS);
    let directory = temporary();
    let path = directory.path().join("manifest.json");
    let (kind, at, spliced) = (input.up_to(3), input.any::<u16>(), input.any::<u8>());
    match kind {
        // The manifest: bytes in place of others, its checksum right where it can be read.
        0 | 1 => {
            let saved = Saved::of(metric);
            saved.write(directory.path());
            let text = fs::read(&path).expect("a manifest");
            let text = match kind {
                0 => input.rest().to_vec(),
                _ => splice(&text, at.into(), spliced.into(), input.rest()),
            };
            let text = match serde_json::from_slice::<Manifest>(&text) {
                Err(_) => text,
                Ok(mut manifest) => {
                    manifest.sign();
                    serde_json::to_vec(&manifest).expect("a manifest can be written")
                }
            };
            fs::write(&path, text).expect("room for it");
        }
        // The file of an array, of the length that it has to have or another.
        2 => {
            let saved = Saved::of(metric);
            saved.write(directory.path());
            let places = saved.manifest.arrays.len() - 1;
            let stored = saved.manifest.arrays.values().nth(input.up_to(places));
            let file = directory.path().join(&stored.expect("one of them").file);
            let bytes = fs::read(&file).expect("its files");
            let keep = input.flag();
            let mut altered = splice(&bytes, at.into(), spliced.into(), input.rest());
            if keep {
                altered.resize(bytes.len(), b' ');
            }
            fs::write(&file, altered).expect("room for it");
        }
        // What a builder left that was interrupted.
        _ => {
            return resumed(
                directory.path(),
                metric,
                at.into(),
                spliced.into(),
                &mut input,
            );
        }
    }
    use_all(directory.path(), &mut Input::new(data));
}

/// `text` with `by` in place of so many bytes from `at` on.
fn splice(text: &[u8], at: usize, instead_of: usize, by: &[u8]) -> Vec<u8> {
    let start = at.min(text.len());
    let end = (start + instead_of).min(text.len());
    [&text[..start], by, &text[end..]].concat()
}

/// Goes on with an index that was begun, and whose record was altered: it is refused, or the index
/// is one of all items.
fn resumed(directory: &Path, metric: Metric, at: usize, instead_of: usize, input: &mut Input) {
    let ctx = Context::new().expect("an instruction set");
    let (items, ids) = (items(), (0..ITEMS as i64).collect::<Vec<_>>());
    let items = Rows::new(&items, DIM).expect("whole rows");
    let begin = || IndexBuilder::resume(ITEMS, DIM, metric, Some(plan()), 1, directory);
    let mut builder = begin().expect("an empty directory");
    let half = ITEMS / 2;
    for part in [0..ITEMS, 0..half, half..ITEMS]
        .iter()
        .take(1 + input.up_to(2))
    {
        let pushed = builder.push(items.slice(part.clone()), &ids[part.clone()], &ctx);
        pushed.expect("items in their order");
    }
    drop(builder);

    let record = directory.join("manifest-unfinished.json");
    if let Ok(text) = fs::read(&record) {
        let altered = splice(&text, at, instead_of, input.rest());
        fs::write(&record, altered).expect("room for it");
    }
    let Ok(mut builder) = begin() else {
        return;
    };
    let (first, seen) = builder.position();
    for pass in first..builder.passes() {
        let start = if pass == first { seen } else { 0 };
        assert!(start <= ITEMS, "{start} items were done of {ITEMS}");
        if builder
            .push(items.slice(start..ITEMS), &ids[start..], &ctx)
            .is_err()
        {
            return;
        }
    }
    if let Ok(index) = builder.finish(&ctx) {
        assert_eq!(index.len(), ITEMS);
        let opened = Index::open(directory, true, &ctx);
        assert!(opened.is_ok(), "what was built can be opened: {opened:?}");
    }
}
