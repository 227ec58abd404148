//! The context of a call: instruction set, progress, cancelling and report. Every long loop asks it
//! whether to go on.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use lshjoin_kernels::{Isa, memory};

use crate::base::{
    error::{Error, Result},
    report::{Estimate, Log, Report},
};

/// Bytes that must be there before anything starts: small buffers are taken without asking.
const WORKING: usize = 1 << 20;

/// The context of a call: which instruction set it uses, how far it is, and whether to go on.
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
    /// Steps that will probably be announced yet.
    foreseen: AtomicU64,
    log: Mutex<Log>,
}

impl Context {
    /// For calls on the instruction set that `LSHJOIN_ISA` names, or else the best.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that the machine lacks; or when there are
    /// not some megabytes of memory to work with.
    pub fn new() -> Result<Self> {
        memory::check(WORKING, "working memory")?;
        Ok(Self::on(Isa::from_env()?))
    }

    /// For calls on a given instruction set.
    pub fn on(isa: Isa) -> Self {
        Self {
            isa,
            cancelled: AtomicBool::new(false),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            foreseen: AtomicU64::new(0),
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

    /// Steps done, and steps known of so far or foreseen; what a step is depends on the work. Of joins by
    /// nearness, it mostly is a pair of rows that are compared, or what takes as long.
    pub fn progress(&self) -> (u64, u64) {
        let done = self.done.load(Ordering::Relaxed);
        let foreseen = self.foreseen.load(Ordering::Relaxed);
        (done, self.total.load(Ordering::Relaxed) + foreseen)
    }

    /// What has been done since the context was made, by nearest-neighbour joins and their
    /// planning.
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

    /// Ends the current stage and begins another: the report has the time of each. Stages do not
    /// nest.
    pub(crate) fn begin_stage(&self, stage: &'static str) {
        self.log().begin_stage(stage);
    }

    /// Adds to the number of pairs that were compared.
    pub(crate) fn count_pairs(&self, pairs: u64) {
        self.log().add_pairs(pairs);
    }

    /// Records the recall that the join reached.
    pub(crate) fn reached(&self, recall: Estimate) {
        self.log().set_recall(Some(recall));
    }

    /// Records that the recall of the join is unknown, even if a join that was part of it measured
    /// its own.
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

    /// Fails once the call is cancelled; asked once per block of work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// Announces more steps of progress: some of those that were foreseen, if there are any.
    pub(crate) fn expect(&self, steps: usize) {
        let steps = steps as u64;
        self.total.fetch_add(steps, Ordering::Relaxed);
        let rest = |foreseen: u64| Some(foreseen.saturating_sub(steps));
        let _ = self
            .foreseen
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
    }

    /// Says how many more steps will probably be announced, in place of what was said before: so that a
    /// bar of progress is not nearly full before most of the work is known.
    pub(crate) fn foresee(&self, steps: f64) {
        self.foreseen.store(steps as u64, Ordering::Relaxed);
    }

    /// Counts steps as done.
    pub(crate) fn advance(&self, steps: usize) {
        self.done.fetch_add(steps as u64, Ordering::Relaxed);
    }
}
