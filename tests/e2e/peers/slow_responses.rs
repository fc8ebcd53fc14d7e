//! Responses that are too slow or never end, by our own simulator: mountebank cannot hold back a response in the middle.

use std::time::Duration;

use busbar::domain::breaker::BreakerState;
use busbar::provider::call::{CallError, Request};
use busbar::testbed::sim::{Behaviour, FailurePoint, Script, ScriptStep};

use super::{circuit, peer_draft};
use crate::kit::banks::plain_bank;
use crate::kit::connections::connect;
use crate::kit::time::ManualTime;

const PATH: &str = "/health";

/// By how much the clock is advanced while a call waits.
const STEP: Duration = Duration::from_millis(50);

fn always(behaviour: Behaviour) -> Script {
    Script::from(ScriptStep::from(behaviour))
}

#[tokio::test]
async fn a_stalling_provider_costs_no_more_than_the_deadline_of_the_call() {
    let time = ManualTime::start();
    let (_sim, bank) = plain_bank().await;
    let dribble = Behaviour::Dribble { bytes: 1, every_ms: 400 };
    for behaviour in [Behaviour::Stall(FailurePoint::BeforeHead), Behaviour::Stall(FailurePoint::AfterHead), dribble] {
        bank.set_script(always(behaviour.clone())).await.unwrap();
        let mut draft = peer_draft("generic", bank.base_url(), &[], &[]);
        draft.timeouts.request = Duration::from_millis(300);
        draft.timeouts.total = Duration::from_secs(1);
        let connection = connect(draft);
        let end = time.run(STEP, connection.call(Request::get("test", PATH))).await;
        assert!(matches!(end, Err(CallError::Timeout)), "{behaviour:?}: {end:?}");
        assert_eq!(
            circuit(&connection),
            BreakerState::Closed,
            "{behaviour:?}: one call is one outcome, whatever it tried"
        );
        let end = time.run(STEP, connection.call(Request::get("test", PATH))).await;
        assert!(matches!(end, Err(CallError::Timeout)), "{behaviour:?}: {end:?}");
        assert_eq!(circuit(&connection), BreakerState::Open, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_slow_response_within_the_deadline_is_a_success() {
    let (_sim, bank) = plain_bank().await;
    bank.set_script(always(Behaviour::Dribble { bytes: 3, every_ms: 5 })).await.unwrap();
    let answer =
        connect(peer_draft("generic", bank.base_url(), &[], &[])).call(Request::get("test", PATH)).await.unwrap();
    assert!(answer.status.is_success() && !answer.body.is_empty(), "{answer:?}");
    assert_eq!(answer.meta.tries, 1);
}
