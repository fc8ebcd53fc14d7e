//! The streams of the built-in profiles, each against a bank that answers as the provider does, over real sockets.

use std::sync::{Arc, Mutex};

use busbar::domain::records::{TABLES, Table};
use busbar::domain::row_batch::Cell;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{RunRecord, RunResult};
use busbar::provider::connection::Connection;
use busbar::settings::Auth;
use busbar::sync::{Partition, PlanEndpoint, SyncPlan};
use serde_json::Value;

use crate::kit::connections::{builtin_profile, connect, profile_draft, secret};
use crate::kit::sync_env::{SyncEnv, stream_plan};
use crate::kit::walk_bank::{Answer, Seen, page, serve};

mod accounts;
mod days;
mod drift;
mod markets;
mod masks;
mod money;
mod patches;
mod rules;

/// A secret that no row and no message may hold.
const KEY: &str = "canary-stream-key";

/// A provider with one of its streams.
struct Provider {
    sync: SyncEnv,
    connection: Arc<Connection>,
    plan: SyncPlan,
    requests: Arc<Mutex<Vec<Seen>>>,
    _folder: tempfile::TempDir,
}

impl Provider {
    /// The stream `stream` of the profile `id`, read with these parameters. `base` is the path of the base URL.
    async fn start(
        (id, stream, base): (&str, &str, &str),
        parameters: &[(&str, &str)],
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (url, requests) = serve(answer).await;
        let profile = builtin_profile(id);
        let mut draft = profile_draft(id, format!("{url}{base}"));
        draft.auth = match &profile.auth {
            Some(mapping) if mapping.token.is_none() => {
                let found = |_: &str| Some(secret(KEY));
                Auth::from_profile(mapping, &draft.base_url, &draft.parameters, found).unwrap()
            }
            _ => Auth::Bearer { token: secret(KEY) },
        };
        draft.retry.retries = 0;
        draft.breaker.consecutive_failures = 0;
        let given = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let values = profile.streams[stream].effective_values(&given, &draft.parameters).unwrap();
        let partition = Partition { name: String::new(), parameters: values };
        let base_url = draft.base_url.parse().unwrap();
        let endpoint = PlanEndpoint { base_url, secret_query: vec!["apiKey".into()] };
        let plan = SyncPlan { endpoint, ..stream_plan(&profile, stream, vec![partition]) };
        let folder = tempfile::tempdir().unwrap();
        let sync = SyncEnv::open(&folder.path().join("ledger.db")).await;
        Self { sync, connection: connect(draft), plan, requests, _folder: folder }
    }

    /// A run that succeeds.
    async fn run(&self) -> RunRecord {
        let run = self.any_run().await;
        assert_eq!(run.result, Some(RunResult::Succeeded), "{:?} {:?}", run.reason, run.failure);
        run
    }

    async fn any_run(&self) -> RunRecord {
        self.sync.run(&Arc::new(self.plan.clone()), &self.connection).await.last.remove(0)
    }

    /// Columns of the stored records of a table, one text each, in the order of their keys.
    async fn columns(&self, name: &str, columns: &[&str]) -> Vec<String> {
        let stored = self.sync.ledger.newest_records(table(name), &TransactionFilter::default(), 1000).await.unwrap();
        let mut rows: Vec<(String, String)> = Vec::new();
        for row in stored.iter().filter(|row| row.deleted.is_none()) {
            let record = row.record.row(0).unwrap();
            let cell = |column: &&str| match record.get(column) {
                Cell::Null => "-".to_owned(),
                Cell::Text(text) => text.to_owned(),
                Cell::Integer(number) => number.to_string(),
            };
            let cells: Vec<_> = columns.iter().map(cell).collect();
            rows.push((record.key().to_owned(), format!("{} {}", record.key(), cells.join(" "))));
        }
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// Booking day, amount, currency and status of the transactions, oldest first.
    async fn moves(&self) -> Vec<String> {
        let rows = self.sync.ledger.list_transactions(&TransactionFilter::default(), 1000).await.unwrap();
        let text = |row: &busbar::ledger::record::StoredTransaction| {
            let record = &row.record;
            format!("{} {} {} {}", record.booked.on, record.amount, record.currency, record.status.as_str())
        };
        let mut all: Vec<_> = rows.iter().map(text).collect();
        all.sort();
        all
    }

    /// Reason and path of the dead letters.
    async fn letters(&self) -> Vec<String> {
        let letters = self.sync.ledger.newest_dead_letters(&TransactionFilter::default(), 100).await.unwrap();
        let mut all: Vec<_> = letters.iter().map(|letter| format!("{} {}", letter.reason, letter.path)).collect();
        all.sort();
        all
    }

    fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }
}

fn table(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap()
}

/// A response with this JSON, whose numbers keep their digits.
fn text(json: &str) -> Answer {
    page(serde_json::from_str::<Value>(json).unwrap())
}
