//! Answers that come too slowly or not at all, by our own simulator: mountebank cannot hold an answer back in the middle.

use std::time::Duration;

use busbar::domain::breaker::BreakerState;
use busbar::provider::call::{CallError, Request};
use busbar::testbed::sim::{BankConfig, Behaviour, FailurePoint, Script, ScriptStep, Sim, SimConfig};

use super::{circuit, draft, live};

const PATH: &str = "/health";

fn always(behaviour: Behaviour) -> Script {
    Script::from(ScriptStep::from(behaviour))
}

#[tokio::test]
async fn a_provider_that_stalls_or_dribbles_costs_no_more_than_the_calls_time() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    let dribble = Behaviour::Dribble { bytes: 1, every_ms: 400 };
    for behaviour in [Behaviour::Stall(FailurePoint::BeforeHead), Behaviour::Stall(FailurePoint::AfterHead), dribble] {
        bank.set_script(always(behaviour.clone())).await.unwrap();
        let mut draft = draft("generic", bank.base_url(), &[], &[]);
        draft.timeouts.request = Duration::from_millis(300);
        draft.timeouts.total = Duration::from_secs(1);
        let connection = live(draft);
        let end = connection.call(Request::get("test", PATH)).await;
        assert!(matches!(end, Err(CallError::Timeout)), "{behaviour:?}: {end:?}");
        assert_eq!(
            circuit(&connection),
            BreakerState::Closed,
            "{behaviour:?}: one call is one outcome, whatever it tried"
        );
        let end = connection.call(Request::get("test", PATH)).await;
        assert!(matches!(end, Err(CallError::Timeout)), "{behaviour:?}: {end:?}");
        assert_eq!(circuit(&connection), BreakerState::Open, "{behaviour:?}");
    }
}

#[tokio::test]
async fn what_dribbles_in_within_the_time_is_an_answer() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let bank = sim.add_bank(BankConfig::new("bank")).await.unwrap();
    bank.set_script(always(Behaviour::Dribble { bytes: 3, every_ms: 5 })).await.unwrap();
    let answer = live(draft("generic", bank.base_url(), &[], &[])).call(Request::get("test", PATH)).await.unwrap();
    assert!(answer.status.is_success() && !answer.body.is_empty(), "{answer:?}");
    assert_eq!(answer.meta.tries, 1);
}
