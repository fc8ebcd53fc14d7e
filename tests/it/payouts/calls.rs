//! What banks are asked, and what their answers say.

use std::collections::BTreeMap;
use std::time::Duration;

use busbar::domain::key::ObjectKey;
use busbar::domain::payout::{BankReport, BankStatus, EvidenceSource, PayoutState};
use busbar::ledger::payouts::PayoutCall;
use busbar::provider::payouts::{BankAnswer, PayoutBanks as _, RegistryBanks};
use busbar::testbed::sim::{Behaviour, FailurePoint, Garbage, PayoutConfig, PayoutFate};

use super::env::{BANK_A, Banks, PayoutProcess, payout_draft, sqlite, submit};
use crate::kit::banks::count_arrivals;
use crate::kit::decision_server::connect;

/// A payout at a bank, and the process that asks about it.
struct Scene {
    banks: Banks,
    process: PayoutProcess,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(config: PayoutConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let banks = Banks::new(config).await;
        let process = PayoutProcess::start(&sqlite(folder.path()), [&banks.a.base_url(), &banks.b.base_url()]).await;
        process.register("p1").await;
        Self { banks, process, _folder: folder }
    }

    async fn submit(&self) -> Option<u16> {
        let payout = self.process.stored("p1").await.payout;
        submit(&self.banks.a, "p1", &payout.attempts[0]).await
    }

    async fn ask(&self, call: PayoutCall) -> BankAnswer {
        let payout = self.process.stored("p1").await.payout;
        let banks = RegistryBanks::new(self.process.registry.clone(), self.process.clock);
        banks.ask(call, &payout, &payout.attempts[0]).await
    }
}

fn hour() -> u64 {
    u64::try_from(Duration::from_hours(1).as_millis()).unwrap()
}

#[tokio::test]
async fn an_inquiry_says_what_the_bank_s_books_say() {
    for (config, want) in [
        (PayoutConfig::default(), BankReport::Status(BankStatus::Settled)),
        (PayoutConfig { after_ms: hour(), ..PayoutConfig::default() }, BankReport::Status(BankStatus::Open)),
        (
            PayoutConfig { fate: PayoutFate::Refused, ..PayoutConfig::default() },
            BankReport::Status(BankStatus::Rejected),
        ),
        (
            PayoutConfig { fate: PayoutFate::Returned, ..PayoutConfig::default() },
            BankReport::Status(BankStatus::Returned),
        ),
        // Its replica is an hour behind.
        (PayoutConfig { lag_ms: hour(), ..PayoutConfig::default() }, BankReport::NotFound),
        (
            PayoutConfig { lag_ms: hour(), answers_never_received: true, ..PayoutConfig::default() },
            BankReport::Status(BankStatus::NeverReceived),
        ),
    ] {
        let scene = Scene::new(config.clone()).await;
        assert_eq!(scene.submit().await, Some(202));
        let BankAnswer { report, evidence } = scene.ask(PayoutCall::Inquiry).await;
        assert_eq!(report, want, "{config:?}");
        assert_eq!(evidence.source, EvidenceSource::Inquiry);
        assert!(evidence.message_hash.is_some() && evidence.asked_at.is_some_and(|asked| asked <= evidence.at));
    }
}

#[tokio::test]
async fn a_payout_that_was_accepted_although_the_reply_was_lost_is_found_by_the_inquiry() {
    let scene = Scene::new(PayoutConfig::default()).await;
    scene.banks.a.fail_with(Behaviour::Reset(FailurePoint::AfterHead)).await.unwrap();
    assert_eq!(scene.submit().await, None, "the reply is lost");
    scene.banks.a.recover().await;
    assert_eq!(scene.banks.executions("p1"), 1, "and the payout is executed");
    assert_eq!(scene.ask(PayoutCall::Inquiry).await.report, BankReport::Status(BankStatus::Settled));
}

#[tokio::test]
async fn responses_that_say_nothing_are_silence() {
    let scene = Scene::new(PayoutConfig::default()).await;
    let html = Behaviour::Garbage(Garbage::Html);
    let other = Behaviour::Status {
        code: 200,
        headers: BTreeMap::new(),
        body: Some(r#"{"endToEndId":"BB0","status":"RJCT"}"#.to_owned()),
    };
    for behaviour in [
        Behaviour::status(503),
        Behaviour::status(410),
        Behaviour::status(401),
        html,
        other,
        Behaviour::Reset(FailurePoint::BeforeHead),
    ] {
        scene.banks.a.fail_with(behaviour.clone()).await.unwrap();
        let inquiry = scene.ask(PayoutCall::Inquiry).await;
        assert_eq!(inquiry.report, BankReport::InquirySilence, "{behaviour:?}");
        let recall = scene.ask(PayoutCall::Recall).await;
        assert_eq!(recall.report, BankReport::CancelSilence, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_recall_is_one_request_with_a_key_that_stays_the_same() {
    let scene = Scene::new(PayoutConfig { after_ms: hour(), ..PayoutConfig::default() }).await;
    assert_eq!(scene.submit().await, Some(202));
    scene.banks.a.fail_with(Behaviour::status(503)).await.unwrap();
    assert_eq!(scene.ask(PayoutCall::Recall).await.report, BankReport::CancelSilence);
    let cancels = || count_arrivals(&scene.banks.a, |arrival| arrival.path.ends_with("/cancel"));
    assert_eq!(cancels(), 1, "never retried blindly");
    scene.banks.a.recover().await;
    for _ in 0..2 {
        let accepted = BankReport::CancelAccepted { funds_back: false };
        assert_eq!(scene.ask(PayoutCall::Recall).await.report, accepted, "cancelled once, answered again");
    }
    assert_eq!(scene.ask(PayoutCall::Inquiry).await.report, BankReport::Status(BankStatus::Cancelled));
    assert_eq!(scene.banks.executions("p1"), 0);
}

#[tokio::test]
async fn a_recall_of_what_was_executed_is_refused() {
    let scene = Scene::new(PayoutConfig::default()).await;
    assert_eq!(scene.submit().await, Some(202));
    assert_eq!(scene.ask(PayoutCall::Recall).await.report, BankReport::CancelRefused);
    assert_eq!(scene.banks.executions("p1"), 1);
}

#[tokio::test]
async fn a_suspended_connection_is_still_asked_about_money_that_is_under_way() {
    let scene = Scene::new(PayoutConfig::default()).await;
    assert_eq!(scene.submit().await, Some(202));
    let mut draft = payout_draft(&scene.banks.a.base_url());
    draft.suspended = true;
    connect(&scene.process.registry, BANK_A, BANK_A, draft);
    assert_eq!(scene.ask(PayoutCall::Inquiry).await.report, BankReport::Status(BankStatus::Settled));
}

#[tokio::test]
async fn a_connection_that_is_gone_is_silence_with_its_reason() {
    let scene = Scene::new(PayoutConfig::default()).await;
    let payout = scene.process.stored("p1").await.payout;
    assert_eq!(payout.state(), PayoutState::Open);
    scene.process.registry.remove(&ObjectKey::new(payout.namespace.as_str(), BANK_A));
    let BankAnswer { report, evidence } = scene.ask(PayoutCall::Inquiry).await;
    assert_eq!(report, BankReport::InquirySilence);
    assert_eq!(evidence.message_id.as_deref(), Some("connection_not_found"));
    assert_eq!(evidence.message_hash, None, "there is no message");
}

#[tokio::test]
async fn a_bank_forgets_a_key_and_executes_the_same_order_again() {
    let scene = Scene::new(PayoutConfig { key_window_ms: 0, ..PayoutConfig::default() }).await;
    assert_eq!(scene.submit().await, Some(202));
    assert_eq!(scene.submit().await, Some(202));
    assert_eq!(scene.banks.a.payout_books().paid_twice, ["p1"], "its own books say so");
    let scene = Scene::new(PayoutConfig::default()).await;
    assert_eq!(scene.submit().await, Some(202));
    assert_eq!(scene.submit().await, Some(202));
    assert_eq!(scene.banks.executions("p1"), 1, "within the window the key is one order");
}
