//! Stuck payouts to their end: inquired, recalled, and re-routed with proof.

use std::time::Duration;

use busbar::domain::payout::{AttemptState, BankPromises, BankReport, EvidenceSource, HoldReason, Payout, PayoutState};
use busbar::ledger::outbox::EventFilter;
use busbar::ledger::payouts::{PayoutCall, TimelineEvent};
use busbar::testbed::sim::{BankHandle, Behaviour, FailurePoint, PayoutConfig};

use super::env::{BANK_A, BANK_B, Banks, PayoutProcess, payout_draft, sqlite, submit};
use crate::kit::banks::count_arrivals;
use crate::kit::decision_server::{NAMESPACE, connect};
use crate::kit::wait::eventually;

/// A payout that the first bank accepted and whose reply is lost; the submitter knows no more.
async fn stuck(banks: &Banks, process: &PayoutProcess, payout_id: &str) -> Payout {
    let payout = process.register(payout_id).await;
    banks.a.fail_with(Behaviour::Reset(FailurePoint::AfterHead)).await.unwrap();
    assert_eq!(submit(&banks.a, payout_id, &payout.attempts[0]).await, None, "the reply is lost");
    banks.a.recover().await;
    process.report(payout_id, BankReport::Submitted).await;
    process.report(payout_id, BankReport::Silence).await.payout
}

async fn process(folder: &tempfile::TempDir, banks: &Banks) -> PayoutProcess {
    PayoutProcess::start(&sqlite(folder.path()), [&banks.a.base_url(), &banks.b.base_url()]).await
}

/// An hour, in milliseconds: longer than the test.
const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn a_payout_whose_reply_was_lost_is_inquired_and_not_sent_again() {
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(PayoutConfig::default()).await);
    let process = process(&folder, &banks).await;
    process.run_clock("one");
    stuck(&banks, &process, "p1").await;
    let payout = process.until("p1", PayoutState::Confirmed).await;
    assert_eq!(payout.attempts.len(), 1);
    assert_eq!(banks.executions("p1"), 1);
    process.end().await;
}

#[tokio::test]
async fn a_stuck_payout_is_inquired_recalled_and_rerouted_with_evidence() {
    let config = PayoutConfig { after_ms: HOUR, ..PayoutConfig::default() };
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(config).await);
    let process = process(&folder, &banks).await;
    process.run_clock("one");
    stuck(&banks, &process, "p1").await;
    let payout = eventually("the next attempt is decided", async || {
        let payout = process.stored("p1").await.payout;
        if payout.attempts.len() == 2 { Ok(payout) } else { Err(payout) }
    })
    .await;
    let (first, second) = (&payout.attempts[0], &payout.attempts[1]);
    assert_eq!(first.state, AttemptState::Recalled);
    assert!(first.evidence.message_hash.is_some(), "the bank's own message is the proof");
    assert_eq!(second.plan.bank, BANK_B);
    assert_ne!(first.idempotency_key(), second.idempotency_key());

    // The event hands the attempt out, complete; it is sent once.
    let filter = EventFilter { types: vec!["payout.rerouted".to_owned()], ..EventFilter::default() };
    let events = process.ledger.list_events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    let told: serde_json::Value = serde_json::from_str(&events[0].payload).unwrap();
    assert_eq!(told["attempt"]["end_to_end_id"], second.end_to_end_id());
    assert_eq!(submit(&banks.b, "p1", second).await, Some(202));
    process.report("p1", BankReport::Confirmation).await;
    let payout = process.until("p1", PayoutState::Confirmed).await;
    assert_eq!(payout.attempts.len(), 2);
    assert_eq!(banks.executions("p1"), 1);

    let timeline = process.ledger.payout_timeline(NAMESPACE, "p1", 0, 1000).await.unwrap();
    let intents: Vec<PayoutCall> = timeline
        .iter()
        .filter_map(|row| match row.event {
            TimelineEvent::Intent { call, fence } if fence > 0 => Some(call),
            _ => None,
        })
        .collect();
    assert_eq!(intents.iter().filter(|call| **call == PayoutCall::Recall).count(), 1, "{timeline:#?}");
    assert!(intents.contains(&PayoutCall::Inquiry));
    process.end().await;
}

#[tokio::test]
async fn a_late_confirmation_freezes_the_payout_and_recalls_the_newer_attempt() {
    let config = PayoutConfig { after_ms: HOUR, ..PayoutConfig::default() };
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(config.clone()).await);
    banks.b.set_payouts(config);
    let process = process(&folder, &banks).await;
    process.run_clock("one");
    stuck(&banks, &process, "p1").await;
    let payout = eventually("the next attempt is decided", async || {
        let payout = process.stored("p1").await.payout;
        if payout.attempts.len() == 2 { Ok(payout) } else { Err(payout) }
    })
    .await;
    assert_eq!(submit(&banks.b, "p1", &payout.attempts[1]).await, Some(202));
    process.report("p1", BankReport::Submitted).await;
    // The first bank contradicts its own cancellation.
    process.report_of("p1", 1, BankReport::Confirmation, EvidenceSource::Confirmation).await;
    let frozen = process.until("p1", PayoutState::Frozen).await;
    assert_eq!(frozen.hold(), Some(HoldReason::DuplicateDetected));
    eventually("the newer attempt is cancelled", async || {
        process.stored("p1").await.payout.attempts[1].state == AttemptState::Recalled
    })
    .await;
    assert!(count_arrivals(&banks.b, |arrival| arrival.path.ends_with("/cancel")) > 0);
    assert_eq!(process.stored("p1").await.payout.state(), PayoutState::Frozen, "until a person resumes it");
    process.end().await;
}

#[tokio::test]
async fn a_bank_that_cancels_nothing_and_executes_late_is_held_then_confirmed() {
    // It settles after the recall was refused.
    let config = PayoutConfig { after_ms: 10_000, cancels: false, ..PayoutConfig::default() };
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(config).await);
    let process = process(&folder, &banks).await;
    process.run_clock("one");
    stuck(&banks, &process, "p1").await;
    let held = process.until("p1", PayoutState::Held).await;
    assert_eq!(held.attempts.len(), 1, "no attempt without proof");
    let payout = process.until("p1", PayoutState::Confirmed).await;
    assert_eq!(payout.attempts.len(), 1);
    assert_eq!(banks.executions("p1"), 1);
    process.end().await;
}

#[tokio::test]
async fn a_lagging_replica_that_finds_nothing_leads_to_no_second_payment() {
    let config = PayoutConfig { lag_ms: HOUR, cancels: false, ..PayoutConfig::default() };
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(config).await);
    let process = process(&folder, &banks).await;
    process.run_clock("one");
    stuck(&banks, &process, "p1").await;
    let held = process.until("p1", PayoutState::Held).await;
    assert_eq!(held.attempts.len(), 1, "404 is no proof");
    assert_eq!(banks.executions("p1"), 1);
    process.end().await;
}

#[tokio::test]
async fn another_endpoint_that_finds_nothing_leads_to_no_second_payment() {
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(PayoutConfig::default()).await);
    let process = process(&folder, &banks).await;
    // "Not found" is proof at once, at the endpoint that the attempt was sent to.
    let at = |bank: &BankHandle| {
        let mut draft = payout_draft(&bank.base_url());
        let (strong_read_your_writes, not_found_grace) = (true, Duration::ZERO);
        draft.promises =
            BankPromises { not_found_proof: true, strong_read_your_writes, not_found_grace, ..draft.promises };
        connect(&process.registry, BANK_A, BANK_A, draft);
    };
    at(&banks.a);
    stuck(&banks, &process, "p1").await;
    at(&banks.b);
    process.run_clock("one");
    let held = process.until("p1", PayoutState::Held).await;
    assert_eq!(held.attempts.len(), 1, "{held:?}");
    assert!(count_arrivals(&banks.b, |arrival| arrival.method == "GET") > 0, "it was asked");
    assert_eq!(count_arrivals(&banks.b, |arrival| arrival.path.ends_with("/cancel")), 0);
    at(&banks.a);
    let payout = process.until("p1", PayoutState::Confirmed).await;
    assert_eq!((payout.attempts.len(), banks.executions("p1")), (1, 1));
    process.end().await;
}

#[tokio::test]
async fn one_bank_that_hangs_delays_no_payout_of_another() {
    let (folder, banks) = (tempfile::tempdir().unwrap(), Banks::new(PayoutConfig::default()).await);
    let process = process(&folder, &banks).await;
    for n in 0..40 {
        stuck(&banks, &process, &format!("hung-{n}")).await;
    }
    // The first bank is left out of decisions; it is asked about what is under way all the same.
    let mut suspended = payout_draft(&banks.a.base_url());
    suspended.suspended = true;
    connect(&process.registry, BANK_A, BANK_A, suspended);
    let payout = process.register_at("good", BANK_B).await;
    assert_eq!(submit(&banks.b, "good", &payout.attempts[0]).await, Some(202));
    process.report("good", BankReport::Silence).await;
    banks.a.fail_with(Behaviour::Stall(FailurePoint::BeforeHead)).await.unwrap();
    process.run_clock("one");
    process.until("good", PayoutState::Confirmed).await;
    let asked = || count_arrivals(&banks.a, |arrival| arrival.method == "GET");
    eventually("the bank that hangs is asked", async || asked() > 0).await;
    assert!(asked() <= 16, "{} calls at the bank that hangs", asked());
    process.end().await;
}
