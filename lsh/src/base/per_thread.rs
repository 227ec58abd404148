//! What each thread of a pool keeps from one task to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One desk for each thread of the current rayon pool.
pub(crate) struct Desks<D>(Vec<Mutex<D>>);

impl<D> Desks<D> {
    pub(crate) fn new(desk: impl Fn() -> D) -> Self {
        let threads = 0..rayon::current_num_threads();
        Self(threads.map(|_| Mutex::new(desk())).collect())
    }

    /// That of this thread.
    pub(crate) fn own(&self) -> MutexGuard<'_, D> {
        let desk = &self.0[rayon::current_thread_index().unwrap_or(0)];
        desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
