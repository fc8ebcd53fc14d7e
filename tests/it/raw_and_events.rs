//! Raw payloads, events and replays: syncs of a bank over real sockets, into a ledger file.

use std::sync::{Arc, Mutex};

use busbar::domain::event::{EventGranularity, StoredEvent};
use busbar::domain::key::ObjectKey;
use busbar::ledger::audit::{AuditEntry, AuditKind};
use busbar::ledger::encryption::Keyring;
use busbar::ledger::outbox::EventFilter;
use busbar::ledger::raw::{
    DeadLetterFilter, JobDeadLetter, RawMode, RawPayload, ReplayOutcome, Replayability, StoredRaw,
};
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::{RunId, RunResult};
use busbar::settings::sync_plan::{RawRetention, RawStorage};
use busbar::sync::SyncPlan;
use busbar::sync::account_tokens::AccountTokens;
use busbar::sync::replay::{ReplayContext, replay};
use busbar::work::pool::lease_name;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::list_bank::{Answer, ListBank, Query, ok};

const ENTRIES: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: page, parameter: page, first: 1, size: 2, sizeParameter: limit, total: [/total]}, time: {pointer: /date}, money: {amount: /amount, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}, fields: {narration: /text}";
/// The same, of a bank that calls the amount otherwise.
const RENAMED: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: page, parameter: page, first: 1, size: 2, sizeParameter: limit, total: [/total]}, time: {pointer: /date}, money: {amount: /value, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}, fields: {narration: /text}";
const DOCUMENTS: &str = "record: document, records: [/data], key: /id, pagination: {kind: none}";
const CANARY: &str = "canary 0131883461";
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn entry(id: &str, amount: &str) -> Value {
    json!({"id": id, "date": "2026-11-01", "amount": amount, "text": CANARY})
}

/// Pages of two of these records.
fn pages(records: Vec<Value>) -> impl Fn(&Query) -> Answer + Send + Sync + 'static {
    move |query| {
        let page: usize = query.get("page").map_or(1, |page| page.parse().unwrap());
        let part: Vec<&Value> = records.iter().skip((page - 1) * 2).take(2).collect();
        ok(json!({"data": part, "total": records.len()}))
    }
}

struct Env {
    bank: ListBank,
    keys: Keyring,
    _folder: tempfile::TempDir,
}

impl Env {
    async fn start(fields: &str, answer: impl Fn(&Query) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        std::fs::write(keys.join("v1"), [7; 32]).unwrap();
        let keys = Keyring::open(&keys).unwrap();
        let bank = ListBank::start(fields, answer).await.encrypting(&keys).await;
        Self { bank, keys, _folder: folder }
    }

    fn store(&mut self, mode: RawStorage) {
        self.bank.plan.raw = RawRetention { mode, ttl: std::time::Duration::from_hours(24) };
    }

    async fn events(&self) -> Vec<StoredEvent> {
        let all = self.bank.sync.ledger.list_events(&EventFilter::default(), 1_000).await.unwrap();
        all.into_iter().filter(|event| event.event_type == "bank.transactions.ingested").collect()
    }

    async fn raw(&self, id: &str) -> Option<StoredRaw> {
        self.bank.sync.ledger.load_raw(Uuid::parse_str(id).unwrap(), crate::kit::time::now()).await.unwrap()
    }

    async fn letters(&self) -> Vec<JobDeadLetter> {
        let filter =
            DeadLetterFilter { job: self.bank.plan.job.clone(), ids: Vec::new(), resolved: true, before: None };
        let mut letters = self.bank.sync.ledger.list_dead_letters(&filter, 100).await.unwrap();
        letters.sort_by_key(|letter| letter.id);
        letters
    }

    /// Replays all unresolved dead letters as this plan converts them; the outcomes in their order.
    async fn replay(&self, plan: &SyncPlan, now: Timestamp) -> Vec<ReplayOutcome> {
        let letters: Vec<_> = self.letters().await.into_iter().filter(|letter| letter.resolved.is_none()).collect();
        let (ledger, ttl) = (&*self.bank.sync.ledger, std::time::Duration::from_secs(15));
        let lease = ledger.acquire_lease(&lease_name(&plan.job), "the test", ttl, now, None).await.unwrap();
        let lease = lease.acquired().unwrap();
        let audit = AuditEntry {
            at: now,
            kind: AuditKind::Sync,
            action: "replay_dead_letters".into(),
            subject: "ann".into(),
            rights_profile: None,
            allowed: true,
            namespace: plan.job.namespace.to_string(),
            connection: plan.connection.clone(),
            provider: None,
            purpose: None,
            reason: None,
            request_id: Some(Uuid::from_u128(5)),
            repeats: None,
        };
        let cx = ReplayContext {
            ledger,
            lease: &lease,
            account_tokens: &AccountTokens::new(self.keys.clone()),
            audit: &audit,
            run: RunId(Uuid::from_u128(5)),
            now,
        };
        let outcomes = replay(plan, &letters, cx).await.unwrap();
        ledger.release_lease(&lease).await.unwrap();
        outcomes.into_iter().map(|letter| letter.outcome).collect()
    }
}

fn payload(event: &StoredEvent) -> Value {
    serde_json::from_str(&event.payload).unwrap()
}

#[tokio::test]
async fn pages_are_stored_encrypted_with_their_events_under_one_correlation_id() {
    let records = ["1.00", "2.00", "3.00"].into_iter().zip(["a", "b", "c"]).map(|(amount, id)| entry(id, amount));
    let env = Env::start(ENTRIES, pages(records.collect())).await;
    let run = env.bank.record().await;
    assert_eq!((run.result, run.counts.inserted), (Some(RunResult::Succeeded), 3));
    let events = env.events().await;
    assert_eq!(events.len(), 2, "one for each page");
    for event in &events {
        assert_eq!(event.correlation_id, run.id.0);
        assert!(!event.payload.contains("0131883461"), "{}", event.payload);
        let stored = env.raw(payload(event)["raw_ref"].as_str().unwrap()).await.expect("stored with its page");
        assert_eq!((stored.run_id, stored.payload.mode), (run.id.to_string(), RawMode::Encrypted));
        assert!(!String::from_utf8_lossy(&stored.payload.body).contains("0131883461"));
        let RawPayload { id, window, page_no, body, .. } = &stored.payload;
        let context = RawPayload::context(&stored.job, window, *page_no, *id);
        let body = env.keys.decrypt(&context, body).unwrap();
        assert!(String::from_utf8_lossy(&body).contains(CANARY));
        let elsewhere = RawPayload::context(&ObjectKey::new("other", "books"), window, *page_no, *id);
        assert!(env.keys.decrypt(&elsewhere, &stored.payload.body).is_err(), "of another job");
    }
    env.bank.record().await;
    assert_eq!(env.events().await.len(), 2, "nothing changed");
}

#[tokio::test]
async fn masked_payloads_hold_no_value_and_off_stores_none() {
    for (fields, mode, expected) in [
        (ENTRIES, RawStorage::Masked, Some(RawMode::Masked)),
        (DOCUMENTS, RawStorage::Masked, Some(RawMode::Masked)),
        (DOCUMENTS, RawStorage::IfKey, Some(RawMode::Encrypted)),
        (ENTRIES, RawStorage::Off, None),
    ] {
        let mut env = Env::start(fields, pages(vec![entry("a", "1.00")])).await;
        env.store(mode);
        env.bank.record().await;
        let events = env.events().await;
        let Some(expected) = expected else {
            assert_eq!(payload(&events[0])["raw_ref"], Value::Null);
            assert_eq!(env.bank.sync.ledger.raw_usage().await.unwrap().payloads, 0);
            continue;
        };
        let stored = env.raw(payload(&events[0])["raw_ref"].as_str().unwrap()).await.unwrap();
        assert_eq!(stored.payload.mode, expected, "{fields}");
        if expected == RawMode::Masked {
            let body: Value = serde_json::from_slice(&stored.payload.body).unwrap();
            assert_eq!(body["data"][0], json!({"id": "***", "date": "***", "amount": "***", "text": "***"}));
        }
    }
}

#[tokio::test]
async fn events_are_as_fine_as_the_job_says() {
    for (granularity, count) in
        [(EventGranularity::None, 0), (EventGranularity::Page, 2), (EventGranularity::Record, 3)]
    {
        let records = ["a", "b", "c"].map(|id| entry(id, "1.00"));
        let mut env = Env::start(ENTRIES, pages(records.into())).await;
        env.bank.plan.events = granularity;
        env.bank.record().await;
        let events = env.events().await;
        assert_eq!(events.len(), count, "{granularity:?}");
        if granularity == EventGranularity::Record {
            assert_eq!(payload(&events[0])["record"]["amount"], json!("1.00"));
            assert!(events.iter().all(|event| !event.payload.contains("0131883461")), "masked as the rows are");
        }
    }
}

/// A job with two records that the fixed stream accepts, and that fixed stream.
async fn with_dead_letters(mode: RawStorage) -> (Env, SyncPlan) {
    let renamed = |id: &str| json!({"id": id, "date": "2026-11-01", "value": "7.00", "text": CANARY});
    let mut env = Env::start(ENTRIES, pages(vec![entry("a", "1.00"), renamed("x"), renamed("y")])).await;
    env.bank.plan.dead_letter_budget_percent = 100;
    env.store(mode);
    env.bank.record().await;
    assert_eq!((env.bank.stored().await, env.letters().await.len()), (1, 2));
    let fixed = ListBank::of(RENAMED, "http://127.0.0.1:1".to_owned()).await.plan;
    let plan = SyncPlan { stream: fixed.stream, ..env.bank.plan.clone() };
    (env, plan)
}

#[tokio::test]
async fn dead_letters_are_replayed_once_by_the_current_transform() {
    let (env, fixed) = with_dead_letters(RawStorage::Encrypted).await;
    let now = crate::kit::time::now();
    let old = env.bank.plan.clone();
    assert_eq!(env.replay(&old, now).await, [ReplayOutcome::StillRejected; 2], "nothing was fixed");
    assert_eq!(env.replay(&fixed, now).await, [ReplayOutcome::Replayed; 2]);
    assert_eq!(env.bank.stored().await, 3);
    assert!(env.letters().await.iter().all(|letter| letter.resolved.is_some()));
    assert!(env.replay(&fixed, now).await.is_empty());
    assert_eq!(env.bank.stored().await, 3, "not doubled");
    let audit = env.bank.sync.ledger.list_audit(None, None, 10).await.unwrap();
    assert!(audit.iter().all(|stored| stored.entry.action == "replay_dead_letters" && stored.entry.subject == "ann"));
    let last = env.events().await.pop().unwrap();
    assert_eq!((last.correlation_id, payload(&last)["inserted"].as_u64()), (Uuid::from_u128(5), Some(1)));
}

#[tokio::test]
async fn a_replay_says_why_a_dead_letter_cannot_be_replayed() {
    for (mode, after, expected, said) in [
        (RawStorage::Encrypted, DAY * 2, ReplayOutcome::RawExpired, Replayability::Expired),
        (RawStorage::Masked, SignedDuration::ZERO, ReplayOutcome::RawMasked, Replayability::Masked),
        (RawStorage::Off, SignedDuration::ZERO, ReplayOutcome::RawNotStored, Replayability::NotStored),
    ] {
        let (env, fixed) = with_dead_letters(mode).await;
        let now = crate::kit::time::now() + after;
        assert_eq!(env.replay(&fixed, now).await, [expected; 2], "{mode:?}");
        assert!(env.letters().await.iter().all(|letter| letter.replayability(now) == said));
        assert_eq!(env.bank.stored().await, 1);
    }
}

#[tokio::test]
async fn a_payload_that_is_deleted_while_a_replay_waits_is_expired_for_it() {
    let (env, fixed) = with_dead_letters(RawStorage::Encrypted).await;
    let (ledger, ttl) = (&env.bank.sync.ledger, std::time::Duration::from_secs(15));
    let lease = ledger.acquire_lease("retention", "the pruner", ttl, crate::kit::time::now(), None).await.unwrap();
    ledger.prune_raw(&lease.acquired().unwrap(), crate::kit::time::now() + DAY * 2, 1).await.unwrap();
    let outcomes = env.replay(&fixed, crate::kit::time::now()).await;
    assert_eq!(outcomes, [ReplayOutcome::RawExpired, ReplayOutcome::Replayed], "of one page each");
}

#[tokio::test]
async fn a_replay_does_not_replace_a_newer_version_of_its_record() {
    let value = Arc::new(Mutex::new(json!({"id": "x", "date": "2026-11-01", "value": "7.00", "text": "first"})));
    let shown = Arc::clone(&value);
    let answer = move |_: &Query| {
        let good = ["a", "b", "c", "d"]
            .map(|id| json!({"id": id, "date": "2026-11-01", "amount": "1.00", "value": "1.00", "text": ""}));
        let data = [good.to_vec(), vec![shown.lock().unwrap().clone()]].concat();
        ok(json!({"data": data, "total": 5}))
    };
    let mut env = Env::start(&ENTRIES.replace("size: 2", "size: 9"), answer).await;
    env.bank.plan.dead_letter_budget_percent = 100;
    env.store(RawStorage::Encrypted);
    env.bank.record().await;
    assert_eq!(env.letters().await.len(), 1);
    // The bank corrects the record, and then the stream is fixed.
    *value.lock().unwrap() =
        json!({"id": "x", "date": "2026-11-01", "value": "9.00", "amount": "9.00", "text": "second"});
    env.bank.record().await;
    let fixed = ListBank::of(&RENAMED.replace("size: 2", "size: 9"), "http://127.0.0.1:1".to_owned()).await.plan;
    let plan = SyncPlan { stream: fixed.stream, ..env.bank.plan.clone() };
    assert_eq!(env.replay(&plan, crate::kit::time::now()).await, [ReplayOutcome::Superseded]);
    let rows = env.bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let amounts: Vec<_> =
        rows.iter().filter(|row| row.record.key == "x").map(|row| row.record.amount.to_string()).collect();
    assert_eq!(amounts, ["9.00"]);
    assert!(env.letters().await[0].resolved.is_some());
}

#[tokio::test]
async fn a_replay_does_not_replace_an_equal_record_without_an_id() {
    let record = |field: &str| json!({"id": "", "date": "2026-11-01", field: "7.00", "text": ""});
    let mut env = Env::start(ENTRIES, pages(vec![record("amount"), record("value")])).await;
    env.bank.plan.dead_letter_budget_percent = 100;
    env.store(RawStorage::Encrypted);
    env.bank.record().await;
    let fixed = ListBank::of(RENAMED, "http://127.0.0.1:1".to_owned()).await.plan;
    let plan = SyncPlan { stream: fixed.stream, ..env.bank.plan.clone() };
    assert_eq!(env.replay(&plan, crate::kit::time::now()).await, [ReplayOutcome::StillRejected]);
    assert!(env.letters().await[0].resolved.is_none(), "it is not known which of the two is stored");
    assert_eq!(env.bank.stored().await, 1);
}

/// Changes since a token, with the records that the bank withdrew.
const CHANGES: &str = "record: transaction, records: [/data], removed: {at: [/removed], key: /id}, key: /id, commitScope: Window, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}, more: /more}, time: {pointer: /date}, money: {amount: /amount, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}, fields: {narration: /text}";

#[tokio::test]
async fn a_replay_does_not_bring_back_a_record_that_was_withdrawn_meanwhile() {
    let renamed = |id: &str| json!({"id": id, "date": "2026-11-01", "value": "7.00", "text": ""});
    let answer = move |query: &Query| {
        let none = || json!([]);
        let (data, removed, next) = match query.get("after").map(String::as_str) {
            None => (json!([entry("a", "1.00"), renamed("x"), renamed("y"), renamed("z")]), none(), "1"),
            // On a later page of the same window, and in a later window.
            Some("1") => (none(), json!([{"id": "z"}]), "2"),
            Some("2") => (none(), json!([{"id": "x"}, {"id": "never"}]), "3"),
            Some(_) => (none(), none(), "3"),
        };
        ok(json!({"data": data, "removed": removed, "next": next, "more": next == "1"}))
    };
    let mut env = Env::start(CHANGES, answer).await;
    env.bank.plan.dead_letter_budget_percent = 100;
    env.store(RawStorage::Encrypted);
    for _ in 0..2 {
        assert_eq!(env.bank.record().await.result, Some(RunResult::Succeeded));
    }
    assert_eq!((env.bank.stored().await, env.letters().await.len()), (1, 3));
    let fixed = ListBank::of(&CHANGES.replace("/amount", "/value"), "http://127.0.0.1:1".to_owned()).await.plan;
    let plan = SyncPlan { stream: fixed.stream, ..env.bank.plan.clone() };
    let outcomes = env.replay(&plan, crate::kit::time::now()).await;
    assert_eq!(outcomes, [ReplayOutcome::Superseded, ReplayOutcome::Replayed, ReplayOutcome::Superseded]);
    let rows = env.bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let mut keys: Vec<_> = rows.iter().map(|row| row.record.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "y"]);
    assert!(env.letters().await.iter().all(|letter| letter.resolved.is_some()));
}
