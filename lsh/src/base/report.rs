//! What a join did: the recall that it reached, the pairs that it compared, and its time by stage.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// What a join did, from [`Context::report`](crate::Context::report).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Measured on held-out rows that no choice was made by; `None` where a plan holds out none.
    pub recall: Option<Estimate>,
    /// Pairs of rows that were compared, those of held-out rows among them; a pair that is compared
    /// twice counts twice.
    pub pairs: u64,
    /// Seconds of each stage, in the order in which they began.
    pub seconds: Vec<(&'static str, f64)>,
}

/// The mean of shares measured on some rows, with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How many rows; none where all pairs are compared and there is nothing to measure.
    pub rows: usize,
}

/// Standard errors on either side of a 95 % confidence interval.
const CONFIDENCE: f64 = 1.96;

/// A choice that is made by some rows is trusted if the recall of all rows is not below the target
/// by more than the tolerance; that it is lower has to be ruled out by so many standard errors.
const TOLERANCE: f64 = 0.01;
const CERTAINTY: f64 = 3.0;

impl Estimate {
    /// The recall of a join that compares all pairs.
    pub(crate) const EXACT: Self = Self {
        value: 1.0,
        low: 1.0,
        high: 1.0,
        rows: 0,
    };

    /// The recall, from the share of its neighbours that each row found.
    pub(crate) fn of(shares: impl Iterator<Item = f64>) -> Self {
        let shares = Shares::of(shares);
        let (low, high) = shares.interval(CONFIDENCE);
        Self {
            value: shares.mean,
            low,
            high,
            rows: shares.rows as usize,
        }
    }

    /// The recall of a join in parts, from what each weighs and its recall.
    pub(crate) fn of_parts(parts: impl Iterator<Item = (usize, Self)> + Clone) -> Self {
        let all: usize = parts.clone().map(|(weight, _)| weight).sum();
        let mean = |of: fn(&Self) -> f64| {
            let weighted = parts.clone();
            let weighted = weighted.map(|(weight, part)| weight as f64 * of(&part));
            (weighted.sum::<f64>() / all as f64).clamp(0.0, 1.0)
        };
        Self {
            value: mean(|part| part.value),
            low: mean(|part| part.low),
            high: mean(|part| part.high),
            rows: parts.clone().map(|(_, part)| part.rows).sum(),
        }
    }

    /// Whether the mean is below `recall`, and not by chance.
    pub(crate) fn falls_short(&self, recall: f64) -> bool {
        self.high < recall
    }
}

/// Whether rows that found these shares confirm `recall`: their mean reaches it, and no likely
/// error puts the recall of all rows below it by more than is tolerated.
pub(crate) fn reaches_confidently(recall: f64, shares: impl Iterator<Item = f64>) -> bool {
    let shares = Shares::of(shares);
    shares.mean >= recall && shares.interval(CERTAINTY).0 >= recall - TOLERANCE
}

/// Mean and spread of numbers between 0 and 1.
struct Shares {
    rows: f64,
    mean: f64,
    variance: f64,
}

impl Shares {
    fn of(shares: impl Iterator<Item = f64>) -> Self {
        let (mut rows, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for share in shares {
            rows += 1.0;
            sum += share;
            squares += share * share;
        }
        // Where there are no rows, none has missed anything.
        let mean = if rows > 0.0 { sum / rows } else { 1.0 };
        Self {
            rows,
            mean,
            variance: (squares / f64::max(rows, 1.0) - mean * mean).max(0.0),
        }
    }

    /// Wilson's score interval (1927), which holds near 1, where the normal approximation has no
    /// width. The number of trials is that of yes-or-no answers whose mean would vary as that of
    /// these shares does.
    fn interval(&self, errors: f64) -> (f64, f64) {
        let spread = self.mean * (1.0 - self.mean);
        let trials = match self.variance > 0.0 {
            true => self.rows * (spread / self.variance).max(1.0),
            false => self.rows,
        };
        if trials == 0.0 {
            return (0.0, 1.0);
        }
        let square = errors * errors / trials;
        let middle = self.mean + square / 2.0;
        let half = errors * (spread / trials + square / (4.0 * trials)).sqrt();
        let end = |value: f64| (value / (1.0 + square)).clamp(0.0, 1.0);
        (
            end(middle - half).min(self.mean),
            end(middle + half).max(self.mean),
        )
    }
}

/// A report under way.
#[derive(Debug, Default)]
pub(crate) struct Log {
    report: Report,
    /// The stage that is under way, and since when.
    stage: Option<(&'static str, Instant)>,
}

impl Log {
    /// Ends the stage that is under way and begins, or goes on with, another.
    pub(crate) fn begin_stage(&mut self, stage: &'static str) {
        self.end();
        self.stage = Some((stage, Instant::now()));
    }

    fn end(&mut self) {
        let Some((name, start)) = self.stage.take() else {
            return;
        };
        let seconds = start.elapsed().as_secs_f64();
        match self.report.seconds.iter_mut().find(|stage| stage.0 == name) {
            Some(stage) => stage.1 += seconds,
            None => self.report.seconds.push((name, seconds)),
        }
    }

    pub(crate) fn add_pairs(&mut self, pairs: u64) {
        self.report.pairs += pairs;
    }

    pub(crate) fn set_recall(&mut self, recall: Option<Estimate>) {
        self.report.recall = recall;
    }

    pub(crate) fn recall(&self) -> Option<Estimate> {
        self.report.recall
    }

    /// The report so far. What a stage under way has taken is in it, and the stage ends.
    pub(crate) fn report(&mut self) -> Report {
        self.end();
        self.report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(found: usize, of: usize) -> impl Iterator<Item = f64> {
        (0..of).map(move |row| f64::from(u8::from(row < found)))
    }

    #[test]
    fn intervals_are_wilsons() {
        // 81 of 263 (Newcombe 1998, table I).
        let (low, high) = Shares::of(some(81, 263)).interval(1.959_964);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4);
        // None of 20.
        let (low, high) = Shares::of(some(0, 20)).interval(1.959_964);
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-4);
    }

    #[test]
    fn intervals_hold_the_mean_and_shrink_with_more_rows() {
        for found in [0, 1, 50, 99, 100] {
            let few = Estimate::of(some(found, 100));
            let many = Estimate::of(some(found * 100, 10_000));
            assert!(few.low <= few.value && few.value <= few.high && few.rows == 100);
            assert!(many.high - many.low < few.high - few.low);
        }
        // Shares that vary less than yes and no are known better.
        let halves = Estimate::of((0..100).map(|row| f64::from(row % 3) / 2.0));
        let trials = Estimate::of(some(50, 100));
        assert!(halves.high - halves.low < trials.high - trials.low);
    }

    #[test]
    fn rows_vouch_for_what_they_found_less_their_error() {
        assert!(reaches_confidently(0.9, some(5_000, 5_000)));
        assert!(!reaches_confidently(0.9, some(4_499, 5_000)));
        // The mean reaches it, but 50 rows could be lucky.
        assert!(!reaches_confidently(0.9, some(45, 50)));
        assert!(reaches_confidently(0.9, some(46_000, 50_000)));
        // All of a few rows prove little.
        assert!(!reaches_confidently(0.99, some(100, 100)));
        assert!(Estimate::of(some(880, 1000)).falls_short(0.9));
        assert!(!Estimate::of(some(900, 1000)).falls_short(0.9));
        assert!(!Estimate::of(some(88, 100)).falls_short(0.9));
        assert!(Estimate::of(some(44_800, 50_000)).falls_short(0.9));
    }

    #[test]
    fn stages_add_up() {
        let mut log = Log::default();
        log.begin_stage("sort");
        log.begin_stage("join");
        log.begin_stage("sort");
        log.add_pairs(3);
        log.add_pairs(4);
        let report = log.report();
        let names: Vec<&str> = report.seconds.iter().map(|stage| stage.0).collect();
        assert_eq!((names, report.pairs), (vec!["sort", "join"], 7));
        // The clock stands still between stages.
        assert_eq!(log.report(), report);
    }
}
