//! The events of a sync: what its runs and the rows that they change tell others.
//!
//! Payloads are JSON objects of values that are stored as they are: masked rows, masked names of partitions, codes and
//! counts. IDs are derived from content, so that a page that is read again after a crash causes no second event.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::report::RunReport;
use crate::domain::cursor::StreamKey;
use crate::domain::event::{
    ChangedRow, EventGranularity, EventType, OutboxEvent, PageEvents, RowChange, event_id, job_aggregate,
};
use crate::domain::key::ObjectKey;
use crate::domain::records::ColumnKind;
use crate::domain::row_batch::{Cell, RowView};
use crate::domain::run_failure::FailingPartition;
use crate::domain::run_reason::RunReason;
use crate::ledger::{RunId, RunTrigger};
use crate::settings::sync_plan::SyncPlan;

/// What all events of a run say.
#[derive(Clone, Debug)]
pub struct RunEvents {
    job: ObjectKey,
    connection: String,
    stream: String,
    run: RunId,
}

impl RunEvents {
    /// The events of a run of `plan`.
    pub fn new(plan: &SyncPlan, run: RunId) -> Self {
        Self { job: plan.job.clone(), connection: plan.connection.clone(), stream: plan.stream_name.clone(), run }
    }

    /// `fetch.started`.
    pub fn started(&self, trigger: RunTrigger) -> OutboxEvent {
        self.event(EventType::FetchStarted, None, json!({"trigger": trigger.as_str()}))
    }

    /// `fetch.completed`.
    pub fn completed(&self, report: &RunReport) -> OutboxEvent {
        self.event(EventType::FetchCompleted, None, counts(report))
    }

    /// `fetch.failed`: the run, or one partition of it, failed for the `failures`th time in a row.
    pub fn failed(
        &self,
        partition: Option<&str>,
        failures: u32,
        reason: Option<RunReason>,
        http_status: Option<u16>,
    ) -> OutboxEvent {
        let said = json!({
            "failures": failures,
            "reason": reason.map(RunReason::as_str),
            "http_status": http_status,
        });
        self.event(EventType::FetchFailed, partition, said)
    }

    /// `fetch.failure_streak`: `failures` in a row reached the threshold.
    pub fn failure_streak(&self, partition: Option<&str>, failures: u32, threshold: u32) -> OutboxEvent {
        let said = json!({"failures": failures, "threshold": threshold});
        self.event(EventType::FetchFailureStreak, partition, said)
    }

    /// `fetch.latency_sla_exceeded`: the requests of a partition took longer than they may.
    pub fn latency_exceeded(&self, partition: Option<&str>, took: Duration, limit: Duration) -> OutboxEvent {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let said = json!({"took_ms": millis(took), "limit_ms": millis(limit)});
        self.event(EventType::FetchLatencySlaExceeded, partition, said)
    }

    /// `fetch.zero_transactions`: no record, for the `empty_runs`th time in a row.
    pub fn zero_records(&self, partition: Option<&str>, empty_runs: u32) -> OutboxEvent {
        self.event(EventType::FetchZeroTransactions, partition, json!({"empty_runs": empty_runs}))
    }

    /// `pipeline.completed`: the run ended, whatever its result.
    pub fn pipeline_completed(&self, report: &RunReport) -> OutboxEvent {
        let mut said = counts(report);
        if let Some(fields) = said.as_object_mut() {
            fields.insert("result".to_owned(), json!(report.result.as_str()));
            fields.insert("reason".to_owned(), json!(report.reason.map(RunReason::as_str)));
        }
        self.event(EventType::PipelineCompleted, None, said)
    }

    fn event(&self, event_type: EventType, partition: Option<&str>, said: Value) -> OutboxEvent {
        let aggregate = job_aggregate(&self.job.namespace, &self.job.name);
        let id = event_id(event_type, &aggregate, &[self.run.0.as_bytes(), partition.unwrap_or_default().as_bytes()]);
        let mut payload = self.payload();
        if let Some(partition) = partition {
            payload.insert("partition".to_owned(), json!(label(partition)));
        }
        if let Value::Object(said) = said {
            payload.extend(said);
        }
        OutboxEvent {
            id,
            event_type,
            namespace: self.job.namespace.to_string(),
            aggregate,
            payload: Value::Object(payload).to_string(),
            correlation_id: self.run.0,
        }
    }

    fn payload(&self) -> Map<String, Value> {
        let mut payload = Map::new();
        for (name, value) in [
            ("namespace", &*self.job.namespace),
            ("job", &*self.job.name),
            ("connection", self.connection.as_str()),
            ("stream", self.stream.as_str()),
        ] {
            payload.insert(name.to_owned(), value.into());
        }
        payload.insert("run_id".to_owned(), self.run.to_string().into());
        payload
    }
}

/// The counts of a run.
fn counts(report: &RunReport) -> Value {
    let counts = &report.counts;
    json!({
        "fetched": counts.fetched,
        "inserted": counts.inserted,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        "rejected": counts.rejected,
        "pages": counts.pages,
        "partitions": report.partitions,
        "failing": report.failing,
    })
}

/// The name of a partition in events: it may be the number of an account.
fn label(partition: &str) -> String {
    FailingPartition::new(partition, "").name
}

/// The events of a page's rows, which are stored in `stream`; `None` if the job wants none.
pub fn page_events(
    plan: &SyncPlan,
    stream: &StreamKey,
    run: RunId,
    raw_ref: Option<Uuid>,
) -> Option<Arc<dyn PageEvents>> {
    if plan.events == EventGranularity::None {
        return None;
    }
    let by_record = plan.events == EventGranularity::Record;
    let of = RunEvents::new(plan, run);
    let (stored_stream, partition) = (stream.stream.clone(), stream.partition.clone());
    Some(Arc::new(IngestedEvents { of, stored_stream, partition, by_record, raw_ref }))
}

/// Makes `bank.transactions.ingested` events.
#[derive(Debug)]
struct IngestedEvents {
    of: RunEvents,
    /// With its source: the rows of two sources may be equal.
    stored_stream: String,
    partition: String,
    by_record: bool,
    raw_ref: Option<Uuid>,
}

impl PageEvents for IngestedEvents {
    fn events(&self, changed: &[ChangedRow<'_>]) -> Vec<OutboxEvent> {
        if self.by_record {
            return changed.iter().map(|row| self.of_record(row)).collect();
        }
        // One for each kind: consumers of transactions do not read balances.
        let mut kinds: Vec<&'static str> = Vec::new();
        for row in changed {
            let kind = row.row.table().name;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds.into_iter().map(|kind| self.of_page(kind, changed)).collect()
    }
}

impl IngestedEvents {
    /// The event of all changed rows of one kind.
    fn of_page(&self, kind: &str, changed: &[ChangedRow<'_>]) -> OutboxEvent {
        let (mut inserted, mut updated, mut removed) = (0_u64, 0_u64, 0_u64);
        let mut digest = Sha256::new();
        for row in changed.iter().filter(|row| row.row.table().name == kind) {
            match row.change {
                RowChange::Inserted => inserted += 1,
                RowChange::Updated => updated += 1,
                RowChange::Removed => removed += 1,
            }
            for part in [row.row.account_token().as_bytes(), row.row.key().as_bytes(), row.row.hash()] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            digest.update(row.revision.to_be_bytes());
        }
        let aggregate = job_aggregate(&self.of.job.namespace, &self.of.job.name);
        let (stream, partition) = (self.stored_stream.as_bytes(), self.partition.as_bytes());
        let parts: [&[u8]; 4] = [kind.as_bytes(), stream, partition, &digest.finalize()];
        let id = event_id(EventType::TransactionsIngested, &aggregate, &parts);
        let mut payload = self.payload(kind);
        for (name, count) in [("inserted", inserted), ("updated", updated), ("removed", removed)] {
            payload.insert(name.to_owned(), count.into());
        }
        self.ingested(id, aggregate, payload)
    }

    /// The event of one changed row.
    fn of_record(&self, changed: &ChangedRow<'_>) -> OutboxEvent {
        let row = changed.row;
        let (kind, token, key) = (row.table().name, row.account_token().as_bytes(), row.key().as_bytes());
        // The versions of a record are published in order; different records need not wait for each other.
        let mut record = Sha256::new();
        for part in [kind.as_bytes(), self.partition.as_bytes(), token, key] {
            record.update((part.len() as u64).to_be_bytes());
            record.update(part);
        }
        let job = job_aggregate(&self.of.job.namespace, &self.of.job.name);
        let aggregate = format!("{job}/{}", hex::encode(record.finalize().first_chunk::<12>().unwrap_or(&[0; 12])));
        let revision = changed.revision.to_be_bytes();
        let (stream, partition) = (self.stored_stream.as_bytes(), self.partition.as_bytes());
        let parts = [kind.as_bytes(), stream, partition, token, key, row.hash().as_slice(), &revision];
        let id = event_id(EventType::TransactionsIngested, &aggregate, &parts);
        let mut payload = self.payload(kind);
        payload.insert("change".to_owned(), changed.change.as_str().into());
        payload.insert("revision".to_owned(), changed.revision.into());
        payload.insert("record".to_owned(), record_of(row));
        self.ingested(id, aggregate, payload)
    }

    fn payload(&self, kind: &str) -> Map<String, Value> {
        let mut payload = self.of.payload();
        payload.insert("kind".to_owned(), kind.into());
        if !self.partition.is_empty() {
            payload.insert("partition".to_owned(), label(&self.partition).into());
        }
        payload.insert("raw_ref".to_owned(), self.raw_ref.map_or(Value::Null, |id| id.to_string().into()));
        payload
    }

    fn ingested(&self, id: Uuid, aggregate: String, payload: Map<String, Value>) -> OutboxEvent {
        OutboxEvent {
            id,
            event_type: EventType::TransactionsIngested,
            namespace: self.of.job.namespace.to_string(),
            aggregate,
            payload: Value::Object(payload).to_string(),
            correlation_id: self.of.run.0,
        }
    }
}

/// A row as a JSON object: its columns as they are stored, decimals as strings, instants as RFC 3339.
pub(super) fn record_of(row: RowView<'_>) -> Value {
    let mut record = Map::new();
    record.insert("account_token".to_owned(), row.account_token().into());
    record.insert("key".to_owned(), row.key().into());
    record.insert("key_quality".to_owned(), row.key_quality().into());
    for (column, cell) in row.cells() {
        let (name, value) = match (column.kind, cell) {
            (ColumnKind::Instant, Cell::Integer(millis)) => {
                let at = Timestamp::from_millisecond(millis).map_or(Value::Null, |at| at.to_string().into());
                (time_name(column.name), at)
            }
            (ColumnKind::Instant, _) => (time_name(column.name), Value::Null),
            // Masked JSON that was checked when it was stored.
            (ColumnKind::Json, Cell::Text(text)) => {
                (column.name.to_owned(), serde_json::from_str(text).unwrap_or(Value::Null))
            }
            (_, Cell::Text(text)) => (column.name.to_owned(), text.into()),
            (_, Cell::Integer(number)) => (column.name.to_owned(), number.into()),
            (_, Cell::Null) => (column.name.to_owned(), Value::Null),
        };
        record.insert(name, value);
    }
    Value::Object(record)
}

/// The name of an instant that is stored in milliseconds.
fn time_name(column: &str) -> String {
    column.strip_suffix("_ms").map_or_else(|| column.to_owned(), |stem| format!("{stem}_time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::row_batch::RowBatch;
    use crate::ledger::contract::fixtures::row;
    use crate::sync::cursor::cursor_key;
    use crate::sync::tests::plan;

    const RUN: RunId = RunId(Uuid::from_u128(7));

    fn events(granularity: EventGranularity, run: RunId) -> Vec<OutboxEvent> {
        let plan_of = plan(10);
        events_of(granularity, run, &cursor_key(&plan_of, &plan_of.partitions[0]).stream)
    }

    fn events_of(granularity: EventGranularity, run: RunId, stream: &StreamKey) -> Vec<OutboxEvent> {
        let plan = SyncPlan { events: granularity, ..plan(10) };
        let batch = RowBatch::of_transactions(&[row("a", 100), row("b", 200)]);
        let changed: Vec<_> = (0..)
            .zip(batch.rows())
            .map(|(n, row)| {
                let change = if n == 0 { RowChange::Inserted } else { RowChange::Updated };
                ChangedRow { change, revision: n + 1, row }
            })
            .collect();
        let raw = Some(Uuid::from_u128(9));
        page_events(&plan, stream, run, raw).map_or_else(Vec::new, |events| events.events(&changed))
    }

    #[test]
    fn a_page_is_one_event_and_a_record_is_one_each() {
        assert_eq!(events(EventGranularity::None, RUN), []);
        let page = events(EventGranularity::Page, RUN);
        assert_eq!(page.len(), 1);
        let payload: Value = serde_json::from_str(&page[0].payload).unwrap();
        assert_eq!(
            (&payload["inserted"], &payload["updated"], &payload["kind"]),
            (&json!(1), &json!(1), &json!("transactions"))
        );
        assert_eq!(payload["raw_ref"], json!(Uuid::from_u128(9).to_string()));
        let records = events(EventGranularity::Record, RUN);
        assert_eq!(records.len(), 2);
        let payload: Value = serde_json::from_str(&records[1].payload).unwrap();
        assert_eq!((&payload["change"], &payload["revision"]), (&json!("updated"), &json!(2)));
        assert_eq!((&payload["record"]["amount"], &payload["record"]["account"]), (&json!("2.00"), &json!("****1234")));
        assert_ne!(records[0].aggregate, records[1].aggregate, "records do not wait for each other");
    }

    #[test]
    fn the_same_rows_give_the_same_ids_whatever_the_run() {
        for granularity in [EventGranularity::Page, EventGranularity::Record] {
            let ids = |run| events(granularity, run).iter().map(|event| event.id).collect::<Vec<_>>();
            assert_eq!(ids(RUN), ids(RunId(Uuid::from_u128(8))), "{granularity:?}");
        }
    }

    #[test]
    fn equal_rows_of_two_partitions_or_sources_have_events_of_their_own() {
        let plan = plan(10);
        let stream = cursor_key(&plan, &plan.partitions[0]).stream;
        let partition = StreamKey { partition: "other".into(), ..stream.clone() };
        let source = StreamKey { stream: format!("{}#other", stream.stream), ..stream.clone() };
        for granularity in [EventGranularity::Page, EventGranularity::Record] {
            let id = |stream: &StreamKey| events_of(granularity, RUN, stream)[0].id;
            assert_ne!(id(&stream), id(&partition), "{granularity:?}");
            assert_ne!(id(&stream), id(&source), "{granularity:?}");
        }
    }

    #[test]
    fn an_event_of_a_run_names_a_partition_without_its_account_number() {
        let of = RunEvents::new(&plan(10), RUN);
        let event = of.failed(Some("acc-0131883461"), 3, Some(RunReason::NotFound), Some(404));
        let payload: Value = serde_json::from_str(&event.payload).unwrap();
        assert_eq!((&payload["partition"], &payload["failures"]), (&json!("acc-****3461"), &json!(3)));
        assert_eq!((&payload["reason"], &payload["http_status"]), (&json!("NotFound"), &json!(404)));
        assert_eq!(event.correlation_id, RUN.0);
        let others = [of.started(RunTrigger::Manual), of.zero_records(None, 2), of.failure_streak(None, 5, 5)];
        let took = of.latency_exceeded(Some("p"), Duration::from_secs(3), Duration::from_secs(2));
        let mut ids: Vec<_> = others.iter().chain([&took, &event]).map(|event| event.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }
}
