//! External scorers over real sockets: predictions are pulled and pushed, prove their skill, outlive a restart, and
//! outcomes are sent back.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use busbar::clock::Clock;
use busbar::domain::forecast::external::DEFAULT_MAX_AGE;
use busbar::domain::forecast::prediction_book::Accepted;
use busbar::domain::forecast::wire::{PredictionBatch, WireOutcome};
use busbar::domain::forecast::{PredictionRefused, PredictionSource};
use busbar::domain::key::ObjectKey;
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::provider::predictions::Predictions;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::work::scorer::{ScoredBank, ScoredRoute, ScoredRoutes, ScorerDeps, ScorerPuller, ScorerWorker};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::kit::connections::{apply_as, draft, key};
use crate::kit::metrics::value;
use crate::kit::time::ManualTime;

/// A scoring service with scripted answers.
struct ScorerServer {
    address: SocketAddr,
    shared: Arc<Script>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Script {
    /// Status and body of the next answers to `GET /predictions`.
    predictions: Mutex<(u16, String)>,
    /// Status of the next answers to `POST /outcomes`.
    outcomes: Mutex<u16>,
    queries: Mutex<Vec<String>>,
    received: Mutex<Vec<Value>>,
}

impl ScorerServer {
    async fn start() -> Self {
        let shared = Arc::new(Script { outcomes: Mutex::new(202), ..Script::default() });
        let app = Router::new()
            .route("/predictions", get(predictions))
            .route("/outcomes", post(outcomes))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Self { address, shared, _serving: AbortOnDropHandle::new(serving) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answer(&self, status: u16, body: impl Into<String>) {
        *self.shared.predictions.lock().unwrap() = (status, body.into());
    }

    fn received(&self) -> Vec<Value> {
        self.shared.received.lock().unwrap().clone()
    }
}

async fn predictions(State(script): State<Arc<Script>>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    script.queries.lock().unwrap().push(query.unwrap_or_default());
    let (status, body) = script.predictions.lock().unwrap().clone();
    (StatusCode::from_u16(status).unwrap(), body)
}

async fn outcomes(State(script): State<Arc<Script>>, body: Bytes) -> StatusCode {
    let status = *script.outcomes.lock().unwrap();
    if status < 300 {
        script.received.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    }
    StatusCode::from_u16(status).unwrap()
}

struct Routes(Vec<ScoredRoute>);

impl ScoredRoutes for Routes {
    fn scored_routes(&self) -> Vec<ScoredRoute> {
        self.0.clone()
    }
}

/// Banks `bank-a` and `bank-b`, a route over both, and its scorer.
struct Scene {
    clock: Clock,
    time: ManualTime,
    server: ScorerServer,
    ledger: Arc<dyn Ledger>,
    registry: Registry,
    metrics: Metrics,
    predictions: Arc<Predictions>,
    puller: ScorerPuller,
    worker: ScorerWorker,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("ledger.db")), OpenMode::Migrate).await.unwrap();
        let server = ScorerServer::start().await;
        let time = ManualTime::start();
        let clock = Clock::starting_at("2026-03-01T10:00:00Z".parse().unwrap());
        let (registry, metrics, predictions, puller, worker) = process(clock, &ledger, &server.url());
        Self { clock, time, server, ledger, registry, metrics, predictions, puller, worker, _dir: dir }
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    async fn pull(&mut self) {
        // Past the interval between two pulls.
        self.time.advance(Duration::from_mins(5)).await;
        self.time.run(Duration::from_millis(10), self.puller.pull_due()).await;
    }

    fn success(&self, bank: &str, scorer: Option<&str>) -> Option<u32> {
        self.predictions.current(&key(bank), scorer, self.now()).first().map(|one| one.success)
    }

    /// The value of a counter, as it is exported.
    fn count(&self, name: &str, labels: &[(&str, &str)]) -> String {
        value(&self.metrics.render().unwrap(), name, labels).unwrap().to_string()
    }
}

/// One process: its registry, its predictions and the tasks that keep them.
fn process(
    clock: Clock,
    ledger: &Arc<dyn Ledger>,
    scorer_url: &str,
) -> (Registry, Metrics, Arc<Predictions>, ScorerPuller, ScorerWorker) {
    let metrics = Metrics::new();
    let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
    for name in ["bank-a", "bank-b", "sira"] {
        apply_as(&registry, name, draft(scorer_url));
    }
    let predictions = Predictions::new(clock, registry.clone(), &metrics).unwrap();
    let bank = |candidate: &str, id: Option<&str>, connection: &str| ScoredBank {
        candidate: candidate.to_owned(),
        bank_profile_id: id.map(str::to_owned),
        connection: connection.to_owned(),
    };
    let route = ScoredRoute {
        route: key("payouts"),
        scorer: key("sira"),
        max_age: Duration::from_mins(10),
        banks: vec![bank("a", Some("BK-1"), "bank-a"), bank("b", None, "bank-b")],
    };
    let deps = ScorerDeps {
        clock,
        registry: registry.clone(),
        ledger: Arc::clone(ledger),
        predictions: Arc::clone(&predictions),
        routes: Arc::new(Routes(vec![route])),
    };
    let puller = ScorerPuller::new(&deps, &metrics).unwrap();
    (registry, metrics, predictions, puller, ScorerWorker::new(deps))
}

/// A body with a prediction for each bank.
fn body(now: Timestamp, banks: &[(&str, &str, &str)]) -> String {
    let until = now + SignedDuration::from_mins(30);
    let prediction = |(field, bank, success): &(&str, &str, &str)| json!({ *field: bank, "success": success, "issued_at": now, "valid_from": now, "valid_until": until });
    json!({"predictions": banks.iter().map(prediction).collect::<Vec<_>>()}).to_string()
}

fn outcome(n: u32) -> WireOutcome {
    WireOutcome {
        at: "2026-03-01T10:00:00Z".parse().unwrap(),
        candidate: "a".to_owned(),
        class: "success".to_owned(),
        connection: "bank-a".to_owned(),
        decision_id: format!("decision-{n}"),
        latency_ms: Some(120),
        route: "payouts".to_owned(),
    }
}

#[tokio::test]
async fn predictions_are_pulled_for_banks_named_in_any_way() {
    let mut scene = Scene::new().await;
    let now = scene.now();
    scene.server.answer(200, body(now, &[("bank_profile_id", "BK-1", "0.91"), ("candidate", "b", "0.92")]));
    scene.pull().await;
    assert_eq!(
        (scene.success("bank-a", Some("sira")), scene.success("bank-b", Some("sira"))),
        (Some(910_000), Some(920_000))
    );
    assert_eq!(scene.success("bank-a", None), None, "a route without the scorer does not use them");
    assert_eq!(scene.server.shared.queries.lock().unwrap().as_slice(), ["namespace=treasury&bank=bank-a&bank=bank-b"]);
    // By connection, and for a bank of no route; an ID that is set is the only one.
    let now = scene.now();
    let unknown = [("connection", "bank-b", "0.93"), ("candidate", "c", "0.5"), ("bank_profile_id", "a", "0.4")];
    scene.server.answer(200, body(now, &unknown));
    scene.pull().await;
    assert_eq!(scene.success("bank-b", Some("sira")), Some(930_000));
    let unknown = [("result", "unknown_bank"), ("source", "pulled")];
    assert_eq!(scene.count("busbar_scorer_predictions_total", &unknown), "2");
}

#[tokio::test]
async fn a_scorer_that_fails_changes_nothing_until_its_predictions_are_too_old() {
    let mut scene = Scene::new().await;
    let answers = [
        (500, String::new()),
        (503, "{}".to_owned()),
        (200, "not JSON".to_owned()),
        (200, r#"{"predictions": [{"connection": "bank-a"}]}"#.to_owned()),
        (200, format!(r#"{{"predictions": [], "namespace": "{}"}}"#, "x".repeat(2 * 1024 * 1024))),
        (404, "{}".to_owned()),
    ];
    for (status, answer) in answers {
        let now = scene.now() + SignedDuration::from_mins(4);
        scene.server.answer(200, body(now, &[("connection", "bank-a", "0.91")]));
        scene.pull().await;
        assert_eq!(scene.success("bank-a", Some("sira")), Some(910_000), "before {status}");
        scene.server.answer(status, answer);
        scene.pull().await;
        assert_eq!(scene.success("bank-a", Some("sira")), Some(910_000), "after {status}");
        scene.pull().await;
        assert_eq!(scene.success("bank-a", Some("sira")), None, "too old after {status}");
    }
    assert_eq!(scene.count("busbar_scorer_pulls_total", &[("result", "failure")]), "12");
}

#[tokio::test]
async fn a_pushed_prediction_is_checked_and_published_to_its_routes() {
    let scene = Scene::new().await;
    let changes = scene.registry.subscribe_changes();
    let push = |now, bank: &str| {
        let batch = PredictionBatch::from_json(body(now, &[("connection", "bank-a", "0.9")]).as_bytes()).unwrap();
        let prediction = batch.predictions.into_iter().next().unwrap().prediction;
        scene.predictions.push(&key(bank), PredictionSource::Pushed, prediction, DEFAULT_MAX_AGE)
    };
    let now = scene.now();
    assert_eq!(push(now, "bank-a"), Ok(Accepted::New));
    assert_eq!(push(now, "bank-a"), Ok(Accepted::Repeated));
    assert_eq!(changes.try_take(), Some(key("bank-a")));
    assert_eq!(push(now, "nowhere"), Err(PredictionRefused::UnknownBank));
    assert_eq!(push(now + SignedDuration::from_mins(1), "bank-a"), Err(PredictionRefused::IssuedInFuture));
    assert_eq!(push(now - SignedDuration::from_mins(16), "bank-b"), Err(PredictionRefused::TooOld));
    let current = scene.predictions.current(&key("bank-a"), Some("sira"), now);
    assert_eq!(current.len(), 1, "a route with a scorer uses pushed ones while the scorer has none");
    assert_eq!((current[0].skill, current[0].demoted), (0, false), "without proven skill it changes no decision");
    // When it ends, its routes are evaluated anew.
    scene.time.advance(DEFAULT_MAX_AGE).await;
    scene.predictions.advance();
    assert_eq!((changes.try_take(), scene.success("bank-a", None)), (Some(key("bank-a")), None));
}

#[tokio::test]
async fn skill_is_proven_by_outcomes_and_outlives_a_restart() {
    let mut scene = Scene::new().await;
    scene.predictions.set_measures(true);
    let bank = scene.registry.get(&key("bank-a")).unwrap();
    for n in 0..30 {
        // Well for a window, out for the next: predicted each time.
        let (success, well) = if n % 2 == 0 { ("0.99", true) } else { ("0.05", false) };
        let now = scene.now() + SignedDuration::from_mins(5);
        scene.server.answer(200, body(now, &[("connection", "bank-a", success)]));
        scene.pull().await;
        for _ in 0..20 {
            bank.observe_payout(well, None);
        }
        scene.time.advance(Duration::from_mins(30)).await;
        scene.predictions.advance();
    }
    let now = scene.now() + SignedDuration::from_mins(5);
    scene.server.answer(200, body(now, &[("connection", "bank-a", "0.7")]));
    scene.pull().await;
    let before = scene.predictions.current(&key("bank-a"), Some("sira"), scene.now());
    assert_eq!((before[0].success, before[0].skill), (700_000, 250_000), "thirty predictions prove a quarter");
    scene.worker.store().await;

    let (_registry, _metrics, restarted, _puller, mut worker) =
        process(scene.clock, &scene.ledger, &scene.server.url());
    worker.merge().await;
    assert_eq!(restarted.current(&key("bank-a"), Some("sira"), scene.now()), before);
    assert_eq!(restarted.current(&key("bank-b"), Some("sira"), scene.now()), []);
}

#[tokio::test]
async fn outcomes_are_sent_to_the_scorer_once_it_accepts_them() {
    let mut scene = Scene::new().await;
    let sira: ObjectKey = key("sira");
    for n in 0..3 {
        scene.predictions.report(&sira, outcome(n));
    }
    *scene.server.shared.outcomes.lock().unwrap() = 503;
    scene.time.run(Duration::from_millis(10), scene.worker.send_outcomes()).await;
    assert_eq!(scene.server.received(), Vec::<Value>::new());
    scene.predictions.report(&sira, outcome(3));
    *scene.server.shared.outcomes.lock().unwrap() = 202;
    scene.time.run(Duration::from_millis(10), scene.worker.send_outcomes()).await;
    let received = scene.server.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0]["namespace"], "treasury");
    let ids: Vec<_> =
        received[0]["outcomes"].as_array().unwrap().iter().map(|one| one["decision_id"].clone()).collect();
    assert_eq!(ids, ["decision-0", "decision-1", "decision-2", "decision-3"], "in the order of receipt");
    assert_eq!(received[0]["outcomes"][0]["latency_ms"], 120);
    assert_eq!(scene.count("busbar_scorer_outcomes_total", &[("result", "sent")]), "4");
    // What it rejects is not sent again.
    *scene.server.shared.outcomes.lock().unwrap() = 400;
    scene.predictions.report(&sira, outcome(4));
    scene.time.run(Duration::from_millis(10), scene.worker.send_outcomes()).await;
    assert!(scene.predictions.scorers_with_outcomes().is_empty());
    assert_eq!(scene.count("busbar_scorer_outcomes_total", &[("result", "rejected")]), "1");
    // Without its connection they wait.
    scene.registry.remove(&sira);
    scene.predictions.report(&sira, outcome(5));
    scene.worker.send_outcomes().await;
    assert_eq!(scene.predictions.scorers_with_outcomes(), [sira]);
}

#[tokio::test]
async fn a_stopped_worker_stores_what_it_was_pushed() {
    let scene = Scene::new().await;
    let now = scene.now();
    let batch = PredictionBatch::from_json(body(now, &[("connection", "bank-a", "0.9")]).as_bytes()).unwrap();
    let prediction = batch.predictions.into_iter().next().unwrap().prediction;
    scene.predictions.push(&key("bank-a"), PredictionSource::Pushed, prediction, DEFAULT_MAX_AGE).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    scene.worker.run(stop).await;
    let stored = scene.ledger.scores().await.unwrap();
    assert_eq!(stored.iter().map(|row| (&*row.connection, &*row.source)).collect::<Vec<_>>(), [("bank-a", "pushed")]);
}
