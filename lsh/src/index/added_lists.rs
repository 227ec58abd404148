//! Added items by list, under the quantiser of the index: a query is compared with those near it.

use lshjoin_kernels::{Quantised, Rows, memory};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    index::{lists::SegmentLists, segment::Segment},
    ivf::list_offsets::ListOffsets,
    vectors::{Vectors, row_source::RowSource},
};

/// How an out-of-memory error names them.
const ADDED: &str = "added items by list";

/// Added items in the order of their lists, as a segment has its rows.
pub(crate) struct AddedLists {
    ids: Vec<i64>,
    dim: usize,
    values: Vec<f32>,
    codes: Option<Quantised<'static>>,
    norms: Vec<f64>,
    /// Where the items of each list start.
    starts: ListOffsets,
}

impl std::fmt::Debug for AddedLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} items in {} lists", self.ids.len(), self.starts.len())
    }
}

/// The ids of rows that are all there.
struct Ids<'a>(&'a [i64]);

impl RowSource for Ids<'_> {
    fn user_id(&self, id: u32) -> i64 {
        self.0[id as usize]
    }

    fn takes_part(&self, _: u32) -> bool {
        true
    }

    fn check(&self, _: u32, _: usize) -> Result<()> {
        Ok(())
    }
}

impl AddedLists {
    /// Of these items, row-major, under the lists of a segment, of which `items` are the rows.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn new(
        (ids, values): (&[i64], &[f32]),
        items: &Vectors<'_, f32>,
        lists: &SegmentLists,
        ctx: &Context,
    ) -> Result<Self> {
        let dim = items.rows.dim();
        let rows = Rows::new(values, dim)?;
        let mut side = lists.prepare(items, rows, ctx)?;
        let all = memory::collect(0..ids.len() as u32, ROW_NUMBERS)?;
        let of_rows = match &side.codes {
            Some(codes) => lists.quantiser.assign(codes, &all, ctx)?,
            None => memory::zeroed(ids.len(), ROW_NUMBERS)?,
        };
        let starts = ListOffsets::new(of_rows.iter().copied(), lists.quantiser.len());
        let order = starts.order(&of_rows)?;
        let mut codes = side.codes.take();
        codes
            .as_mut()
            .map_or(Ok(()), |codes| codes.reorder(&order))?;
        let norms = side.norms.iter().copied();
        let norms: Vec<f64> = memory::collect(norms, ADDED)?;
        let norms = order.iter().filter_map(|&row| norms.get(row as usize));
        Ok(Self {
            ids: memory::collect(order.iter().map(|&row| ids[row as usize]), ADDED)?,
            dim,
            values: rows.gather(&order)?,
            codes: codes.map(Quantised::into_owned),
            norms: memory::collect(norms.copied(), ADDED)?,
            starts,
        })
    }

    /// The items as one side of a join, with where those of each list start.
    ///
    /// # Errors
    /// None but of programming.
    pub(crate) fn side<'a>(
        &'a self,
        segment: &'a Segment,
    ) -> Result<(Vectors<'a, f32>, &'a ListOffsets)> {
        let codes = self.codes.as_ref().map(|codes| {
            let (values, known) = codes.parts();
            Quantised::from_parts(self.dim, values, known)
        });
        let rows = Rows::new(&self.values, self.dim)?;
        let codes = (codes.transpose()?, segment.centre());
        let side = Vectors::of_index(rows, segment.metric, codes, &self.norms, Ids(&self.ids));
        Ok((side, &self.starts))
    }

    /// The id of each item.
    pub(crate) fn ids(&self) -> &[i64] {
        &self.ids
    }
}
