//! What each thread of a pool keeps from one task to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One value for each thread of the current rayon pool.
pub(crate) struct PerThread<D>(Vec<Mutex<D>>);

impl<D> PerThread<D> {
    pub(crate) fn new(own: impl Fn() -> D) -> Self {
        let threads = 0..rayon::current_num_threads();
        Self(threads.map(|_| Mutex::new(own())).collect())
    }

    /// This thread's value.
    pub(crate) fn own(&self) -> MutexGuard<'_, D> {
        let own = &self.0[rayon::current_thread_index().unwrap_or(0)];
        own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
