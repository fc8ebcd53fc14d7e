//! A consumer learns nothing of another one's events, neither by what it is told nor by how long that takes.

use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::event::{EventType, OutboxEvent, event_id};
use busbar::domain::token_buckets::BucketLimit;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use uuid::Uuid;

use super::consumers::{create, keyed};
use super::harness::{GatewayHarness, Plan, Said};
use crate::kit::time::now;

/// Text of every event of the other consumer, and of nothing else.
const CANARY: &str = "canary-of-foreign";
const EVENTS: u32 = 200;
/// Generated requests, each for an event of the other consumer and for one that does not exist.
const CASES: usize = 150;
/// Requests of each kind that are timed, one after the other in turn.
const TIMED: usize = 150;

fn event(namespace: &str, number: u32) -> OutboxEvent {
    let aggregate = format!("syncjob/{namespace}/books{}", number % 7);
    OutboxEvent {
        id: event_id(EventType::FetchFailed, &aggregate, &[&number.to_be_bytes()]),
        event_type: EventType::FetchFailed,
        namespace: namespace.to_owned(),
        payload: json!({"text": if namespace == "other" { CANARY } else { "own" }, "n": number}).to_string(),
        aggregate,
        correlation_id: Uuid::from_u128(u128::from(number) + 1),
    }
}

/// A request with a key.
#[derive(Clone, Debug)]
struct Probe {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

/// A route and its parameters; the event that is asked for comes later.
#[derive(Clone, Debug)]
enum Shape {
    Confirm { is_alias: bool, status: &'static str },
    Requeue { is_alias: bool, act: &'static str, dry_run: bool, days: Option<u32>, tries: Option<u32> },
    List { is_alias: bool, limit: u32, filters: Vec<&'static str> },
}

fn shapes() -> impl Strategy<Value = Shape> {
    let statuses = prop::sample::select(vec!["received", "processed", "failed", "other"]);
    let filters =
        vec!["namespace=other", "aggregate=syncjob/other", "type=fetch.failed", "from_time=2020-01-01T00:00:00Z"];
    let acts = prop::sample::select(vec!["resend", "redeliver"]);
    let (days, tries) = (prop::option::of(1..3_650_u32), prop::option::of(0..9_u32));
    prop_oneof![
        (any::<bool>(), statuses).prop_map(|(is_alias, status)| Shape::Confirm { is_alias, status }),
        (any::<bool>(), acts, any::<bool>(), days, tries).prop_map(|(is_alias, act, dry_run, days, tries)| {
            Shape::Requeue { is_alias, act, dry_run, days, tries }
        }),
        (any::<bool>(), 1..=500_u32, prop::sample::subsequence(filters, 0..=4))
            .prop_map(|(is_alias, limit, filters)| Shape::List { is_alias, limit, filters }),
    ]
}

impl Shape {
    /// The request for this event.
    fn probe(&self, event: &OutboxEvent) -> Probe {
        let base = |is_alias: bool| if is_alias { "/events" } else { "/api/events" };
        let id = event.id.to_string();
        match self {
            Self::Confirm { is_alias, status } => Probe {
                method: "POST",
                path: format!("{}/confirm-delivery", base(*is_alias)),
                body: Some(json!({"event_id": id, "status": status})),
            },
            Self::Requeue { is_alias, act, dry_run, days, tries } => {
                let mut body = json!({"event_ids": [id], "dry_run": dry_run});
                if let Some(days) = days {
                    body["period_in_days"] = json!(days);
                }
                if let Some(tries) = tries {
                    body["max_try_count"] = json!(tries);
                }
                Probe { method: "POST", path: format!("{}/{act}", base(*is_alias)), body: Some(body) }
            }
            Self::List { is_alias, limit, filters } => {
                let path = if *is_alias { "/consumer/data" } else { "/api/events" };
                let filters = filters.iter().fold(String::new(), |all, filter| all + "&" + filter);
                let id = event.correlation_id;
                Probe { method: "GET", path: format!("{path}?limit={limit}&correlation_id={id}{filters}"), body: None }
            }
        }
    }
}

async fn send(harness: &GatewayHarness, key: &str, probe: &Probe) -> Said {
    keyed(harness, probe.method, &probe.path, key, probe.body.as_ref()).await
}

/// The other consumer's event, and one like it that does not exist.
fn pair(number: u32) -> [OutboxEvent; 2] {
    let unknown = OutboxEvent { id: Uuid::new_v4(), correlation_id: Uuid::new_v4(), ..event("other", number) };
    [event("other", number), unknown]
}

async fn harness() -> (GatewayHarness, String, String) {
    let consumer = BucketLimit { interval: Duration::from_millis(1), burst: 100_000 };
    let harness = GatewayHarness::with(Plan { consumer, ..Plan::default() }).await;
    let own = create(&harness, &json!({"name": "own", "namespaces": ["team"]})).await;
    let foreign = create(&harness, &json!({"name": "foreign", "namespaces": ["other"]})).await;
    for number in 0..EVENTS {
        let events = [event("other", number), event("team", 10_000 + number)];
        harness.ledger.append_events(&events, now()).await.unwrap();
    }
    (harness, own, foreign)
}

#[tokio::test]
async fn every_route_answers_the_same_for_an_event_of_another_and_for_none() {
    let (harness, own, foreign) = harness().await;
    let (mut runner, strategy) = (TestRunner::deterministic(), (shapes(), 0..EVENTS));
    for _ in 0..CASES {
        let (shape, number) = strategy.new_tree(&mut runner).unwrap().current();
        let [theirs, unknown] = pair(number);
        let (probe, control) = (shape.probe(&theirs), shape.probe(&unknown));
        let (answer, expected) = (send(&harness, &own, &probe).await, send(&harness, &own, &control).await);
        assert_eq!((answer.status, &answer.body), (expected.status, &expected.body), "{probe:?}");
        assert!(!answer.body.to_string().contains(CANARY), "{probe:?}");
    }
    let id = harness.ledger.consumer("foreign").await.unwrap().unwrap().id;
    for number in 0..EVENTS {
        let delivery = harness.ledger.delivery(id, event("other", number).id).await.unwrap().unwrap();
        assert_eq!(delivery.deliver.as_str(), "none", "nothing of the other one was changed");
    }
    let page = keyed(&harness, "GET", "/api/events?limit=500", &foreign, None).await;
    assert!(page.body.to_string().contains(CANARY), "the other one has its events");
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_whether_an_event_of_another_exists() {
    let (harness, own, _) = harness().await;
    let clock = Clock::system();
    for shape in [
        Shape::Confirm { is_alias: false, status: "received" },
        Shape::Requeue { is_alias: false, act: "redeliver", dry_run: true, days: None, tries: None },
        Shape::List { is_alias: false, limit: 50, filters: Vec::new() },
    ] {
        let mut times: [Vec<Duration>; 2] = [Vec::new(), Vec::new()];
        for turn in 0..TIMED {
            let events = pair(u32::try_from(turn).unwrap() % EVENTS);
            // In turn, and each first as often as the other: what the machine does besides meets both.
            for place in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
                let probe = shape.probe(&events[place]);
                let began = clock.mono();
                send(&harness, &own, &probe).await;
                times[place].push(clock.mono().since(began));
            }
        }
        let [theirs, unknown] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        });
        // One class: the medians are of one size. What is excluded is a query that reads what it must not show.
        let (small, large) = (theirs.min(unknown), theirs.max(unknown));
        assert!(large <= small * 3 / 2 + Duration::from_micros(500), "{shape:?}: {theirs:?} and {unknown:?}");
    }
}
