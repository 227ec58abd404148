//! The recall of self-joins that run as joins of two sides, so that rows may find themselves.

use crate::base::report::Estimate;

/// How recall is counted. Where queries are items too, a join for the k nearest others asks for k +
/// 1 items, of which the query may be one.
#[derive(Clone, Copy)]
pub(crate) struct Others {
    /// `None` where all that is found counts.
    pub(crate) k: Option<usize>,
}

impl Others {
    /// The recall of all k + 1 items that makes sure of `recall` of the k others, whether or not
    /// the query is found.
    pub(crate) fn of_all(self, recall: f64) -> f64 {
        match self.k {
            Some(k) => (recall * k as f64 + 1.0) / (k as f64 + 1.0),
            None => recall,
        }
    }

    /// The recall of the k others, at least, given that of all k + 1 items.
    pub(crate) fn found(self, all: Estimate) -> Estimate {
        let Some(k) = self.k.map(|k| k as f64) else {
            return all;
        };
        let found = |all: f64| ((all * (k + 1.0) - 1.0) / k).clamp(0.0, 1.0);
        Estimate {
            value: found(all.value),
            low: found(all.low),
            high: found(all.high),
            ..all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_find_themselves_find_as_many_others() {
        let all = |value| Estimate {
            value,
            low: value - 0.1,
            high: value + 0.1,
            rows: 10,
        };
        for (k, asked) in [(1, 0.8), (5, 0.8), (100, 0.99)] {
            let others = Others { k: Some(k) };
            let found = others.found(all(others.of_all(asked)));
            assert!((found.value - asked).abs() < 1e-12 && found.low <= found.value);
            assert!(found.high <= 1.0 && found.rows == 10);
            assert!(others.of_all(asked) > asked && others.of_all(1.0) == 1.0);
        }
        let all = all(0.7);
        assert_eq!(Others { k: None }.found(all), all);
    }
}
