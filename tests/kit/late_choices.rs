//! Circuits that are tripped while decisions go on: none that starts after the tripping call has returned may choose the
//! bank.
//!
//! One thread makes calls that fail, each of which trips the circuit of the cheapest bank, and decides at once after
//! each. Another decides all the time. The benches include this file too, and so it uses the library and its sibling only.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use busbar::domain::decision::{DecisionRequest, RequestDraft};
use busbar::provider::call::Request;
use busbar::routing::DecisionService;
use busbar::settings::Draft;

use super::decision_server::{BANKS, NAMESPACE, ROUTE, RunningDecisions, connect, passive};

/// How long the other thread may take to decide once.
const PATIENCE: Duration = Duration::from_mins(1);

/// What the trips came to.
#[derive(Debug, Default)]
pub(crate) struct LateChoices {
    /// Trips of the circuit.
    pub(crate) trips: u64,
    /// Decisions that started after a trip and ended before the bank was put into service again.
    pub(crate) decisions: u64,
    /// Those of them that chose the tripped bank.
    pub(crate) late: u64,
}

/// A request for the route of the kit.
pub(crate) fn request(payout_id: &str) -> DecisionRequest {
    let draft = RequestDraft {
        amount: "1250.00".to_owned(),
        attempt_no: None,
        country: Some("DE".to_owned()),
        currency: "EUR".to_owned(),
        merchant: None,
        namespace: NAMESPACE.to_owned(),
        payout_id: payout_id.to_owned(),
        rail: Some("SEPA".to_owned()),
        rates: Vec::new(),
        route: Some(ROUTE.to_owned()),
    };
    draft.validate(jiff::Timestamp::UNIX_EPOCH).expect("a request")
}

/// A connection to a port where nothing listens, whose first failure opens its circuit.
fn tripping() -> Draft {
    let mut draft = passive();
    draft.breaker.consecutive_failures = 1;
    draft.retry.retries = 0;
    draft
}

/// The bank that a decision made now would choose.
async fn chosen(service: &DecisionService, request: &DecisionRequest) -> Option<String> {
    service.test(request).await.expect("another bank is there").evaluation.active
}

/// Trips the circuit of the cheapest bank `trips` times, while another thread decides.
pub(crate) fn late_choices(service: &RunningDecisions, trips: u64) -> LateChoices {
    // Odd from the return of a tripping call until the bank is about to be put into service again.
    let (state, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (sender, receiver) = channel();
    let mut found = std::thread::scope(|threads| {
        let decider = threads.spawn(|| decide_all_the_time(&service.service, &state, &done, &sender));
        let (shared, receiver) = (&state, receiver);
        let tripper = threads.spawn(move || trip(service, trips, shared, &receiver));
        let mut found = tripper.join().expect("the tripping thread ends well");
        done.store(true, Ordering::Release);
        let other = decider.join().expect("the deciding thread ends well");
        found.decisions += other.decisions;
        found.late += other.late;
        found
    });
    found.trips = trips;
    found
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn trip(service: &RunningDecisions, trips: u64, state: &AtomicU64, seen: &Receiver<u64>) -> LateChoices {
    let (request, mut found) = (request("late-choice"), LateChoices::default());
    // One HTTP client for all trips: it would end with each connection, and making one takes longer than a trip.
    let first = connect(&service.registry, BANKS[0], "uid-of-the-first", tripping());
    let _client = service.registry.clients().for_provider(&first.settings());
    runtime().block_on(async {
        for trip in 0..trips {
            // Another object of the same name: its circuit is closed.
            let bank = connect(&service.registry, BANKS[0], &format!("uid-{trip}"), tripping());
            assert_eq!(chosen(&service.service, &request).await.as_deref(), Some(BANKS[0]), "the cheapest is back");
            bank.call(Request::get("test", "/")).await.expect_err("nothing listens there");
            let opened = state.fetch_add(1, Ordering::AcqRel) + 1;
            found.decisions += 1;
            found.late += u64::from(chosen(&service.service, &request).await.as_deref() == Some(BANKS[0]));
            while seen.recv_timeout(PATIENCE).expect("the other thread decides") != opened {}
            state.fetch_add(1, Ordering::AcqRel);
        }
    });
    found
}

fn decide_all_the_time(
    service: &DecisionService,
    state: &AtomicU64,
    done: &AtomicBool,
    seen: &Sender<u64>,
) -> LateChoices {
    let (request, mut found, mut reported) = (request("concurrent-choice"), LateChoices::default(), 0);
    runtime().block_on(async {
        while !done.load(Ordering::Acquire) {
            let before = state.load(Ordering::Acquire);
            let bank = chosen(service, &request).await;
            // A decision that the bank's return has overtaken says nothing.
            if before.is_multiple_of(2) || state.load(Ordering::Acquire) != before {
                continue;
            }
            found.decisions += 1;
            found.late += u64::from(bank.as_deref() == Some(BANKS[0]));
            if before != reported {
                reported = before;
                // The receiver ends with the last trip.
                let _ = seen.send(before);
            }
        }
    });
    found
}
