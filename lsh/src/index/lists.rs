//! The lists of a segment, and what searches keep of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lshjoin_kernels::{CommonScale, Rows};

use crate::{
    base::{context::Context, error::Result},
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        list_offsets::ListOffsets,
        margins::margin_of,
        probes::{Probes, RightLists},
        warm_start::WarmStart,
    },
    pairs::top_k_lists::warm_start_rows,
    vectors::Vectors,
};

/// The lists of a segment.
pub(crate) struct SegmentLists {
    pub(crate) quantiser: CoarseQuantiser,
    /// Where the rows of each list start.
    pub(crate) starts: ListOffsets,
    /// The scale of the items' codes, if there are any.
    scale: Option<CommonScale>,
    cache: Mutex<Cache>,
}

/// The rows of lists and which rows probe them.
pub(crate) type OfItems = (Arc<RightLists>, Arc<Probes>);

/// What was found before. All of it follows from the rows alone, whoever asks first.
#[derive(Default)]
struct Cache {
    /// Of the last search, with whether it was a self-join and its k.
    warm_start: Option<((bool, usize), Arc<WarmStart>)>,
    /// With which items probe so many lists (its bits) on average.
    margins: BTreeMap<u64, f32>,
    /// How far queries like the items have to probe for so many neighbours and a recall (its bits).
    reaches: BTreeMap<(usize, u64), Option<f32>>,
    /// Of the last self-join, with its k, its margin (its bits) and whether rows are kept apart, in
    /// which duplicates take part.
    probes: Option<((usize, u32, bool), OfItems)>,
}

impl std::fmt::Debug for SegmentLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} lists", self.starts.len())
    }
}

impl SegmentLists {
    pub(crate) fn new(
        quantiser: CoarseQuantiser,
        starts: ListOffsets,
        scale: Option<CommonScale>,
    ) -> Self {
        let cache = Mutex::default();
        Self {
            quantiser,
            starts,
            scale,
            cache,
        }
    }

    /// Queries prepared to be joined with the items, with codes that do not depend on which others
    /// come with them.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn prepare<'b>(
        &self,
        items: &Vectors<'_, f32>,
        queries: Rows<'b, f32>,
        ctx: &Context,
    ) -> Result<Vectors<'b, f32>> {
        items.prepare_batch("queries", queries, self.scale, ctx)
    }

    /// Locked for a moment only: never while anything is computed.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of `of`, or else what `compute` finds, which then is known.
    fn get_or_compute<K: Ord, V: Copy>(
        &self,
        of: K,
        slot: fn(&mut Cache) -> &mut BTreeMap<K, V>,
        compute: impl FnOnce() -> Result<V>,
    ) -> Result<V> {
        if let Some(known) = slot(&mut self.cache()).get(&of) {
            return Ok(*known);
        }
        let found = compute()?;
        slot(&mut self.cache()).insert(of, found);
        Ok(found)
    }

    /// The same of what is large, so that only the last is kept.
    fn get_last_or_compute<K: PartialEq, V: Clone>(
        &self,
        of: K,
        slot: fn(&mut Cache) -> &mut Option<(K, V)>,
        compute: impl FnOnce() -> Result<V>,
    ) -> Result<V> {
        if let Some((last, known)) = slot(&mut self.cache())
            && *last == of
        {
            return Ok(known.clone());
        }
        let found = compute()?;
        *slot(&mut self.cache()) = Some((of, found.clone()));
        Ok(found)
    }

    /// The warm start of joins for so many neighbours.
    pub(crate) fn warm_start(&self, with_itself: bool, k: usize) -> Result<Arc<WarmStart>> {
        let find = || {
            let items = self.starts.rows();
            let wanted = warm_start_rows(k, items, false) as f64 / items.max(1) as f64;
            let found = WarmStart::of_lists(&self.quantiser, &self.starts, with_itself, wanted);
            Ok(Arc::new(found))
        };
        self.get_last_or_compute((with_itself, k), |cache| &mut cache.warm_start, find)
    }

    /// The margin with which items probe so many lists on average.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn margin_of(
        &self,
        items: &Vectors<'_, f32>,
        probes: f64,
        ctx: &Context,
    ) -> Result<f32> {
        let find = || margin_of(&self.quantiser, items, probes, ctx);
        self.get_or_compute(probes.to_bits(), |cache| &mut cache.margins, find)
    }

    /// The margin that `find` finds for this k and recall, or found before.
    ///
    /// # Errors
    /// Those of `find`.
    pub(crate) fn margin_for(
        &self,
        k: usize,
        recall: f64,
        find: impl FnOnce() -> Result<Option<f32>>,
    ) -> Result<Option<f32>> {
        self.get_or_compute((k, recall.to_bits()), |cache| &mut cache.reaches, find)
    }

    /// Which items probe each list up to a margin, for joins of the items with themselves.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probes(
        &self,
        items: &Vectors<'_, f32>,
        k: usize,
        margin: f32,
        ctx: &Context,
    ) -> Result<OfItems> {
        let find = || {
            ctx.begin_stage("lists");
            let warm_start = self.warm_start(true, k)?;
            let right = RightLists::of_items(items, &self.starts, |_| true)?;
            let probes =
                Probes::of_items(&self.quantiser, &warm_start, items, &right, margin, ctx)?;
            Ok((Arc::new(right), Arc::new(probes)))
        };
        let of = (k, margin.to_bits(), items.apart().is_some());
        self.get_last_or_compute(of, |cache| &mut cache.probes, find)
    }
}
