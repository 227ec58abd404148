//! The LSH of the crate `ann-search-rs`, by the protocol of `benches/systems/protocol.py`: the job as
//! JSON comes as the argument, a line of JSON a finished search goes to standard output.

use std::{fs, io::Write, path::Path, time::Instant};

use ann_search_rs::{build_lsh_index, query_lsh_index, query_lsh_self};
use serde::Deserialize;
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize)]
struct Job {
    build: Build,
    searches: Vec<Search>,
    items: String,
    queries: Option<String>,
    metric: String,
    k: usize,
    found: String,
}

#[derive(Deserialize)]
struct Build {
    tables: usize,
    bits: usize,
}

#[derive(Deserialize)]
struct Search {
    probes: usize,
    candidates: Option<usize>,
}

const REPEATED_BELOW: f64 = 1.0; // both as in benches/systems/meter.py
const REPEATS: usize = 3;

fn main() -> Result<()> {
    let job: Job = serde_json::from_str(&std::env::args().nth(1).ok_or("no job")?)?;
    let (items, columns) = read_f32(&job.items)?;
    let queries = job.queries.as_deref().map(read_f32).transpose()?;
    say(json!({ "loaded": true }))?;

    let rows = items.len() / columns;
    let Build { tables, bits } = job.build;
    let (build_seconds, index) = timed_often(|| {
        let matrix = (&items[..], rows, columns);
        build_lsh_index(matrix, &job.metric, tables, bits, None, 0)
    });
    let index = index?;

    for (number, search) in job.searches.iter().enumerate() {
        let Search { probes, candidates } = *search;
        let (search_seconds, found) = timed_often(|| match &queries {
            Some((queries, _)) => {
                let matrix = (&queries[..], queries.len() / columns, columns);
                query_lsh_index(matrix, &index, job.k, probes, candidates, true, false)
            }
            // One more, since a row is its own nearest.
            None => query_lsh_self(&index, job.k + 1, Some(probes), candidates, true, false),
        });
        let (found, _) = found?;
        let itself = queries.is_none();
        write_i64(
            &Path::new(&job.found).join(format!("{number}.npy")),
            &found,
            job.k,
            itself,
        )?;
        say(json!({
            "build_seconds": build_seconds,
            "search_seconds": search_seconds,
            "peak_bytes": peak_bytes()?,
        }))?;
    }
    Ok(())
}

/// The median and the last answer, of what is short.
fn timed_often<T>(mut call: impl FnMut() -> T) -> (f64, T) {
    let mut seconds = Vec::new();
    loop {
        let start = Instant::now();
        let answer = call();
        seconds.push(start.elapsed().as_secs_f64());
        if seconds[0] >= REPEATED_BELOW || seconds.len() == REPEATS {
            seconds.sort_by(f64::total_cmp);
            return (seconds[seconds.len() / 2], answer);
        }
    }
}

fn say(line: serde_json::Value) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Values and columns of a C-contiguous float32 `.npy`.
fn read_f32(path: &str) -> Result<(Vec<f32>, usize)> {
    let bytes = fs::read(path)?;
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start])?;
    if !header.contains("'<f4'") || header.contains("'fortran_order': True") {
        return Err(format!("not C-contiguous float32: {header}").into());
    }
    let shape = header.split(['(', ')']).nth(1).ok_or("no shape")?;
    let columns = shape.split(',').nth(1).ok_or("one dimension")?;
    let values = bytes[start..].as_chunks::<4>().0;
    let values = values.iter().map(|&value| f32::from_le_bytes(value));
    Ok((values.collect(), columns.trim().parse()?))
}

/// `k` columns of neighbours, -1 where there are fewer; without the row `itself` if it is wanted so.
fn write_i64(path: &Path, found: &[Vec<usize>], k: usize, itself: bool) -> Result<()> {
    let shape = format!("({}, {k})", found.len());
    let header = format!("{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for (row, near) in found.iter().enumerate() {
        let others = near.iter().filter(|&&other| !(itself && other == row));
        let others = others.map(|&other| other as i64);
        let padded = others.chain(std::iter::repeat(-1)).take(k);
        bytes.extend(padded.flat_map(i64::to_le_bytes));
    }
    Ok(fs::write(path, bytes)?)
}

fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kilobytes: u64 = line.split_whitespace().next().ok_or("no VmHWM")?.parse()?;
    Ok(kilobytes * 1024)
}
