//! Two electors and a fake API server with one Lease, in paused time: how long a handover takes.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body as ResponseBody;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;

/// Round trip to a slow but healthy API server.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// A read, its write, and the write in flight before them.
const FEW_ROUND_TRIPS: Duration = Duration::from_millis(5 * 50);

#[derive(Default)]
struct ServerState {
    lease: Option<Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<Value>>,
    /// Watches whose connection is half-open: it neither ends nor delivers anything.
    silent: Vec<mpsc::UnboundedSender<Value>>,
    /// Whether watches are refused.
    watch_forbidden: bool,
    /// Whether the Lease is edited before the next write.
    edited: bool,
}

impl ServerState {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.watches.retain(|watch| watch.send(lease.clone()).is_ok());
        self.lease = Some(lease.clone());
        lease
    }

    fn respond(&mut self, method: &Method, query: &str, body: &[u8]) -> Response<ResponseBody> {
        let reply = |code: StatusCode, value: &Value| {
            Response::builder().status(code).body(ResponseBody::from(value.to_string())).unwrap()
        };
        let refused = |code: StatusCode, reason: &str| {
            reply(
                code,
                &json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason}),
            )
        };
        if query.contains("watch=true") {
            if self.watch_forbidden {
                return refused(StatusCode::FORBIDDEN, "Forbidden");
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            self.lease.iter().for_each(|lease| sender.send(lease.clone()).unwrap());
            self.watches.push(sender);
            let lines = receiver_stream(receiver).map(|lease| Ok::<_, Infallible>(event(lease)));
            return Response::new(ResponseBody::from_stream(lines));
        }
        match (method, self.lease.clone()) {
            (&Method::GET, None) => refused(StatusCode::NOT_FOUND, "NotFound"),
            (&Method::GET, Some(lease)) => reply(StatusCode::OK, &lease),
            (&Method::POST, Some(_)) => refused(StatusCode::CONFLICT, "AlreadyExists"),
            (&Method::POST, None) => reply(StatusCode::CREATED, &self.store(serde_json::from_slice(body).unwrap())),
            (_, found) => {
                if std::mem::take(&mut self.edited) {
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

fn receiver_stream(mut receiver: mpsc::UnboundedReceiver<Value>) -> impl futures::Stream<Item = Value> {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

fn event(mut lease: Value) -> String {
    (lease["apiVersion"], lease["kind"]) = (json!("meta.k8s.io/v1"), json!("PartialObjectMetadata"));
    format!("{}\n", json!({"type": "MODIFIED", "object": lease}))
}

/// The fake API server and the clock.
struct Cluster {
    state: Arc<Mutex<ServerState>>,
    clock: Clock,
}

/// One replica: its leadership, its stop token, and its task, which ends when the lease is released.
struct Replica {
    leadership: Leadership,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Cluster {
    fn new() -> Self {
        Self { state: Arc::default(), clock: Clock::starting_at(Timestamp::UNIX_EPOCH) }
    }

    fn start(&self, identity: &str) -> Replica {
        self.start_with(identity, None)
    }

    fn start_with(&self, identity: &str, ledger: Option<&Arc<FakeLedger>>) -> Replica {
        let state = Arc::clone(&self.state);
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                tokio::time::sleep(ROUND_TRIP / 2).await;
                let query = head.uri.query().unwrap_or_default().to_owned();
                let response = state.lock().unwrap().respond(&head.method, &query, &body);
                tokio::time::sleep(ROUND_TRIP / 2).await;
                Ok::<_, Infallible>(response)
            }
        });
        let (leadership, stop) = (Leadership::default(), CancellationToken::new());
        let config = LeaseConfig { namespace: "ns".into(), name: "busbar".into(), identity: identity.into() };
        let mut elector = LeaderElector::new(Client::new(service, "ns"), config, self.clock, leadership.clone());
        if let Some(ledger) = ledger {
            elector = elector.with_epoch(Arc::clone(ledger) as Arc<dyn EpochGuard>);
        }
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if elector.acquire(&stopped).await {
                elector.hold(&stopped).await.unwrap();
            }
        });
        Replica { leadership, stop, task }
    }

    /// A leader and a standby, `phase` into an interval after the leader's last renewal.
    async fn pair(&self, phase: Duration) -> (Replica, Replica) {
        let first = self.start("first");
        self.wait_for_leader(&first).await;
        let second = self.start("second");
        tokio::time::sleep(Duration::from_secs(7) + phase).await;
        assert!(!second.leadership.is_leader(self.clock.mono()));
        (first, second)
    }

    /// Waits until the replica is the leader; returns how long that took.
    async fn wait_for_leader(&self, replica: &Replica) -> Duration {
        let started = self.clock.mono();
        while !replica.leadership.is_leader(self.clock.mono()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(self.clock.mono().since(started) < Duration::from_mins(1), "it never became the leader");
        }
        self.clock.mono().since(started)
    }
}

/// Phases of a renewal interval, in steps of a fifth of a second.
fn phases() -> impl Iterator<Item = Duration> {
    (0..10).map(|fifths| Duration::from_millis(200 * fifths))
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_acquired_within_a_few_round_trips() {
    for phase in phases() {
        let cluster = Cluster::new();
        let (first, second) = cluster.pair(phase).await;
        first.stop.cancel();
        let took = cluster.wait_for_leader(&second).await;
        assert!(took <= FEW_ROUND_TRIPS, "{took:?} at {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_without_a_watch_takes_over_at_its_next_poll() {
    for phase in phases() {
        let cluster = Cluster::new();
        cluster.state.lock().unwrap().watch_forbidden = true;
        let (first, second) = cluster.pair(phase).await;
        first.stop.cancel();
        let took = cluster.wait_for_leader(&second).await;
        assert!(took <= POLL_INTERVAL + FEW_ROUND_TRIPS, "{took:?} at {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_replaced_within_seventeen_seconds() {
    for (phase, watch_forbidden) in phases().flat_map(|phase| [(phase, false), (phase, true)]) {
        let cluster = Cluster::new();
        cluster.state.lock().unwrap().watch_forbidden = watch_forbidden;
        let (first, second) = cluster.pair(phase).await;
        first.task.abort();
        let took = cluster.wait_for_leader(&second).await;
        let least = LEASE_DURATION.saturating_sub(RENEW_INTERVAL + FEW_ROUND_TRIPS);
        assert!(
            took >= least && took <= Duration::from_secs(17),
            "{took:?} at {phase:?}, watch forbidden: {watch_forbidden}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_of_the_lease_is_opened_anew() {
    for phase in phases() {
        let cluster = Cluster::new();
        let (first, second) = cluster.pair(phase).await;
        {
            let state = &mut *cluster.state.lock().unwrap();
            state.silent.append(&mut state.watches);
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        first.stop.cancel();
        let took = cluster.wait_for_leader(&second).await;
        assert!(took <= FEW_ROUND_TRIPS, "not at its next poll: {took:?} at {phase:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_released_only_after_the_last_write_under_it() {
    let cluster = Cluster::new();
    let (first, second) = cluster.pair(Duration::ZERO).await;
    let permit = first.leadership.write_permit(cluster.clock.mono()).unwrap();
    first.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!second.leadership.is_leader(cluster.clock.mono()), "the old leader's write is still in flight");
    assert!(first.leadership.write_permit(cluster.clock.mono()).is_err());
    drop(permit);
    assert!(cluster.wait_for_leader(&second).await <= FEW_ROUND_TRIPS);
}

#[tokio::test(start_paused = true)]
async fn a_lease_edited_by_another_client_is_still_released() {
    let cluster = Cluster::new();
    let (first, second) = cluster.pair(Duration::from_secs(1)).await;
    cluster.state.lock().unwrap().edited = true;
    first.stop.cancel();
    assert!(cluster.wait_for_leader(&second).await <= FEW_ROUND_TRIPS + 2 * ROUND_TRIP);
}

/// The epoch of a ledger, which replicas may share.
#[derive(Default)]
struct FakeLedger {
    epoch: AtomicI64,
    unwritable: AtomicBool,
    refused: AtomicBool,
}

impl FakeLedger {
    fn at(epoch: i64) -> Arc<Self> {
        Arc::new(Self { epoch: AtomicI64::new(epoch), ..Self::default() })
    }

    fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::SeqCst)
    }
}

impl EpochGuard for FakeLedger {
    fn admits(&self, lease: i64) -> BoxFuture<'_, bool> {
        let admitted = self.epoch() >= lease;
        self.refused.store(!admitted, Ordering::SeqCst);
        async move { admitted }.boxed()
    }

    fn stands_by(&self) {}

    fn raise(&self, lease: i64) -> BoxFuture<'_, RaiseOutcome> {
        let outcome = match self.epoch() {
            _ if self.unwritable.load(Ordering::SeqCst) => RaiseOutcome::Failed,
            epoch if epoch < lease => RaiseOutcome::Behind,
            epoch => {
                self.epoch.store(epoch + 1, Ordering::SeqCst);
                RaiseOutcome::Raised(epoch + 1)
            }
        };
        async move { outcome }.boxed()
    }
}

impl Cluster {
    fn annotation(&self) -> Option<String> {
        let lease = self.state.lock().unwrap().lease.clone()?;
        lease["metadata"]["annotations"][EPOCH_ANNOTATION].as_str().map(str::to_owned)
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_replica_that_leads_raises_the_epoch_and_writes_it_to_the_lease() {
    let (cluster, shared) = (Cluster::new(), FakeLedger::at(0));
    let first = cluster.start_with("first", Some(&shared));
    cluster.wait_for_leader(&first).await;
    let second = cluster.start_with("second", Some(&shared));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((shared.epoch(), cluster.annotation().as_deref()), (1, Some("1")), "a standby raises nothing");
    first.stop.cancel();
    cluster.wait_for_leader(&second).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((shared.epoch(), cluster.annotation().as_deref()), (2, Some("2")), "it leads now");
    second.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.annotation().as_deref(), Some("2"), "a released lease keeps the number");
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_ledger_is_behind_never_takes_the_lease() {
    let (cluster, ledger, empty) = (Cluster::new(), FakeLedger::at(4), FakeLedger::at(0));
    let first = cluster.start_with("first", Some(&ledger));
    cluster.wait_for_leader(&first).await;
    first.stop.cancel();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let version = cluster.state.lock().unwrap().version;
    let second = cluster.start_with("second", Some(&empty));
    tokio::time::sleep(Duration::from_mins(2)).await;
    assert!(!second.leadership.is_leader(cluster.clock.mono()) && empty.refused.load(Ordering::SeqCst));
    assert_eq!(cluster.state.lock().unwrap().version, version, "the lease was not written");
    // A backup is restored under the running process.
    empty.epoch.store(5, Ordering::SeqCst);
    cluster.wait_for_leader(&second).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.annotation().as_deref(), Some("6"));
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_cannot_be_raised_at_first_is_raised_with_a_later_renewal() {
    let (cluster, ledger) = (Cluster::new(), FakeLedger::at(2));
    ledger.unwritable.store(true, Ordering::SeqCst);
    let first = cluster.start_with("first", Some(&ledger));
    cluster.wait_for_leader(&first).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((ledger.epoch(), cluster.annotation()), (2, None), "it leads with a ledger that cannot be written");
    ledger.unwritable.store(false, Ordering::SeqCst);
    tokio::time::sleep(3 * RENEW_INTERVAL).await;
    assert_eq!((ledger.epoch(), cluster.annotation().as_deref()), (3, Some("3")));
    assert!(first.leadership.is_leader(cluster.clock.mono()));
}
