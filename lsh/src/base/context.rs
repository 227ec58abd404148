use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use lshjoin_kernels::{Isa, memory};

use crate::base::{
    error::{Error, Result},
    report::{Estimate, Log, Report},
};

/// Without so many bytes, and what is taken without asking, nothing can be done.
const WORKING: usize = 1 << 20;

/// The context of a run of a join: which instruction set it uses, how far it is, and whether to go on.
///
/// Shared between the thread that works and one that watches. Work is spread over the rayon pool
/// that the call is made in.
///
/// ```
/// use lshjoin::{Context, Error, KnnJoin, Rows};
///
/// let ctx = Context::new()?;
/// ctx.cancel();
/// let items = Rows::new(&[0.0_f32, 1.0, 2.0], 1)?;
/// assert_eq!(KnnJoin::new(items).k(1).run(&ctx).unwrap_err(), Error::Cancelled);
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Debug)]
pub struct Context {
    isa: Isa,
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    log: Mutex<Log>,
}

impl Context {
    /// For a run on the instruction set of `LSHJOIN_ISA`, or the best.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that the machine lacks; or when there are
    /// not some megabytes of memory to work with.
    pub fn new() -> Result<Self> {
        memory::check(WORKING, "working memory")?;
        Ok(Self::on(Isa::from_env()?))
    }

    /// For a run on a given instruction set.
    pub fn on(isa: Isa) -> Self {
        Self {
            isa,
            cancelled: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            log: Mutex::default(),
        }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Makes the work end soon, with [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Steps done and steps known of so far; what a step is depends on the work.
    pub fn progress(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// What has been done since the context was made, by nearest-neighbour joins and their planning.
    ///
    /// ```
    /// use lshjoin::{Context, JoinPlan, KnnJoin, Rows};
    ///
    /// let ctx = Context::new()?;
    /// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
    /// KnnJoin::new(items).k(1).plan(JoinPlan::Exact).run(&ctx)?;
    /// let report = ctx.report();
    /// assert_eq!((report.pairs, report.recall.unwrap().value), (3, 1.0));
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    pub fn report(&self) -> Report {
        self.log().report()
    }

    /// Ends a stage of the work and begins another; not for what is part of one.
    pub(crate) fn begin_stage(&self, stage: &'static str) {
        self.log().begin_stage(stage);
    }

    /// So many pairs are compared.
    pub(crate) fn count_pairs(&self, pairs: u64) {
        self.log().add_pairs(pairs);
    }

    /// The join reached this recall.
    pub(crate) fn reached(&self, recall: Estimate) {
        self.log().set_recall(Some(recall));
    }

    /// Nobody knows the recall of the join, whatever joins that were part of it reached.
    pub(crate) fn reached_unknown(&self) {
        self.log().set_recall(None);
    }

    /// The recall that the last join reached, where it was measured.
    pub(crate) fn recall(&self) -> Option<Estimate> {
        self.log().recall()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asked once per block of work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    pub(crate) fn expect(&self, steps: usize) {
        self.total.fetch_add(steps as u64, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, steps: usize) {
        self.done.fetch_add(steps as u64, Ordering::Relaxed);
    }
}
