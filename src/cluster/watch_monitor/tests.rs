//! A reflector in paused time, in front of an API server whose connections break without a word.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body as ResponseBody;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::api::v1alpha1::BreakerPolicy;
use crate::cluster::resource::ReflectorDeps;
use crate::cluster::stores::{KindStore, Stores};
use crate::domain::key::ObjectKey;

/// How the API server treats the next request.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Works,
    /// No response.
    Swallows,
    /// As right after a CRD was applied.
    Initializes,
    /// As without RBAC.
    Forbids,
}

impl Mode {
    /// The refusal of a list or watch of `resource`.
    fn refusal(self, resource: &str) -> Option<Response<ResponseBody>> {
        let (code, reason, message) = match self {
            Self::Works | Self::Swallows => return None,
            Self::Initializes => (429, "TooManyRequests", "storage is (re)initializing".to_owned()),
            Self::Forbids => {
                (403, "Forbidden", format!("{resource} is forbidden: User \"busbar\" cannot list resource"))
            }
        };
        let details = if code == 429 { json!({"retryAfterSeconds": 1}) } else { Value::Null };
        let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": details});
        Some(Response::builder().status(code).body(ResponseBody::from(status.to_string())).unwrap())
    }
}

/// An API server with one watch of policies at a time.
#[derive(Default)]
struct FakeServer {
    mode: Mutex<Mode>,
    policies: Mutex<Vec<Value>>,
    watch: Mutex<Option<mpsc::UnboundedSender<Value>>>,
    /// Watches that are silent from now on, and stay open.
    silent: Mutex<Vec<mpsc::UnboundedSender<Value>>>,
    watches: AtomicUsize,
    lists: AtomicUsize,
    refusals: AtomicUsize,
}

impl FakeServer {
    async fn respond(self: Arc<Self>, request: Request<Body>) -> Result<Response<ResponseBody>, Infallible> {
        if *self.mode.lock().unwrap() == Mode::Swallows {
            return std::future::pending().await;
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let of_policies = resource == "breakerpolicies";
        let refusal = self.mode.lock().unwrap().refusal(&resource);
        if let Some(refusal) = refusal {
            self.refusals.fetch_add(usize::from(of_policies), Ordering::SeqCst);
            return Ok(refusal);
        }
        if query.contains("watch=true") {
            let seconds = query.split('&').find_map(|pair| pair.strip_prefix("timeoutSeconds="));
            let seconds = seconds.and_then(|text| text.parse().ok()).expect("a time-out");
            let (sender, receiver) = mpsc::unbounded_channel();
            if of_policies {
                self.watches.fetch_add(1, Ordering::SeqCst);
                *self.watch.lock().unwrap() = Some(sender);
            } else {
                self.silent.lock().unwrap().push(sender);
            }
            let mut receiver = receiver;
            let events = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            let server = Arc::clone(&self);
            // A silent watch does not end in time either: the API server is gone.
            let end = async move {
                sleep(Duration::from_secs(seconds)).await;
                if of_policies && server.watch.lock().unwrap().is_none() {
                    std::future::pending::<()>().await;
                }
            };
            // The type first, as the API server writes it.
            let line = |object| Ok::<_, Infallible>(format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n"));
            let events = events.take_until(end).map(line);
            return Ok(Response::new(ResponseBody::from_stream(events)));
        }
        self.lists.fetch_add(usize::from(of_policies), Ordering::SeqCst);
        let items = if of_policies { self.policies.lock().unwrap().clone() } else { Vec::new() };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        Ok(Response::new(ResponseBody::from(list.to_string())))
    }

    /// The connection of the open watch breaks; new ones work.
    fn silence_watch(&self) {
        let watch = self.watch.lock().unwrap().take().expect("a watch is open");
        self.silent.lock().unwrap().push(watch);
    }

    fn create_policy(&self, name: &str) {
        let policy = policy(name);
        self.policies.lock().unwrap().push(policy.clone());
        if let Some(watch) = &*self.watch.lock().unwrap() {
            watch.send(policy).unwrap();
        }
    }
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "busbar.dev/v1alpha1", "kind": "BreakerPolicy", "spec": {},
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "2", "generation": 1},
    })
}

struct Fixture {
    server: Arc<FakeServer>,
    store: KindStore<BreakerPolicy>,
    monitor: WatchMonitor,
    metrics: Metrics,
    _reflectors: tokio::task::JoinSet<()>,
}

impl Fixture {
    async fn start() -> Self {
        let fixture = Self::start_in(Mode::Works);
        fixture.store.ready().await;
        fixture.until("the watch is open", || fixture.server.watches.load(Ordering::SeqCst) == 1).await;
        fixture
    }

    /// Starts to watch an API server in this mode.
    fn start_in(mode: Mode) -> Self {
        let server = Arc::new(FakeServer { mode: Mutex::new(mode), ..FakeServer::default() });
        let responding = Arc::clone(&server);
        let service = tower::service_fn(move |request| Arc::clone(&responding).respond(request));
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let monitor = WatchMonitor::new(clock, WatchLimits::default());
        let (deps, metrics) = (ReflectorDeps { watches: monitor.clone(), ..ReflectorDeps::default() }, Metrics::new());
        monitor.register(&metrics).unwrap();
        let (stores, reflectors) = Stores::new(&Client::new(service, "ns"), &[], &deps);
        let reflectors = reflectors.into_iter().collect();
        Self { server, store: stores.policies, monitor, metrics, _reflectors: reflectors }
    }

    fn has(&self, name: &str) -> bool {
        self.store.get(&ObjectKey::new("ns", name)).is_some()
    }

    fn age(&self) -> Duration {
        self.monitor.age(Kind::BreakerPolicy).unwrap()
    }

    /// Waits for a condition; returns how long that took.
    async fn until(&self, what: &str, condition: impl Fn() -> bool) -> Duration {
        let started = self.monitor.clock.mono();
        while !condition() {
            sleep(Duration::from_millis(10)).await;
            assert!(self.monitor.clock.mono().since(started) < Duration::from_mins(10), "never: {what}");
        }
        self.monitor.clock.mono().since(started)
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_falls_silent_is_opened_anew_within_a_minute() {
    let fixture = Fixture::start().await;
    fixture.server.create_policy("before");
    fixture.until("the watch delivers", || fixture.has("before")).await;
    fixture.server.silence_watch();
    let opened = || fixture.server.watches.load(Ordering::SeqCst) > 1;
    let took = fixture.until("another watch", opened).await;
    assert!(took <= Duration::from_mins(1), "{took:?}");
    fixture.server.create_policy("after");
    fixture.until("the new watch delivers", || fixture.has("after")).await;
    assert_eq!(fixture.server.lists.load(Ordering::SeqCst), 1, "nothing is lost, so nothing is listed again");
}

#[tokio::test(start_paused = true)]
async fn a_swallowed_request_for_a_watch_is_repeated_within_a_minute() {
    let fixture = Fixture::start().await;
    fixture.server.silence_watch();
    *fixture.server.mode.lock().unwrap() = Mode::Swallows;
    // The first request for another watch is under way when the network is back.
    sleep(Duration::from_secs(35)).await;
    *fixture.server.mode.lock().unwrap() = Mode::Works;
    let opened = || fixture.server.watches.load(Ordering::SeqCst) > 1;
    let took = fixture.until("another watch", opened).await;
    assert!(took <= Duration::from_secs(25), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_storage_that_is_initializing_is_asked_again_every_second() {
    let fixture = Fixture::start_in(Mode::Initializes);
    fixture.until("thirty requests", || fixture.server.refusals.load(Ordering::SeqCst) == 30).await;
    *fixture.server.mode.lock().unwrap() = Mode::Works;
    let opened = || fixture.server.watches.load(Ordering::SeqCst) == 1;
    let took = fixture.until("the watch is open", opened).await;
    assert!(took <= Duration::from_millis(1_100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_named_with_its_cause_until_it_succeeds() {
    let fixture = Fixture::start_in(Mode::Forbids);
    let failures = || fixture.monitor.failures();
    fixture.until("all four are refused", || failures().len() == 4).await;
    let (first, hint) = (failures().remove(0), "grant the operator the rights in config/rbac/");
    assert!(first.starts_with("BankRoute cannot be listed: bankroutes is forbidden: User") && first.contains(hint));
    *fixture.server.mode.lock().unwrap() = Mode::Works;
    fixture.until("none is refused", || failures().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_watch_is_low_while_it_is_quiet_and_grows_while_it_is_silent() {
    let fixture = Fixture::start().await;
    let mut oldest = Duration::ZERO;
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        oldest = oldest.max(fixture.age());
    }
    assert!(oldest <= Duration::from_secs(31), "nothing happens, and every watch ends in time: {oldest:?}");
    *fixture.server.mode.lock().unwrap() = Mode::Swallows;
    fixture.server.silence_watch();
    sleep(Duration::from_mins(2)).await;
    assert!(fixture.age() >= Duration::from_secs(90), "{:?}", fixture.age());
    let text = fixture.metrics.render().unwrap();
    let line = text.lines().find(|line| line.starts_with("busbar_watch_age_seconds{kind=\"BreakerPolicy\"}")).unwrap();
    let seconds: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(seconds, fixture.age().as_secs());
}
