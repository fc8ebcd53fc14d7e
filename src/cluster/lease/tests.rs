//! Two electors and an API server that knows one Lease, under paused time: how long hand-overs take by design.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body as Answer;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// A slow day of a healthy API server.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// A look, its write, and the write that was waited for.
const A_FEW_TRIPS: Duration = Duration::from_millis(5 * 50);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<Value>>,
    /// Watches are refused.
    deaf: bool,
    /// The next write meets another version.
    touched: bool,
}

impl State {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.watches.retain(|watch| watch.send(lease.clone()).is_ok());
        self.lease = Some(lease.clone());
        lease
    }

    fn answer(&mut self, method: &Method, query: &str, body: &[u8]) -> Response<Answer> {
        let reply = |code: StatusCode, value: &Value| {
            Response::builder().status(code).body(Answer::from(value.to_string())).unwrap()
        };
        let refused = |code: StatusCode, reason: &str| {
            reply(
                code,
                &json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason}),
            )
        };
        if query.contains("watch=true") {
            if self.deaf {
                return refused(StatusCode::FORBIDDEN, "Forbidden");
            }
            let (tell, told) = mpsc::unbounded_channel();
            self.lease.iter().for_each(|lease| tell.send(lease.clone()).unwrap());
            self.watches.push(tell);
            let lines = tokio_stream(told).map(|lease| Ok::<_, Infallible>(event(lease)));
            return Response::new(Answer::from_stream(lines));
        }
        match (method, self.lease.clone()) {
            (&Method::GET, None) => refused(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::GET, Some(lease)) => reply(StatusCode::OK, &lease),
            (&Method::POST, Some(_)) => refused(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::POST, None) => reply(StatusCode::CREATED, &self.store(serde_json::from_slice(body).unwrap())),
            (_, found) => {
                if std::mem::take(&mut self.touched) {
                    self.store(found.clone().unwrap());
                }
                let wanted: Value = serde_json::from_slice(body).unwrap();
                let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
                if self.lease.as_ref().map(version) != Some(version(&wanted)) {
                    return refused(StatusCode::CONFLICT, "Conflict");
                }
                reply(StatusCode::OK, &self.store(wanted))
            }
        }
    }
}

fn tokio_stream(mut told: mpsc::UnboundedReceiver<Value>) -> impl futures::Stream<Item = Value> {
    futures::stream::poll_fn(move |cx| told.poll_recv(cx))
}

fn event(mut lease: Value) -> String {
    (lease["apiVersion"], lease["kind"]) = (json!("meta.k8s.io/v1"), json!("PartialObjectMetadata"));
    format!("{}\n", json!({"type": "MODIFIED", "object": lease}))
}

/// Two replicas' world.
struct World {
    state: Arc<Mutex<State>>,
    clock: Clock,
}

/// One replica: what tells whether it leads, what ends it in order, and its task, which ends with the time it gave back.
struct Replica {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self { state: Arc::default(), clock: Clock::starting_at(Timestamp::UNIX_EPOCH) }
    }

    fn start(&self, identity: &str) -> Replica {
        let state = Arc::clone(&self.state);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                tokio::time::sleep(ROUND_TRIP / 2).await;
                let query = head.uri.query().unwrap_or_default().to_owned();
                let answer = state.lock().unwrap().answer(&head.method, &query, &body);
                tokio::time::sleep(ROUND_TRIP / 2).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let (leadership, stop) = (Leadership::default(), CancellationToken::new());
        let config = LeaseConfig { namespace: "ns".into(), name: "busbar".into(), identity: identity.into() };
        let mut elector = Elector::new(Client::new(service, "ns"), config, self.clock, leadership.clone());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if elector.acquire(&stopped).await {
                elector.hold(&stopped).await.unwrap();
            }
        });
        Replica { leadership, stop, task }
    }

    /// A leader and a standby, some while after the leader's last renewal.
    async fn pair(&self, phase: Duration) -> (Replica, Replica) {
        let first = self.start("first");
        self.leads(&first).await;
        let second = self.start("second");
        tokio::time::sleep(Duration::from_secs(7) + phase).await;
        assert!(!second.leadership.holds(self.clock.mono()));
        (first, second)
    }

    /// Waits until it leads; how long that took.
    async fn leads(&self, replica: &Replica) -> Duration {
        let began = self.clock.mono();
        while !replica.leadership.holds(self.clock.mono()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(self.clock.mono().since(began) < Duration::from_mins(1), "it never leads");
        }
        self.clock.mono().since(began)
    }
}

/// All moments of a renewal's turn, in steps of a fifth of a second.
fn phases() -> impl Iterator<Item = Duration> {
    (0..10).map(|fifths| Duration::from_millis(200 * fifths))
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_is_led_again_after_a_few_round_trips() {
    for phase in phases() {
        let world = World::new();
        let (first, second) = world.pair(phase).await;
        first.stop.cancel();
        let took = world.leads(&second).await;
        assert!(took <= A_FEW_TRIPS, "{took:?} at {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_may_not_watch_takes_over_at_its_next_look() {
    for phase in phases() {
        let world = World::new();
        world.state.lock().unwrap().deaf = true;
        let (first, second) = world.pair(phase).await;
        first.stop.cancel();
        let took = world.leads(&second).await;
        assert!(took <= LOOK_EVERY + A_FEW_TRIPS, "{took:?} at {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_has_a_successor_within_seventeen_seconds_with_a_watch_and_without() {
    for (phase, deaf) in phases().flat_map(|phase| [(phase, false), (phase, true)]) {
        let world = World::new();
        world.state.lock().unwrap().deaf = deaf;
        let (first, second) = world.pair(phase).await;
        first.task.abort();
        let took = world.leads(&second).await;
        let least = DURATION.saturating_sub(RENEW_EVERY + A_FEW_TRIPS);
        assert!(took >= least && took <= Duration::from_secs(17), "{took:?} at {phase:?}, deaf: {deaf}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_not_given_back_before_the_last_write_under_it_is_answered() {
    let world = World::new();
    let (first, second) = world.pair(Duration::ZERO).await;
    let leave = first.leadership.leave(world.clock.mono()).unwrap();
    first.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!second.leadership.holds(world.clock.mono()), "the old leader's write is still under way");
    assert!(first.leadership.leave(world.clock.mono()).is_err());
    drop(leave);
    assert!(world.leads(&second).await <= A_FEW_TRIPS);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_has_touched_is_given_back_all_the_same() {
    let world = World::new();
    let (first, second) = world.pair(Duration::from_secs(1)).await;
    world.state.lock().unwrap().touched = true;
    first.stop.cancel();
    assert!(world.leads(&second).await <= A_FEW_TRIPS + 2 * ROUND_TRIP);
}
