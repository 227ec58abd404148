//! The one place where the GIL is released and work is waited for.

use std::{
    any::Any,
    fmt::Display,
    io,
    num::NonZero,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use lshjoin::{Context, Error, KernelError, memory};
use pyo3::{
    exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyValueError},
    import_exception,
    prelude::*,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

import_exception!(lshjoin.errors, NotFiniteError);
import_exception!(lshjoin.errors, RowError);

/// How often signals and progress are looked at.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A number of threads from Python, where numbers have no end: beyond a machine's, the largest.
#[derive(Clone, Copy)]
pub(crate) struct NumThreads(isize);

impl<'py> FromPyObject<'_, 'py> for NumThreads {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match object.extract::<isize>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => {
                let negative = object.lt(0)?;
                Ok(Self(if negative { isize::MIN } else { isize::MAX }))
            }
            number => number.map(Self),
        }
    }
}

/// What to do where there is not the memory for a join.
pub(crate) const KNN: &str = "ask for fewer neighbours, join fewer queries at a time, or join files \
                              within a memory limit (lshjoin.knn_join_files)";
pub(crate) const RADIUS: &str =
    "take the pairs in batches (lshjoin.radius_join_batches), or a smaller radius";

/// How a call is to be run.
pub(crate) struct Options {
    pub(crate) num_threads: Option<NumThreads>,
    pub(crate) on_progress: Option<Py<PyAny>>,
    /// What to do where there is not the memory for it.
    pub(crate) way_out: &'static str,
}

impl Options {
    /// Runs `work` on threads of its own, without the GIL.
    ///
    /// The calling thread polls: signal handlers, Ctrl-C's among them, and `on_progress` run on
    /// it, and what they raise cancels the work. A panic becomes a RuntimeError. The pool lives as
    /// long as the call, so that a forked process is not left with one whose threads are gone.
    pub(crate) fn run<T: Send>(
        self,
        py: Python<'_>,
        work: impl FnOnce(&Context) -> lshjoin::Result<T> + Send,
    ) -> PyResult<T> {
        let ctx = Context::new().map_err(to_py)?;
        let pool = pool(self.num_threads)?;
        let on_progress = self.on_progress.as_ref();
        py.detach(|| {
            let (finished, wait) = channel::<()>();
            thread::scope(|scope| {
                let worker = thread::Builder::new().spawn_scoped(scope, || {
                    let _dropped_at_the_end = finished;
                    pool.install(|| work(&ctx))
                });
                let worker = worker.map_err(no_thread)?;
                let mut raised = Ok(());
                while raised.is_ok() && wait.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                    raised = poll(&ctx, on_progress);
                }
                if raised.is_err() {
                    ctx.cancel();
                }
                let result = worker.join();
                raised?;
                let result = result.map_err(panicked)?;
                let value = result.map_err(|error| with_way_out(error, self.way_out))?;
                poll(&ctx, on_progress)?;
                Ok(value)
            })
        })
    }
}

/// Threads to a core, at most: any more would only wait for each other.
const THREADS_OF_CORE: usize = 4;

/// Bytes that a thread takes up: its stack, and what is made as it starts. It is asked for before, since
/// the process ends where there is no memory for what is thread-local.
const OF_THREAD: usize = 4 << 20;

/// Threads for one call; as many as there are cores for `None`.
pub(crate) fn pool(num_threads: Option<NumThreads>) -> PyResult<ThreadPool> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = match num_threads {
        None => 0, // rayon's word for all cores
        Some(NumThreads(number)) => usize::try_from(number)
            .ok()
            .filter(|&number| number > 0)
            .ok_or_else(|| {
                PyValueError::new_err(format!("num_threads must be at least 1, not {number}"))
            })?,
    };
    let threads = threads.min(THREADS_OF_CORE * cores);
    let count = if threads == 0 { cores } else { threads };
    memory::check((count + 1) * OF_THREAD, "threads").map_err(|error| {
        with_way_out(
            error.into(),
            "end other work, or pass a smaller num_threads",
        )
    })?;
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(no_thread)
}

fn no_thread(error: impl Display) -> PyErr {
    PyRuntimeError::new_err(format!(
        "the system starts no further thread ({error}): end other work, or pass a smaller num_threads"
    ))
}

/// Runs signal handlers and tells how far `run` is.
pub(crate) fn poll(ctx: &Context, on_progress: Option<&Py<PyAny>>) -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        if let Some(on_progress) = on_progress {
            on_progress.call1(py, ctx.progress())?;
        }
        Ok(())
    })
}

/// An error of the engine, where it is about memory with what to do.
pub(crate) fn with_way_out(error: Error, way_out: &str) -> PyErr {
    match &error {
        Error::Memory { .. } => PyMemoryError::new_err(format!("{error}: {way_out}")),
        _ => to_py(error),
    }
}

/// An error of the engine as a ValueError, if it is about a row with its number, or as the MemoryError
/// or OSError that it is.
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    let (row, side, dimension) = match error {
        Error::Memory { .. } => return PyMemoryError::new_err(message),
        Error::Io { source, .. } => return io::Error::new(source.kind(), message).into(),
        Error::NotFinite {
            side,
            row,
            dimension,
            ..
        } => (row, Some(side), Some(dimension)),
        Error::TooLarge { side, row, .. } => (row, Some(side), None),
        Error::Set { row, .. } => (row, None, None),
        Error::Kernel(KernelError::NotFinite { row, dimension, .. }) => {
            (row, None, Some(dimension))
        }
        Error::Kernel(
            KernelError::TooLarge { row, .. } | KernelError::BucketOverflow { row, .. },
        ) => (row, None, None),
        _ => return PyValueError::new_err(message),
    };
    match dimension {
        Some(dimension) => NotFiniteError::new_err((message, row, dimension, side)),
        None => RowError::new_err((message, row, side)),
    }
}

/// A panic of the engine as a RuntimeError.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> PyErr {
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    PyRuntimeError::new_err(format!(
        "internal error in lshjoin, please report it: {message}"
    ))
}
