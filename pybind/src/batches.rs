//! Batches of pairs, made on threads of their own while Python takes them one by one.

use std::{
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use lshjoin::{
    BinaryMetric, BinaryRadiusJoin, Context, Distance, JoinedPairs, Keys, RadiusJoin, Rows, Scalar,
};
use numpy::Element;
use pyo3::{exceptions::PyRuntimeError, prelude::*, sync::MutexExt};
use rayon::ThreadPool;

use crate::{
    arrays::{
        AnyMetric, Distances, Indices, KeyArrays, bit_rows, bits, copied, joined, rows, sides,
        with_sides,
    },
    run::{NumThreads, POLL, panicked, poll, pool, to_py, with_way_out},
};

/// Batches that wait to be taken, beside the one that is being made.
const WAITING: usize = 1;

type Columns<'py> = (Indices<'py>, Indices<'py>, Distances<'py>);
/// A batch of either precision, to be made into arrays once Python takes it.
type Batch = Box<dyn for<'py> FnOnce(Python<'py>) -> Columns<'py> + Send>;

/// The pairs of a radius join, a batch at a time.
///
/// A thread makes them while it borrows the arrays, which takes the GIL at its start and at its
/// end: it has to be closed before the interpreter goes away.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct RadiusJoinBatches {
    ctx: Arc<Context>,
    /// The threads are this process's; a fork has none of them to wait for.
    process: u32,
    /// `None` once closed.
    work: Mutex<Option<Work>>,
}

struct Work {
    batches: Receiver<Batch>,
    thread: JoinHandle<PyResult<()>>,
}

#[pymethods]
impl RadiusJoinBatches {
    #[new]
    #[pyo3(signature = (
        queries, items, radius, *, metric, within=None, apart=None, batch_size, num_threads=None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn new(
        queries: Option<Bound<'_, PyAny>>,
        items: Bound<'_, PyAny>,
        radius: f64,
        metric: &str,
        within: Option<KeyArrays<'_>>,
        apart: Option<KeyArrays<'_>>,
        batch_size: usize,
        num_threads: Option<NumThreads>,
    ) -> PyResult<Self> {
        let metric = metric.parse().map_err(to_py)?;
        match metric {
            AnyMetric::OfBits(_) => drop(bits(queries.as_ref(), &items)?),
            AnyMetric::OfVectors(_) => drop(sides(queries.as_ref(), &items)?),
        }
        let ctx = Arc::new(Context::new().map_err(to_py)?);
        let join = Join {
            radius,
            metric,
            batch_size,
            within: within.map(|keys| owned_keys(&keys)).transpose()?,
            apart: apart.map(|keys| owned_keys(&keys)).transpose()?,
            pool: pool(num_threads)?,
            ctx: Arc::clone(&ctx),
        };
        let work = join.start(queries.map(Bound::unbind), items.unbind())?;
        Ok(Self {
            ctx,
            process: process::id(),
            work: Mutex::new(Some(work)),
        })
    }

    /// The next batch, or `None` after the last. While it waits, signal handlers and `on_progress`
    /// run; what they raise ends the join, as does an error.
    fn next<'py>(
        &self,
        py: Python<'py>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<Columns<'py>>> {
        if self.process != process::id() {
            return Err(PyRuntimeError::new_err(
                "these batches are the parent process's to read; call radius_join_batches again",
            ));
        }
        let mut work = self.lock(py);
        loop {
            let Some(Work { batches, .. }) = work.as_mut() else {
                return Ok(None);
            };
            match py.detach(move || batches.recv_timeout(POLL)) {
                Ok(batch) => return Ok(Some(batch(py))),
                Err(RecvTimeoutError::Disconnected) => {
                    end(work.take(), py)?;
                    poll(&self.ctx, on_progress.as_ref())?;
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(raised) = poll(&self.ctx, on_progress.as_ref()) {
                        self.ctx.cancel();
                        let _cancelled = end(work.take(), py);
                        return Err(raised);
                    }
                }
            }
        }
    }

    /// Ends the join, and waits until its threads have ended.
    fn close(&self, py: Python<'_>) {
        if self.process == process::id() {
            self.ctx.cancel();
            let _cancelled = end(self.lock(py).take(), py);
        }
    }
}

impl RadiusJoinBatches {
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Option<Work>> {
        self.work
            .lock_py_attached(py)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the thread, whose batches nobody takes any more.
fn end(work: Option<Work>, py: Python<'_>) -> PyResult<()> {
    let Some(Work { batches, thread }) = work else {
        return Ok(());
    };
    py.detach(|| {
        drop(batches);
        thread.join().map_err(panicked)?
    })
}

/// Copies of keys, of queries and of items.
type OwnedKeys = (Option<Vec<u32>>, Vec<u32>);

fn owned_keys((queries, items): &KeyArrays<'_>) -> PyResult<OwnedKeys> {
    let queries = queries.as_ref().map(|keys| copied(keys.as_slice()?));
    Ok((queries.transpose()?, copied(items.as_slice()?)?))
}

fn as_keys((queries, items): &OwnedKeys) -> Keys<'_> {
    Keys::new(items).queries(queries.as_deref())
}

/// What there is to do.
struct Join {
    radius: f64,
    metric: AnyMetric<Distance>,
    batch_size: usize,
    within: Option<OwnedKeys>,
    apart: Option<OwnedKeys>,
    pool: ThreadPool,
    ctx: Arc<Context>,
}

impl Join {
    fn start(self, queries: Option<Py<PyAny>>, items: Py<PyAny>) -> PyResult<Work> {
        let (sender, batches) = sync_channel(WAITING);
        let thread = thread::Builder::new().spawn(move || {
            Python::attach(|py| {
                let (queries, items) = (
                    queries.map(|array| array.into_bound(py)),
                    items.into_bound(py),
                );
                match self.metric {
                    AnyMetric::OfVectors(distance) => {
                        with_sides!(&sides(queries.as_ref(), &items)?, |queries, items| {
                            py.detach(|| self.of_vectors(queries, items, distance, sender))
                        })
                    }
                    AnyMetric::OfBits(metric) => {
                        let sides = bits(queries.as_ref(), &items)?;
                        let (queries, items) = bit_rows(&sides)?;
                        py.detach(|| self.of_bits(queries, items, metric, sender))
                    }
                }
                .map_err(|error| with_way_out(error, "pass a smaller batch_size"))
            })
        })?;
        Ok(Work { batches, thread })
    }

    fn of_vectors<T: Element + Scalar + 'static>(
        &self,
        queries: Option<Rows<'_, T>>,
        items: Rows<'_, T>,
        distance: Distance,
        sender: SyncSender<Batch>,
    ) -> lshjoin::Result<()> {
        let join = RadiusJoin::new(items, self.radius).queries(queries);
        let join = join.within(self.within.as_ref().map(as_keys));
        let join = join.apart(self.apart.as_ref().map(as_keys));
        let (join, deliver) = (join.distance(distance), self.deliver::<T>(sender));
        let work = || join.run_batches(self.batch_size, &self.ctx, deliver);
        self.pool.install(work)
    }

    fn of_bits(
        &self,
        queries: Option<Rows<'_, u8>>,
        items: Rows<'_, u8>,
        metric: BinaryMetric,
        sender: SyncSender<Batch>,
    ) -> lshjoin::Result<()> {
        let join = BinaryRadiusJoin::new(items, self.radius).queries(queries);
        let join = join.within(self.within.as_ref().map(as_keys));
        let join = join.apart(self.apart.as_ref().map(as_keys));
        let (join, deliver) = (join.metric(metric), self.deliver::<f32>(sender));
        let work = || join.run_batches(self.batch_size, &self.ctx, deliver);
        self.pool.install(work)
    }

    /// What sends a batch to be taken; where nobody will, it ends the join.
    fn deliver<T: Element + 'static>(
        &self,
        sender: SyncSender<Batch>,
    ) -> impl FnMut(JoinedPairs<T>) + Send {
        move |pairs| {
            let batch: Batch = Box::new(move |py| joined(py, pairs));
            if sender.send(batch).is_err() {
                self.ctx.cancel();
            }
        }
    }
}
