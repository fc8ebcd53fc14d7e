//! Which row a record is: syncs of lists that a server of this process has, over real sockets, into a ledger file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use busbar::api::v1alpha1::SyncJobSpec;
use busbar::domain::cursor::{CursorKey, CursorState, StreamKey};
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::runs::RunCounts;
use busbar::ledger::{DocumentKind, DocumentRecord, KeyQuality, PageCommit, RunId, RunResult};
use busbar::profile::{Environment, Profile};
use busbar::provider::connection::Connection;
use busbar::resolve;
use busbar::settings::{Draft, Settings};
use busbar::sync::SyncPlan;
use serde_json::{Value, json};

use crate::kit::connections::{apply, builtin_profile, key, registry};
use crate::kit::metrics;
use crate::kit::sync_env::SyncEnv;

/// Entries of wallets: money as JSON numbers, no account, and a parameter with a default.
const WALLETS: &str = "
id: wallets
title: Wallets
breaker: Data
healthCheck: {path: /}
streams:
  entries:
    record: transaction
    path: /wallets/{wallet}/entries
    query: {side: '{side}'}
    parameters:
      wallet: {kind: word, required: true}
      side: {kind: word, default: all}
    records: [/rows]
    pagination: {kind: none}
    key: /id
    time: {pointer: /date}
    money: {amount: /amount, repr: jsonNumber, currency: {kind: const, code: EUR}, sign: {kind: signed}}
  texts:
    record: transaction
    path: /texts
    records: [/rows]
    pagination: {kind: none}
    key: /id
    time: {pointer: /date}
    money: {amount: /amount, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}
";

/// A server with these bodies, the connection `bank` to it, and the ledger of its jobs.
struct Env {
    bodies: Arc<Mutex<BTreeMap<String, String>>>,
    connection: Arc<Connection>,
    settings: Settings,
    sync: SyncEnv,
    _folder: tempfile::TempDir,
}

impl Env {
    async fn new(profile: Arc<Profile>) -> Self {
        let bodies = Arc::<Mutex<BTreeMap<String, String>>>::default();
        let served = Arc::clone(&bodies);
        let answer = move |uri: Uri| {
            let body = served.lock().unwrap().get(uri.path()).cloned().unwrap_or_default();
            async move { ([(CONTENT_TYPE, "application/json")], body) }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut draft = Draft::new(profile, Environment::Sandbox);
        draft.base_url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let settings = Settings::resolve(draft.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let sync = SyncEnv::open(&folder.path().join("ledger.db")).await;
        Self { bodies, connection: apply(&registry().0, draft), settings, sync, _folder: folder }
    }

    async fn generic() -> Self {
        Self::new(builtin_profile("generic")).await
    }

    async fn wallets() -> Self {
        Self::new(Arc::new(Profile::parse("wallets.yaml", WALLETS).unwrap())).await
    }

    fn serve(&self, path: &str, body: &str) {
        self.bodies.lock().unwrap().insert(path.to_owned(), body.to_owned());
    }

    /// The plan of a job, from its spec.
    #[expect(clippy::needless_pass_by_value, reason = "parameters are written in place")]
    fn plan(&self, job: &str, stream: &str, parameters: Value) -> Arc<SyncPlan> {
        self.planned(job, json!({"stream": stream, "parameters": parameters}))
    }

    fn planned(&self, job: &str, mut spec: Value) -> Arc<SyncPlan> {
        (spec["connectionRef"], spec["interval"]) = (json!({"name": "bank"}), json!("1h"));
        let spec: SyncJobSpec = serde_json::from_value(spec).unwrap();
        Arc::new(resolve::sync_job(&key(job), &spec, &self.settings).unwrap())
    }

    /// Runs a job; the run must succeed.
    async fn run(&self, plan: &Arc<SyncPlan>) -> RunCounts {
        let view = self.sync.run(plan, &self.connection).await;
        assert_eq!(view.last[0].result, Some(RunResult::Succeeded), "{:?}", view.last_outcome);
        view.last[0].counts
    }

    /// Key and body of each document, sorted.
    async fn documents(&self) -> Vec<(String, String)> {
        let stored = self.sync.ledger.list_documents(&TransactionFilter::default(), 100).await.unwrap();
        let mut all: Vec<_> = stored.into_iter().map(|row| (row.record.key, row.record.body)).collect();
        all.sort();
        all
    }

    /// Key, amount and revision of each transaction, sorted.
    async fn transactions(&self) -> Vec<(String, String, u32)> {
        let stored = self.sync.ledger.list_transactions(&TransactionFilter::default(), 100).await.unwrap();
        let row = |row: busbar::ledger::record::StoredTransaction| {
            (row.record.key, row.record.amount.to_string(), row.revision)
        };
        let mut all: Vec<_> = stored.into_iter().map(row).collect();
        all.sort();
        all
    }
}

fn pair(key: &str, body: &str) -> (String, String) {
    (key.to_owned(), body.to_owned())
}

fn entry(id: &str, amount: &str) -> String {
    format!(r#"{{"rows": [{{"id": "{id}", "amount": {amount}, "date": "2026-09-01"}}]}}"#)
}

#[tokio::test]
async fn two_sources_of_one_stream_keep_their_own_rows() {
    let env = Env::generic().await;
    env.serve("/customers", r#"[{"id": 1, "name": "Ada"}]"#);
    env.serve("/invoices", r#"[{"id": 1, "due": 5}]"#);
    env.serve("/Customers", r#"[{"id": 1, "name": "Case"}]"#);
    env.serve("/all", r#"{"a": [{"id": 1, "list": "a"}], "b": [{"id": 1, "list": "b"}]}"#);
    let jobs = [
        env.plan("customers", "documents", json!({"path": "customers"})),
        env.plan("invoices", "documents", json!({"path": "invoices"})),
        env.plan("case", "documents", json!({"path": "Customers"})),
        env.plan("list-a", "documents", json!({"path": "all", "records": "/a"})),
        env.plan("list-b", "documents", json!({"path": "all", "records": "/b"})),
    ];
    for job in &jobs {
        let counts = env.run(job).await;
        assert_eq!((counts.inserted, counts.updated), (1, 0), "{}", job.job);
    }
    let bodies = [
        r#"{"due":5,"id":1}"#,
        r#"{"id":1,"list":"a"}"#,
        r#"{"id":1,"list":"b"}"#,
        r#"{"id":1,"name":"Ada"}"#,
        r#"{"id":1,"name":"Case"}"#,
    ];
    assert_eq!(env.documents().await, bodies.map(|body| pair("1", body)));
    for job in &jobs {
        assert_eq!(env.run(job).await.unchanged, 1, "{}", job.job);
    }
    let of_stream = TransactionFilter { stream: Some("documents".into()), ..TransactionFilter::default() };
    let listed = env.sync.ledger.list_documents(&of_stream, 100).await.unwrap();
    assert!(listed.len() == 5 && listed.iter().all(|row| row.stream == "documents"), "all are of the stream");
}

#[tokio::test]
async fn wallets_in_equally_named_partitions_keep_their_own_entries() {
    let env = Env::wallets().await;
    for wallet in ["w1", "w2", "W1"] {
        env.serve(&format!("/wallets/{wallet}/entries"), &entry("1", if wallet == "w2" { "2" } else { "1" }));
    }
    let of = |job: &str, wallet: &str| {
        let partitions = json!([{"name": "main", "parameters": {"wallet": wallet}}]);
        env.planned(job, json!({"stream": "entries", "partitions": partitions}))
    };
    for (job, wallet) in [("a", "w1"), ("b", "w2"), ("c", "W1")] {
        let counts = env.run(&of(job, wallet)).await;
        assert_eq!((counts.inserted, counts.updated), (1, 0), "{wallet}");
    }
    // The parameters of a living job change: it begins at the beginning of another source, and can go back.
    assert_eq!(env.run(&of("a", "w2")).await.unchanged, 1, "the rows of `b`");
    assert_eq!(env.run(&of("a", "w1")).await.unchanged, 1);
    let one = |amount: &str| ("1".to_owned(), amount.to_owned(), 1);
    assert_eq!(env.transactions().await, [one("1.00"), one("1.00"), one("2.00")]);
}

#[tokio::test]
async fn a_source_is_the_same_however_it_is_written() {
    let env = Env::wallets().await;
    env.serve("/wallets/w1/entries", &entry("1", "7"));
    // The default written out; another name of the job, as after it was renamed; the same name again.
    let with_default = json!({"side": "all", "wallet": "w1"});
    for (job, parameters) in [
        ("a", json!({"wallet": "w1"})),
        ("a", with_default.clone()),
        ("renamed", with_default),
        ("a", json!({"wallet": "w1"})),
    ] {
        env.run(&env.plan(job, "entries", parameters)).await;
        assert_eq!(env.transactions().await, [("1".to_owned(), "7.00".to_owned(), 1)], "{job}");
    }
    // A corrected profile: another path, the same wallet.
    let moved = WALLETS.replace("/wallets/{wallet}/entries", "/v2/wallets/{wallet}");
    env.serve("/v2/wallets/w1", &entry("1", "8"));
    let mut draft = Draft::new(Arc::new(Profile::parse("w.yaml", &moved).unwrap()), Environment::Sandbox);
    draft.base_url = env.connection.settings().base_url().to_string();
    let spec = json!({"stream": "entries", "parameters": {"wallet": "w1"}, "interval": "1h", "connectionRef": {"name": "bank"}});
    let spec: SyncJobSpec = serde_json::from_value(spec).unwrap();
    let settings = Settings::resolve(draft.clone()).unwrap();
    let plan = Arc::new(resolve::sync_job(&key("a"), &spec, &settings).unwrap());
    let view = env.sync.run(&plan, &apply(&registry().0, draft)).await;
    assert_eq!((view.last[0].counts.inserted, view.last[0].counts.updated), (0, 1), "{:?}", view.last_outcome);
}

#[tokio::test]
async fn rows_of_a_version_without_sources_are_adopted() {
    let env = Env::generic().await;
    env.serve("/customers", r#"[{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}]"#);
    let plan = env.plan("customers", "documents", json!({"path": "customers"}));
    // As such a version stored them: under the name of the stream alone.
    let cursor = CursorKey {
        stream: StreamKey {
            namespace: "treasury".into(),
            connection: "bank".into(),
            provider: "generic".into(),
            environment: "Sandbox".into(),
            stream: "documents".into(),
            partition: String::new(),
        },
        job: "customers".into(),
    };
    let ledger = &env.sync.ledger;
    let now = busbar::clock::Clock::system().now().wall;
    let taken = ledger.acquire_lease("test", "test", std::time::Duration::from_mins(1), now, None).await.unwrap();
    let hash = plan.cursor_hash(&plan.partitions[0]).unwrap();
    let stored = DocumentRecord {
        kind: DocumentKind::Document,
        key: "1".into(),
        key_quality: KeyQuality::Provider,
        body: r#"{"id":1,"name":"Ada"}"#.into(),
    };
    let page = PageCommit {
        cursor: &cursor,
        lease: &taken.acquired().unwrap(),
        run: RunId(uuid::Uuid::from_u128(1)),
        state: &CursorState { spec_hash: hash.text(), ..CursorState::default() },
        rows: &[],
        documents: &[stored],
        records: &[],
        removed: &[],
        pending: None,
        scope: busbar::ledger::page::CommitScope::Page,
        dead_letters: &[],
        raw: None,
        events: None,
        replayed: None,
        fetched: 1,
        conflicting: 0,
        pages: 1,
        now,
    };
    ledger.commit_page(page).await.unwrap();
    let counts = env.run(&plan).await;
    assert_eq!((counts.inserted, counts.unchanged), (1, 1));
    assert_eq!(env.documents().await.len(), 2, "one stream, not two");
}

#[tokio::test]
async fn one_id_twice_in_a_page_is_counted_and_the_last_wins() {
    let env = Env::generic().await;
    let plan = env.plan("customers", "documents", json!({"path": "customers"}));
    env.serve(
        "/customers",
        r#"[{"id": "a", "n": 1}, {"id": "b", "n": 7.0}, {"id": "a", "n": 2}, {"n": 7.00, "id": "b"}, {"id": "a", "n": 3}]"#,
    );
    for (inserted, unchanged) in [(2, 0), (0, 2)] {
        let counts = env.run(&plan).await;
        assert_eq!((counts.fetched, counts.inserted, counts.unchanged), (5, inserted, unchanged));
        assert_eq!(counts.conflicting, 2, "`b` has the same content twice");
    }
    assert_eq!(env.documents().await[0], pair("a", r#"{"id":"a","n":3}"#));
    let labels = [("syncjob", "customers"), ("op", "conflicting")];
    let text = env.sync.metrics.render().unwrap();
    assert_eq!(metrics::value(&text, "busbar_sync_records_total", &labels), Some(4.0), "{text}");

    let wallets = Env::wallets().await;
    let row = |id: &str, amount: &str| format!(r#"{{"id": "{id}", "amount": {amount}, "date": "2026-09-01"}}"#);
    let rows = [row("1", "7.0"), row("2", "1"), row("1", "7.00"), row("2", "1.01"), row("1", "7e0")];
    wallets.serve("/wallets/w/entries", &format!(r#"{{"rows": [{}]}}"#, rows.join(",")));
    let counts = wallets.run(&wallets.plan("a", "entries", json!({"wallet": "w"}))).await;
    assert_eq!((counts.inserted, counts.conflicting), (2, 1));
    let stored = wallets.transactions().await;
    assert_eq!(stored, [("1".into(), "7.00".into(), 1), ("2".into(), "1.01".into(), 1)]);
}

#[tokio::test]
async fn equal_numbers_are_equal_content_however_they_are_spelled() {
    let env = Env::wallets().await;
    let plan = env.plan("a", "entries", json!({"wallet": "w"}));
    for (spelling, amount, revision) in [
        ("7.0", "7.00", 1),
        ("7.00", "7.00", 1),
        ("7", "7.00", 1),
        ("0.7e1", "7.00", 1),
        ("7.000000000000", "7.00", 1),
        ("12.450000000000", "12.45", 2),
        ("12.45", "12.45", 2),
        ("1e2", "100.00", 3),
        ("100", "100.00", 3),
        ("-0.00", "0.00", 4),
        ("0", "0.00", 4),
    ] {
        env.serve("/wallets/w/entries", &entry("1", spelling));
        env.run(&plan).await;
        assert_eq!(env.transactions().await, [("1".to_owned(), amount.to_owned(), revision)], "{spelling}");
    }

    let texts = Env::wallets().await;
    let plan = texts.plan("a", "texts", json!({}));
    for (spelling, amount, revision) in [
        ("+7", "7.00", 1),
        ("7.000000000000", "7.00", 1),
        ("007.0", "7.00", 1),
        ("-12.4500000000", "-12.45", 2),
        ("1E+2", "100.00", 3),
    ] {
        texts.serve("/texts", &entry("1", &format!("\"{spelling}\"")));
        texts.run(&plan).await;
        assert_eq!(texts.transactions().await, [("1".to_owned(), amount.to_owned(), revision)], "{spelling}");
    }

    // Documents are stored as they are sent first; a text is no number.
    let env = Env::generic().await;
    let plan = env.plan("a", "documents", json!({"path": "rows"}));
    for (record, updated) in [
        (r#"{"id": "x", "value": 7.0, "version": "1.10"}"#, 0),
        (r#"{"id": "x", "value": 7.00, "version": "1.10"}"#, 0),
        (r#"{"version": "1.10", "value": 7, "id": "x"}"#, 0),
        (r#"{"id": "x", "value": 7.01, "version": "1.10"}"#, 1),
        (r#"{"id": "x", "value": 7.01, "version": "1.1"}"#, 1),
    ] {
        env.serve("/rows", &format!("[{record}]"));
        assert_eq!(env.run(&plan).await.updated, updated, "{record}");
    }
    for record in [r#"{"value": 1.50}"#, r#"{"value": 1.5}"#] {
        env.serve("/rows", &format!("[{record}]"));
        env.run(&plan).await;
    }
    assert_eq!(env.documents().await.len(), 2, "one without an ID");
}
