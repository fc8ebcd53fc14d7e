//! A bank whose lists a test writes byte by byte, over real sockets, and syncs of them into a ledger file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse as _;
use busbar::domain::run_reason::RunReason;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{RunRecord, RunResult};
use busbar::profile::{Environment, Profile};
use busbar::provider::connection::Connection;
use busbar::settings::Draft;
use busbar::sync::{Partition, SyncPlan};
use busbar::work::pool::JobView;
use serde_json::Value;

use super::connections::connect;
use super::sync_env::{SyncEnv, stream_plan};

/// The query of a request.
pub(crate) type Query = BTreeMap<String, String>;

/// An answer: status and body.
pub(crate) type Answer = (u16, Vec<u8>);

/// A response with this JSON.
pub(crate) fn ok(body: impl Into<Value>) -> Answer {
    let body: Value = body.into();
    (200, body.to_string().into_bytes())
}

/// The bank, the connection to it, and the job that reads its stream `rows`.
pub(crate) struct ListBank {
    pub(crate) sync: SyncEnv,
    pub(crate) plan: SyncPlan,
    connection: Arc<Connection>,
    requests: Arc<Mutex<Vec<Query>>>,
    folder: tempfile::TempDir,
}

/// How a run ended: its result, its reason, and the records that are stored.
pub(crate) type End = (RunResult, Option<RunReason>, u64);

impl ListBank {
    /// A stream with these fields, whose pages are the answers to their queries.
    pub(crate) async fn start(fields: &str, answer: impl Fn(&Query) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let requests = Arc::<Mutex<Vec<Query>>>::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        let serve = move |uri: Uri| {
            let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let query: Query = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            let (status, body) = answer(&query);
            seen.lock().expect("the requests").push(query);
            let status = StatusCode::from_u16(status).expect("a status");
            async move { (status, [(CONTENT_TYPE, "application/json")], body).into_response() }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
        Self { requests, ..Self::of(fields, url).await }
    }

    /// A stream with these fields of the bank at `url`.
    pub(crate) async fn of(fields: &str, url: String) -> Self {
        let text = format!(
            "id: lists\ntitle: Lists\nbreaker: Data\nhealthCheck: {{path: /}}\nstreams:\n  rows: {{path: /rows, {fields}}}\n"
        );
        let profile = Arc::new(Profile::parse("lists.yaml", &text).expect("a profile"));
        let mut draft = Draft::new(Arc::clone(&profile), Environment::Sandbox);
        draft.base_url = url;
        draft.retry.retries = 0;
        draft.breaker.consecutive_failures = 0;
        let partition = Partition { name: String::new(), parameters: BTreeMap::new() };
        let plan = stream_plan(&profile, "rows", vec![partition]);
        let folder = tempfile::tempdir().expect("a folder");
        let sync = SyncEnv::open(&folder.path().join("ledger.db")).await;
        Self { sync, plan, connection: connect(draft), requests: Arc::default(), folder }
    }

    /// The same with an operator that has these keys.
    pub(crate) async fn encrypting(self, keys: &Keyring) -> Self {
        let sync = SyncEnv::open_with(&self.folder.path().join("encrypted.db"), keys).await;
        Self { sync, ..self }
    }

    /// Makes a whole run.
    pub(crate) async fn run(&self) -> JobView {
        self.sync.run(&Arc::new(self.plan.clone()), &self.connection).await
    }

    /// Makes a whole run, and says how it ended.
    pub(crate) async fn end(&self) -> End {
        let run = self.run().await.last.remove(0);
        (run.result.expect("a result"), run.reason, self.stored().await)
    }

    /// Makes a whole run; its record.
    pub(crate) async fn record(&self) -> RunRecord {
        self.run().await.last.remove(0)
    }

    /// The number of records that are stored.
    pub(crate) async fn stored(&self) -> u64 {
        self.documents().await.len() as u64 + self.sync.row_count().await
    }

    /// The key and the body of each document that is stored, by key.
    pub(crate) async fn documents(&self) -> Vec<(String, String)> {
        let all = TransactionFilter::default();
        let documents = self.sync.ledger.list_documents(&all, 10_000).await.expect("the documents");
        let mut documents: Vec<_> = documents.into_iter().map(|row| (row.record.key, row.record.body)).collect();
        documents.sort();
        documents
    }

    /// The number of dead letters.
    pub(crate) async fn dead_letters(&self) -> u64 {
        self.sync.ledger.count_dead_letters(&TransactionFilter::default()).await.expect("the dead letters")
    }

    /// The values of a parameter in all requests so far, in order; empty for requests without it.
    pub(crate) fn requested(&self, parameter: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("the requests");
        requests.iter().map(|query| query.get(parameter).cloned().unwrap_or_default()).collect()
    }
}
