//! A bank whose every answer a test writes, over real sockets: of any method, path and header. And syncs of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use busbar::domain::run_reason::RunReason;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{RunRecord, RunResult};
use busbar::profile::{Environment, Profile};
use busbar::provider::connection::Connection;
use busbar::settings::{Auth, Draft};
use busbar::sync::{Partition, PlanEndpoint, SyncPlan};
use serde_json::{Value, json};

use super::connections::{connect, secret};
use super::sync_env::{SyncEnv, stream_plan};

/// The credential of the connection.
pub(crate) const TOKEN: &str = "canary-bearer-token";
/// The path of the connection's base URL.
pub(crate) const BASE: &str = "/v2";

/// A request as the bank received it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// A parameter of its query; empty without it.
    pub(crate) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// A member of its JSON body; null without it.
    pub(crate) fn sent(&self, pointer: &str) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body.pointer(pointer).cloned().unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A response with this JSON.
pub(crate) fn page(body: impl Into<Value>) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into().to_string() }
}

/// A response with this status and JSON.
pub(crate) fn status(status: u16, body: impl Into<Value>) -> Answer {
    Answer { status, ..page(body) }
}

impl Answer {
    /// With this header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("a status");
        let mut response = (status, [("content-type", "application/json")], self.body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value.parse().expect("a header"));
        }
        response
    }
}

/// Records with these numbers, oldest first, four a day from 1 September 2026.
pub(crate) fn records(numbers: impl IntoIterator<Item = u64>) -> Value {
    numbers.into_iter().map(record).collect()
}

/// The record with this number.
pub(crate) fn record(n: u64) -> Value {
    json!({"id": format!("r{n:04}"), "n": n, "at": format!("2026-09-{:02}T{:02}:00:00Z", 1 + n / 4, 6 * (n % 4))})
}

/// Serves requests, and remembers them.
pub(crate) async fn serve(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<Seen>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let seen = Arc::<Mutex<Vec<Seen>>>::default();
    let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
    let handle = move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 1 << 20).await.expect("the body").to_vec();
            let pairs = reqwest::Url::parse(&format!("http://bank{}", parts.uri)).expect("a URL");
            let query = pairs.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
            let request = Seen {
                method: parts.method.to_string(),
                path: parts.uri.path().to_owned(),
                query,
                target: parts.uri.to_string(),
                headers: parts.headers,
                body,
            };
            let reply = answer(&request);
            log.lock().expect("the requests").push(request);
            reply.response()
        }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
    (url, seen)
}

/// The bank, the connection to it, and the job that reads its stream `rows`.
pub(crate) struct WalkBank {
    pub(crate) sync: SyncEnv,
    pub(crate) plan: SyncPlan,
    pub(crate) connection: Arc<Connection>,
    requests: Arc<Mutex<Vec<Seen>>>,
    _folder: tempfile::TempDir,
}

/// How a run ended: its result, its reason, and the records that are stored.
pub(crate) type End = (RunResult, Option<RunReason>, u64);

impl WalkBank {
    /// A bank with one stream of these fields.
    pub(crate) async fn start(fields: &str, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::with_profile("", fields, answer).await
    }

    /// The same, with more fields of the profile.
    pub(crate) async fn with_profile(
        more: &str,
        fields: &str,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (url, requests) = serve(answer).await;
        let text = format!(
            "id: walks\ntitle: Walks\nbreaker: Data\nhealthCheck: {{path: /}}\n{more}streams:\n  rows: {{path: /rows, {fields}}}\n"
        );
        let profile = Arc::new(Profile::parse("walks.yaml", &text).expect("a profile"));
        let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
        draft.base_url = format!("{url}{BASE}");
        draft.auth = Auth::Bearer { token: secret(TOKEN) };
        draft.retry.retries = 0;
        draft.breaker.consecutive_failures = 0;
        let partition = Partition { name: String::new(), parameters: BTreeMap::new() };
        let base_url = draft.base_url.parse().expect("a URL");
        let endpoint = PlanEndpoint { base_url, secret_query: vec!["apiKey".into()] };
        let plan = SyncPlan { endpoint, ..stream_plan(&profile, "rows", vec![partition]) };
        let folder = tempfile::tempdir().expect("a folder");
        let sync = SyncEnv::open(&folder.path().join("ledger.db")).await;
        Self { sync, plan, connection: connect(draft), requests, _folder: folder }
    }

    /// Makes a whole run; its record.
    pub(crate) async fn record(&self) -> RunRecord {
        self.record_of(&self.plan).await
    }

    /// Makes a whole run of this plan; its record.
    pub(crate) async fn record_of(&self, plan: &SyncPlan) -> RunRecord {
        self.sync.run(&Arc::new(plan.clone()), &self.connection).await.last.remove(0)
    }

    /// Makes a whole run, and says how it ended.
    pub(crate) async fn end(&self) -> End {
        self.end_of(&self.plan).await
    }

    /// Makes a whole run of this plan, and says how it ended.
    pub(crate) async fn end_of(&self, plan: &SyncPlan) -> End {
        let run = self.record_of(plan).await;
        (run.result.expect("a result"), run.reason, self.keys().await.len() as u64)
    }

    /// The keys of the documents and transactions that are stored, sorted.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let all = TransactionFilter::default();
        let documents = self.sync.ledger.list_documents(&all, 10_000).await.expect("the documents");
        let rows = self.sync.ledger.list_transactions(&all, 10_000).await.expect("the transactions");
        let documents = documents.into_iter().map(|row| row.record.key);
        let mut keys: Vec<_> = documents.chain(rows.into_iter().map(|row| row.record.key)).collect();
        keys.sort();
        keys
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().expect("the requests").clone()
    }

    /// Forgets the requests so far.
    pub(crate) fn forget(&self) {
        self.requests.lock().expect("the requests").clear();
    }

    /// The values of a query parameter in all requests so far, in order; empty for requests without it.
    pub(crate) fn requested(&self, parameter: &str) -> Vec<String> {
        self.requests().iter().map(|request| request.query(parameter).to_owned()).collect()
    }
}
