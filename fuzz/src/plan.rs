//! Texts of plans: what can be read is the same when written and read again, and a join by it is
//! refused or answered.

use lshjoin::{Context, JoinPlan, KnnJoin, Rows};

/// Rows from which on joins follow their plans.
const EXACT_BELOW: usize = 4096;

pub fn run(data: &[u8]) {
    let Ok(plan) = serde_json::from_slice::<JoinPlan>(data) else {
        return;
    };
    let text = serde_json::to_string(&plan).expect("a plan can be written");
    let again: JoinPlan = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(again, plan, "{text}");

    let ctx = Context::new().expect("an instruction set");
    let checked = plan.check();
    let followed = if checked.is_ok() {
        soon_done(plan)
    } else {
        plan
    };
    for (count, plan) in [(50, plan), (EXACT_BELOW + 4, followed)] {
        let values: Vec<f32> = (0..count * 2).map(|at| (at * 7919 % 509) as f32).collect();
        let rows = Rows::new(&values, 2).expect("whole rows");
        let found = KnnJoin::new(rows).k(3).plan(plan).run(&ctx);
        assert_eq!(found.is_ok(), checked.is_ok(), "{plan:?}: {found:?}");
        if let Ok(found) = found {
            assert!(
                found
                    .neighbors
                    .indices
                    .iter()
                    .all(|&index| (0..count as i64).contains(&index))
            );
        }
    }
}

/// A plan that is in range with no more tables and rounds than a fuzzer has time for: what would be
/// done again and again. All other numbers stay.
fn soon_done(plan: JoinPlan) -> JoinPlan {
    match plan {
        JoinPlan::Lsh(mut plan) => {
            plan.tables = plan.tables.min(2);
            JoinPlan::Lsh(plan.rounds(plan.rounds.min(2)))
        }
        JoinPlan::Ivf(plan) => JoinPlan::Ivf(plan.rounds(plan.rounds.min(2))),
        plan => plan,
    }
}
