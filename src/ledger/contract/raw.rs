//! Raw payloads, and the dead letters that are replayed from them.

use uuid::Uuid;

use super::OpenLedger;
use super::fixtures::{at, audit_entry, books, commit, cursor_key, page, row, state, take, take_named};
use crate::domain::cursor::{CursorKey, CursorState};
use crate::domain::key::ObjectKey;
use crate::domain::record::DeadLetter;
use crate::domain::records::RemovedKey;
use crate::domain::rejection_reason::RejectionReason;
use crate::ledger::error::LedgerError;
use crate::ledger::lease::Lease;
use crate::ledger::page::PageCommit;
use crate::ledger::raw::{DeadLetterFilter, RawMode, RawPayload, RawRef, RawUsage, Replayability, ReplayedLetters};
use crate::ledger::record::RowIdentity;
use crate::ledger::store::Ledger;

pub(super) fn payload(n: u128, expires: i64) -> RawPayload {
    RawPayload {
        id: Uuid::from_u128(n),
        mode: RawMode::Encrypted,
        body: vec![0, 255, 7].into(),
        sha256: [9; 32],
        size: 42,
        request: "{\"page\":1}".into(),
        window: "incremental/2026-09-01/2026-09-02".into(),
        page_no: 1,
        expires: at(expires),
    }
}

fn letter(fingerprint: &str) -> DeadLetter {
    DeadLetter {
        reason: RejectionReason::AmountMissing,
        path: "/amount".into(),
        sample: "{}".into(),
        fingerprint: fingerprint.into(),
        index: 0,
        page_no: 1,
    }
}

/// A page with a payload, dead letters and rows.
async fn fetched(
    ledger: &dyn Ledger,
    key: &CursorKey,
    lease: &Lease,
    state: &CursorState,
    raw: &RawPayload,
    letters: &[DeadLetter],
) {
    let rows = [row("a", 1)];
    let commit = PageCommit { raw: Some(raw), dead_letters: letters, ..page(key, lease, state, &rows) };
    ledger.commit_page(commit).await.unwrap();
}

fn all_of(job: ObjectKey) -> DeadLetterFilter {
    DeadLetterFilter { job, ids: Vec::new(), resolved: true, before: None }
}

pub(crate) async fn a_payload_is_stored_with_its_page_and_read_until_it_expires(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    fetched(&*ledger, &key, &held, &state(0, "2"), &payload(1, 100), &[]).await;
    let stored = ledger.load_raw(Uuid::from_u128(1), at(99)).await.unwrap().unwrap();
    assert_eq!(stored.payload, payload(1, 100));
    assert_eq!((stored.job, stored.stream, stored.attempt), (books(), key.stream.clone(), 1));
    assert_eq!(ledger.load_raw(Uuid::from_u128(1), at(100)).await.unwrap(), None, "expired, though not deleted yet");
    assert_eq!(ledger.load_raw(Uuid::from_u128(2), at(0)).await.unwrap(), None);
    let stale = state(7, "2");
    let refused = PageCommit { raw: Some(&payload(2, 100)), ..page(&key, &held, &stale, &[]) };
    ledger.commit_page(refused).await.unwrap_err();
    assert_eq!(ledger.raw_usage().await.unwrap(), RawUsage { payloads: 1, bytes: 3 });
}

pub(crate) async fn a_page_that_is_fetched_again_is_the_next_attempt(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for n in 0..3_u8 {
        let (key, state) = (cursor_key("books", ""), state(n.into(), "2"));
        fetched(&*ledger, &key, &held, &state, &payload(u128::from(n) + 1, 100), &[]).await;
    }
    let other = cursor_key("books", "p2");
    fetched(&*ledger, &other, &held, &state(0, "2"), &payload(4, 100), &[]).await;
    let mut attempts = Vec::new();
    for n in 1..=4 {
        attempts.push(ledger.load_raw(Uuid::from_u128(n), at(1)).await.unwrap().unwrap().attempt);
    }
    assert_eq!(attempts, [1, 2, 3, 1]);
}

pub(crate) async fn expired_payloads_are_pruned_in_pieces_by_the_holder_of_the_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let former = take_named(&*ledger, "retention", "a", at(0)).await;
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    for n in 0..5_u8 {
        let raw = payload(u128::from(n) + 1, if n < 3 { 10 } else { 1_000 });
        fetched(&*ledger, &cursor_key("books", ""), &held, &state(n.into(), "2"), &raw, &[]).await;
    }
    let fenced = ledger.prune_raw(&former, at(500), 10).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.prune_raw(&lease, at(500), 2).await.unwrap(), 2);
    assert_eq!(ledger.prune_raw(&lease, at(500), 2).await.unwrap(), 1);
    assert_eq!(ledger.raw_usage().await.unwrap().payloads, 2);
}

pub(crate) async fn a_dead_letter_says_whether_it_can_be_replayed(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let key = cursor_key("books", "");
    fetched(&*ledger, &key, &held, &state(0, "2"), &payload(1, 100), &[letter("f1")]).await;
    let masked = RawPayload { mode: RawMode::Masked, ..payload(2, 100) };
    fetched(&*ledger, &key, &held, &state(1, "2"), &masked, &[letter("f2")]).await;
    let (next, letters) = (state(2, "2"), [letter("f3"), letter("f1")]);
    // Read again without a payload: the one that is stored is kept.
    ledger.commit_page(PageCommit { dead_letters: &letters, ..page(&key, &held, &next, &[]) }).await.unwrap();
    let listed = ledger.list_dead_letters(&all_of(books()), 10).await.unwrap();
    let prints: Vec<_> = listed.iter().map(|letter| letter.fingerprint.as_str()).collect();
    assert_eq!(prints, ["f3", "f2", "f1"], "newest first");
    let at_time = |second| listed.iter().map(|letter| letter.replayability(at(second))).collect::<Vec<_>>();
    assert_eq!(at_time(50), [Replayability::NotStored, Replayability::Masked, Replayability::Replayable]);
    assert_eq!(at_time(100), [Replayability::NotStored, Replayability::Expired, Replayability::Expired]);
    assert_eq!((listed[2].seen, listed[2].reason.as_str(), &listed[2].stream), (2, "AmountMissing", &key.stream));
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    ledger.prune_raw(&lease, at(500), 10).await.unwrap();
    let listed = ledger.list_dead_letters(&all_of(books()), 10).await.unwrap();
    assert_eq!(listed[2].raw, Some(RawRef { id: Uuid::from_u128(1), stored: None }));
    assert_eq!(listed[2].replayability(at(50)), Replayability::Expired, "the payload is gone");
}

pub(crate) async fn dead_letters_are_resolved_by_hand_or_with_their_replayed_rows(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, letters) = (cursor_key("books", ""), ["f1", "f2", "f3"].map(letter));
    fetched(&*ledger, &key, &held, &state(0, "2"), &payload(1, 1_000), &letters).await;
    let listed = ledger.list_dead_letters(&all_of(books()), 10).await.unwrap();
    let ids: Vec<i64> = listed.iter().rev().map(|letter| letter.id).collect();
    let entry = audit_entry("resolve", 5);
    let stranger = ObjectKey::new("team", "other");
    assert_eq!(ledger.resolve_dead_letters(&stranger, &ids, &entry).await.unwrap(), 0, "those of another job");
    assert_eq!(ledger.resolve_dead_letters(&books(), &ids[..1], &entry).await.unwrap(), 1);
    assert_eq!(ledger.resolve_dead_letters(&books(), &ids[..1], &entry).await.unwrap(), 0, "already");
    let replayed = ReplayedLetters { ids: vec![ids[1]], audit: audit_entry("replay", 6) };
    let (rows, stale, next) = ([row("b", 2)], state(0, "2"), state(1, "2"));
    let refused = PageCommit { replayed: Some(&replayed), ..page(&key, &held, &stale, &rows) };
    ledger.commit_page(refused).await.unwrap_err();
    let open = DeadLetterFilter { resolved: false, ..all_of(books()) };
    assert_eq!(ledger.list_dead_letters(&open, 10).await.unwrap().len(), 2, "nothing of a refused page");
    let commit = PageCommit { replayed: Some(&replayed), ..page(&key, &held, &next, &rows) };
    assert_eq!(ledger.commit_page(commit).await.unwrap().counts.inserted, 1);
    let left = ledger.list_dead_letters(&open, 10).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[2]]);
    let actions: Vec<_> =
        ledger.list_audit(None, None, 10).await.unwrap().into_iter().map(|stored| stored.entry.action).collect();
    assert_eq!(actions, ["replay", "resolve"]);
    let chosen = DeadLetterFilter { ids: vec![ids[0], ids[2]], before: Some(ids[2]), ..all_of(books()) };
    let chosen = ledger.list_dead_letters(&chosen, 10).await.unwrap();
    assert_eq!(chosen.iter().map(|letter| (letter.id, letter.resolved)).collect::<Vec<_>>(), [(ids[0], Some(at(5)))]);
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    assert_eq!(ledger.prune_dead_letters(&lease, at(6), 10).await.unwrap(), 1, "resolved before");
    assert_eq!(ledger.list_dead_letters(&all_of(books()), 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_row_is_newer_than_a_time_if_it_changed_after_it(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let stream = cursor_key("books", "").stream;
    let rows = ["a", "b"].map(|key| RowIdentity { account_token: "t1".into(), record_key: key.into() });
    let changed = async |second| ledger.changed_since(&stream, "transactions", &rows, at(second)).await.unwrap();
    assert_eq!(changed(0).await, [true, false]);
    assert_eq!(changed(1).await, [false, false]);
    assert_eq!(ledger.changed_since(&stream, "balances", &rows, at(0)).await.unwrap(), [false, false]);
}

pub(crate) async fn a_withdrawn_record_is_newer_although_it_never_was_a_row(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let (key, other) = (cursor_key("books", ""), cursor_key("books", "other"));
    let removed = [(Some("t1"), "a"), (None, "b"), (None, "b")]
        .map(|(account, key)| RemovedKey { account_token: account.map(str::to_owned), key: key.into() });
    fetched(&*ledger, &key, &held, &state(0, "2"), &payload(1, 1_000), &[letter("f1")]).await;
    // No dead letter could bring a record of the other stream back.
    for (key, version) in [(&key, 1), (&other, 0)] {
        let next = state(version, "2");
        let commit = PageCommit { removed: &removed, now: at(30), ..page(key, &held, &next, &[]) };
        ledger.commit_page(commit).await.unwrap();
    }
    let rows = [("t1", "a"), ("t2", "a"), ("t1", "b"), ("t2", "b"), ("t1", "c")]
        .map(|(token, key)| RowIdentity { account_token: token.into(), record_key: key.into() });
    let changed =
        async |key: &CursorKey, second| ledger.changed_since(&key.stream, "balances", &rows, at(second)).await.unwrap();
    assert_eq!(changed(&key, 29).await, [true, false, true, true, false]);
    assert_eq!(changed(&key, 30).await, [false; 5], "sent again since");
    assert_eq!(changed(&other, 29).await, [false; 5]);
    // Until no dead letter is left to replay.
    let lease = take_named(&*ledger, "retention", "b", at(60)).await;
    ledger.prune_dead_letters(&lease, at(60), 10).await.unwrap();
    assert!(changed(&key, 29).await[0]);
    let ids: Vec<i64> = ledger.list_dead_letters(&all_of(books()), 10).await.unwrap().iter().map(|l| l.id).collect();
    ledger.resolve_dead_letters(&books(), &ids, &audit_entry("resolve", 50)).await.unwrap();
    ledger.prune_dead_letters(&lease, at(40), 10).await.unwrap();
    assert_eq!(changed(&key, 29).await, [false; 5]);
}

pub(crate) async fn a_preview_counts_what_a_commit_would_change_and_changes_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1), row("b", 1)]).await.unwrap();
    let (key, next) = (cursor_key("books", ""), state(1, "3"));
    let rows = [row("a", 1), row("b", 2), row("c", 3)];
    let raw = payload(1, 100);
    let would = PageCommit { raw: Some(&raw), ..page(&key, &held, &next, &rows) };
    let counts = ledger.preview_page(would.clone()).await.unwrap();
    assert_eq!((counts.inserted, counts.updated, counts.unchanged), (1, 1, 1));
    assert_eq!(super::count(&*ledger).await, 2);
    assert_eq!(ledger.load_cursor(&key).await.unwrap().unwrap().version, 1);
    assert_eq!(ledger.raw_usage().await.unwrap().payloads, 0);
    assert_eq!(ledger.commit_page(would).await.unwrap().counts, counts);
}

pub(crate) async fn a_payload_of_the_future_is_kept_for_its_time_and_not_longer(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    let lease = take_named(&*ledger, "retention", "a", at(0)).await;
    let (key, first, raw) = (cursor_key("books", ""), state(0, "2"), payload(1, 400_100));
    let ahead = PageCommit { raw: Some(&raw), now: at(400_000), ..page(&key, &held, &first, &[]) };
    ledger.commit_page(ahead).await.unwrap();
    assert_eq!(ledger.prune_raw(&lease, at(10), 10).await.unwrap(), 0);
    let stored = ledger.load_raw(Uuid::from_u128(1), at(10)).await.unwrap().unwrap();
    assert_eq!((stored.created, stored.payload.expires), (at(10), at(110)));
    assert_eq!(ledger.prune_raw(&lease, at(110), 10).await.unwrap(), 1);
}
