//! What threads find in numbered tasks, handed over in the order of the numbers.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::base::error::Result;

/// Hands over what was found in task 0, then in task 1 and so on, whichever thread is first.
///
/// What comes before its turn is kept while there is space for it; after that its thread waits, and
/// so do all while the receiver is slow: memory is bounded by the capacity and what each thread
/// brings.
/// Tasks have to be taken up in the order of their numbers, so that the one whose turn it is always
/// has a thread.
pub(crate) struct InOrder<V, H> {
    state: Mutex<State<V, H>>,
    changed: Condvar,
    capacity: usize,
}

struct State<V, H> {
    /// The task whose turn it is.
    next: usize,
    /// What was found before its turn, by task.
    early: BTreeMap<usize, Vec<V>>,
    /// Values in `early`.
    kept: usize,
    /// A task has failed: its turn, and those after it, will never come.
    failed: bool,
    hand_over: H,
}

/// A task's place in the order, as in a ticket lock. Dropped before [`Ticket::finish`] has
/// succeeded, by an error or a panic, it lets all others go.
pub(crate) struct Ticket<'a, V, H> {
    order: &'a InOrder<V, H>,
    task: usize,
    finished: bool,
}

impl<V, H: FnMut(Vec<V>) -> Result<()>> InOrder<V, H> {
    /// Keeps up to `capacity` values.
    pub(crate) fn new(capacity: usize, hand_over: H) -> Self {
        Self {
            state: Mutex::new(State {
                next: 0,
                early: BTreeMap::new(),
                kept: 0,
                failed: false,
                hand_over,
            }),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// The ticket of `task`. Tasks are numbered from 0, with none left out.
    pub(crate) fn ticket(&self, task: usize) -> Ticket<'_, V, H> {
        Ticket {
            order: self,
            task,
            finished: false,
        }
    }
}

impl<V, H> InOrder<V, H> {
    fn lock(&self) -> MutexGuard<'_, State<V, H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V, H: FnMut(Vec<V>) -> Result<()>> Ticket<'_, V, H> {
    /// Hands `found` over when its turn has come, and whatever has waited for that.
    ///
    /// # Errors
    /// What handing over returned. When another task has failed, `found` is lost without an error:
    /// the other's is the one to report.
    pub(crate) fn finish(mut self, found: Vec<V>) -> Result<()> {
        let order = self.order;
        let must_wait = |state: &mut State<V, H>| {
            state.next != self.task && state.kept + found.len() > order.capacity && !state.failed
        };
        let mut state = order
            .changed
            .wait_while(order.lock(), must_wait)
            .unwrap_or_else(PoisonError::into_inner);
        if state.failed {
            return Ok(());
        }
        state.kept += found.len();
        state.early.insert(self.task, found);
        loop {
            let next = state.next;
            let Some(found) = state.early.remove(&next) else {
                break;
            };
            state.kept -= found.len();
            (state.hand_over)(found)?;
            state.next += 1;
        }
        drop(state);
        order.changed.notify_all();
        self.finished = true;
        Ok(())
    }
}

impl<V, H> Drop for Ticket<'_, V, H> {
    fn drop(&mut self) {
        if !self.finished {
            self.order.lock().failed = true;
            self.order.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::AssertUnwindSafe, thread, time::Duration};

    use proptest::prelude::*;
    use rayon::prelude::*;

    use super::*;
    use crate::base::error::Error;

    /// Tasks of these sizes on some threads, taken up in order; returns what was handed over.
    fn run_tasks(
        sizes: &[usize],
        capacity: usize,
        threads: usize,
        work: impl Fn(usize) -> Result<()> + Sync,
        mut hand_over: impl FnMut(&[usize]) -> Result<()> + Send,
    ) -> (Result<()>, Vec<usize>) {
        let mut received = Vec::new();
        let order = InOrder::new(capacity, |found: Vec<usize>| {
            hand_over(&found)?;
            received.extend(found);
            Ok(())
        });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let result = pool.build().unwrap().install(|| {
            sizes
                .iter()
                .enumerate()
                .par_bridge()
                .try_for_each(|(task, &size)| {
                    let ticket = order.ticket(task);
                    work(task)?;
                    ticket.finish(vec![task; size])
                })
        });
        drop(order);
        (result, received)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_numbers(
            sizes in prop::collection::vec(0..5_usize, 0..60),
            capacity in 0..12_usize,
            threads in 1..5_usize,
            slow in prop::collection::vec(any::<bool>(), 60),
        ) {
            let work = |task: usize| {
                if slow[task] {
                    thread::sleep(Duration::from_micros(200));
                }
                Ok(())
            };
            let (result, received) = run_tasks(&sizes, capacity, threads, work, |_| Ok(()));
            prop_assert_eq!(result, Ok(()));
            let tasks = sizes.iter().enumerate();
            let expected: Vec<usize> = tasks.flat_map(|(task, &size)| vec![task; size]).collect();
            prop_assert_eq!(received, expected);
        }

        #[test]
        fn a_failure_lets_all_threads_go(
            fails in 0..30_usize,
            capacity in 0..4_usize,
            threads in 1..5_usize,
            handing_over: bool,
        ) {
            let failure = |task: usize| match task == fails {
                true => Err(Error::Cancelled),
                false => Ok(()),
            };
            let (result, received) = run_tasks(
                &[1; 30],
                capacity,
                threads,
                |task| if handing_over { Ok(()) } else { failure(task) },
                |found| if handing_over { failure(found[0]) } else { Ok(()) },
            );
            prop_assert_eq!(result, Err(Error::Cancelled));
            let all: Vec<usize> = (0..fails).collect();
            prop_assert!(all.starts_with(&received));
        }
    }

    #[test]
    fn a_panic_lets_all_threads_go() {
        let panicking = |task| {
            if task == 3 { panic!("task 3") } else { Ok(()) }
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            run_tasks(&[1; 30], 0, 4, panicking, |_| Ok(()))
        }));
        assert!(result.is_err());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let order = InOrder::new(5, |_: Vec<u8>| Ok(()));
        let first = order.ticket(0);
        order.ticket(1).finish(vec![0; 3]).unwrap();
        assert_eq!(order.lock().kept, 3);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| order.ticket(2).finish(vec![0; 3]));
            order.ticket(3).finish(vec![0; 2]).unwrap();
            assert_eq!(order.lock().kept, 5);
            assert!(!waiting.is_finished());
            first.finish(vec![0; 9]).unwrap();
            waiting.join().unwrap().unwrap();
        });
        let state = order.lock();
        assert_eq!((state.next, state.kept), (4, 0));
    }
}
