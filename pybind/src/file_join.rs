//! What joins of files keep in memory: numbers in, numbers out.

use std::ops::RangeInclusive;

use pyo3::prelude::*;

use crate::{
    plans::{to_json, to_text},
    run::to_py,
};

/// A join of rows in files, planned before a row is read.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct FileJoin(lshjoin::FileJoin);

/// Bytes of items on their way to an index: the fewest, and the most that make it quicker.
type Batch = (usize, usize);

#[pymethods]
impl FileJoin {
    #[new]
    #[pyo3(signature = (
        queries, items, dim, *, width=4, packed_bits=false, k=None, lists=None, probes=None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn new(
        queries: Option<usize>,
        items: usize,
        dim: usize,
        width: usize,
        packed_bits: bool,
        k: Option<usize>,
        lists: Option<usize>,
        probes: Option<f64>,
    ) -> Self {
        let join = lshjoin::FileJoin::new(items, dim).queries(queries);
        let join = join.width(width).packed_bits(packed_bits);
        Self(join.k(k).lists(lists).probes(probes))
    }

    /// The plan by which it goes for a recall.
    fn plan(&self, recall: f64, seed: u64) -> PyResult<String> {
        to_text(self.0.plan(recall, seed).map_err(to_py)?)
    }

    /// Bytes by what they are of, as JSON.
    fn in_memory(&self) -> PyResult<String> {
        to_json(&self.0.in_memory())
    }

    /// How it goes by an index in so much memory, as JSON; `None` where that takes more.
    fn out_of_core(&self, memory: usize, batch: Batch) -> PyResult<Option<String>> {
        let told = self.0.out_of_core(memory, &range(batch));
        told.as_ref().map(to_json).transpose()
    }

    /// The least memory in which it can go by an index.
    fn least(&self, batch: Batch) -> usize {
        self.0.least(&range(batch))
    }

    /// Items that are brought to an index at a time where it alone is made.
    fn batch(&self, memory: usize, batch: Batch) -> usize {
        self.0.batch(memory, &range(batch))
    }

    /// Queries whose lists and results take up so much memory.
    fn chunk(&self, memory: usize) -> usize {
        self.0.chunk(memory)
    }
}

fn range((fewest, most): Batch) -> RangeInclusive<usize> {
    fewest..=most
}
