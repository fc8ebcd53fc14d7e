//! Dead requests under faults: a ledger that cannot be written, a hanging provider, a replaced connection, expired
//! permissions, deletion.

use std::sync::Arc;
use std::time::Duration;

use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::ledger::dead_requests::{DeadRequest, DeadRequestLimits, DeadRequestOwner, DeadRequestState};
use busbar::ledger::encryption::Keyring;
use busbar::metrics::Metrics;
use busbar::profile::Profiles;
use busbar::testbed::sim::{Behaviour, FailurePoint, ScriptStep};
use jiff::SignedDuration;
use rusqlite::Connection;
use uuid::Uuid;

use super::QUOTE;
use super::harness::{GatewayHarness, Plan, key};
use super::later::{fail, state};
use crate::kit::wait::eventually;

async fn kept(harness: &GatewayHarness, id: Uuid) -> DeadRequest {
    harness.ledger.get_dead_request(id).await.unwrap().unwrap()
}

/// A harness whose circuits do not open: an open circuit would delay the retries.
async fn harness() -> GatewayHarness {
    let harness = GatewayHarness::new().await;
    harness.connect("fmp", &harness.fmp, |draft| draft.breaker.consecutive_failures = 0);
    harness.connect("polygon", &harness.polygon, |draft| draft.breaker.consecutive_failures = 0);
    harness
}

#[tokio::test]
async fn no_retry_is_made_while_the_ledger_cannot_be_written() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let disk = Connection::open(harness.file()).unwrap();
    disk.busy_timeout(Duration::from_secs(10)).unwrap();
    let full = "CREATE TRIGGER disk_full BEFORE UPDATE ON dead_requests BEGIN SELECT RAISE(ABORT, 'full'); END";
    disk.execute_batch(full).unwrap();
    let metrics = Metrics::new();
    let (stop, worker) = harness.worker_in("a", &metrics);
    // The pauses between the three are 1 s and 2 s.
    eventually("the worker has failed to write the ledger three times", async || {
        metrics.render().unwrap().contains("\nbusbar_dead_request_ledger_failures_total 3\n")
    })
    .await;
    assert_eq!(harness.fmp.arrivals().entries.len(), 2, "the call, and one retry that could not be counted");
    assert_eq!(kept(&harness, id).await.tries, 0);
    disk.execute_batch("DROP TRIGGER disk_full").unwrap();
    // The next retry may follow at once: it is overdue.
    eventually("the retry is counted", async || kept(&harness, id).await.tries >= 1).await;
    let asked_again = harness.fmp.arrivals().entries.len() - 1;
    let counted = usize::try_from(kept(&harness, id).await.tries).unwrap();
    assert!(
        asked_again <= counted + 1,
        "{asked_again} retries, of which {counted} are counted, and one may be under way"
    );
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_hanging_provider_delays_its_own_retries_only_and_gets_two_at_once() {
    let harness = harness().await;
    harness.polygon.fail_with(Behaviour::status(503)).await.unwrap();
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for n in 0..6 {
        fail(&harness, &format!("/api/providers/treasury/polygon/quote?symbol=S{n}")).await;
    }
    let id = fail(&harness, QUOTE).await;
    harness.polygon.fail_with(ScriptStep::from(Behaviour::Stall(FailurePoint::BeforeHead))).await.unwrap();
    harness.fmp.recover().await;
    let seen = harness.polygon.arrivals().next;
    let (stop, worker) = harness.worker("a");
    eventually("the hanging provider is called twice", async || {
        harness.polygon.arrivals_since(seen).entries.len() == 2
    })
    .await;
    eventually("the other provider's request is done", async || state(&harness, id).await == DeadRequestState::Done)
        .await;
    assert_eq!(harness.polygon.arrivals_since(seen).entries.len(), 2);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_repeated_failure_of_a_parked_request_is_only_counted() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    assert_ne!(id, other_caller(&harness).await, "another caller's request is stored separately");
    harness.fmp.fail_with(Behaviour::status(403)).await.unwrap();
    let (stop, worker) = harness.worker("a");
    eventually("the request is parked", async || state(&harness, id).await == DeadRequestState::Parked).await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let seen = kept(&harness, id).await.seen;
    for _ in 0..3 {
        assert_eq!(fail(&harness, QUOTE).await, id);
    }
    let now = kept(&harness, id).await;
    assert_eq!((now.state, now.seen), (DeadRequestState::Parked, seen + 3));
    stop.cancel();
    worker.await.unwrap();
}

async fn other_caller(harness: &GatewayHarness) -> Uuid {
    let said = harness.ask("GET", QUOTE, "token-bob", &[]).await;
    Uuid::parse_str(said.body["data"]["dead_request_id"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn dead_requests_are_deleted_one_by_one_or_by_connection() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fail(&harness, &format!("/api/providers/treasury/fmp/quote?symbol=S{n}")).await);
    }
    let one = format!("/api/dead-requests/{}", ids[0]);
    assert_eq!(harness.ask("DELETE", &one, "token-caller", &[]).await.status, 403);
    let gone = harness.ask("DELETE", &one, "token-ann", &[]).await;
    assert_eq!((gone.status, gone.body["data"]["removed"].as_u64()), (200, Some(1)), "{gone:?}");
    let twice = harness.ask("DELETE", &one, "token-ann", &[]).await;
    assert_eq!((twice.status, twice.error()), (404, "not_found"));
    let all = "/api/dead-requests?namespace=treasury&connection=fmp";
    assert_eq!(harness.ask("DELETE", all, "token-caller", &[]).await.status, 403);
    for (path, removed) in [(all, 0), (&format!("{all}&state=pending"), 2)] {
        let purged = harness.ask("DELETE", path, "token-ann", &[]).await;
        assert_eq!((purged.status, purged.body["data"]["removed"].as_u64()), (200, Some(removed)), "{path} {purged:?}");
    }
    let vague = harness.ask("DELETE", "/api/dead-requests?namespace=treasury", "token-ann", &[]).await;
    assert_eq!((vague.status, vague.error()), (400, "invalid_request"), "the connection is missing");
    let audit = harness.ledger.list_audit(None, None, 10).await.unwrap();
    let acts = audit.iter().map(|stored| &stored.entry).filter(|entry| ["discard", "purge"].contains(&&*entry.action));
    let told: Vec<_> = acts.map(|entry| (&*entry.action, &*entry.subject, &*entry.connection)).collect();
    assert_eq!(told, [("purge", "ann", "fmp"), ("discard", "ann", "fmp")]);
}

#[tokio::test]
async fn a_new_connection_of_the_same_name_never_gets_stored_parameters() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let profile = Profiles::builtin().unwrap().get("polygon").unwrap();
    // Replaced without a removal in between, as seen by a replica that missed it; no worker runs that would prune.
    harness.replace("fmp", "uid-new", profile, &harness.polygon, |_| ());
    let owner = harness.ledger.dead_request_owners().await.unwrap();
    assert_eq!(owner, [DeadRequestOwner { connection: key("fmp"), uid: "uid-fmp".to_owned() }]);
    let (stop, worker) = harness.worker("a");
    eventually("the request is deleted with its connection", async || {
        harness.ledger.get_dead_request(id).await.unwrap().is_none()
    })
    .await;
    assert!(harness.polygon.arrivals().entries.is_empty(), "the new connection was never called");
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_request_whose_connection_changed_is_parked_with_the_reason() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let (stop, worker) = harness.worker_that_sweeps_nothing("a");
    let polygon = || Profiles::builtin().unwrap().get("polygon").unwrap();
    harness.replace("fmp", "uid-new", polygon(), &harness.polygon, |_| ());
    eventually("the request is parked", async || state(&harness, id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&harness, id).await.request.reason, "connection_replaced");
    // The same object with another provider.
    harness.replace("fmp", "uid-fmp", polygon(), &harness.polygon, |_| ());
    let path = format!("/api/dead-requests/{id}/replay");
    assert_eq!(harness.ask("POST", &path, "token-ann", &[]).await.status, 202);
    eventually("the request is parked again", async || kept(&harness, id).await.request.reason == "provider_changed")
        .await;
    assert!(harness.polygon.arrivals().entries.is_empty());
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn dead_requests_are_deleted_with_their_connection_and_audited() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    let (stop, worker) = harness.worker("a");
    eventually("the request is retried", async || kept(&harness, id).await.tries == 1).await;
    harness.registry.remove(&key("fmp")).unwrap();
    eventually("the request is deleted", async || harness.ledger.get_dead_request(id).await.unwrap().is_none()).await;
    let audit = harness.ledger.list_audit(None, None, 10).await.unwrap();
    let told: Vec<_> = audit.iter().filter(|stored| stored.entry.action == "discard").collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].entry.subject, told[0].entry.reason.as_deref()), ("busbar", Some("connection_deleted")));
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_replay_uses_the_replaying_caller_and_the_current_licence_profiles() {
    let harness = harness().await;
    let only = |user: &str| {
        let subjects = vec![LicenceSubject::User(user.to_owned())];
        let actions = ["quote".to_owned()].into();
        let profile = LicenceProfile { name: "desk".into(), subjects, actions, requests_per_day: None };
        Some(Arc::new(Rights { profiles: vec![profile] }))
    };
    let connect = |user: &str| {
        harness.connect("fmp", &harness.fmp, |draft| {
            draft.breaker.consecutive_failures = 0;
            draft.rights = only(user);
        });
    };
    connect("ann");
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&harness, QUOTE).await;
    harness.fmp.recover().await;
    // Ann loses the profile between the call and the retry.
    connect("bob");
    let (stop, worker) = harness.worker("a");
    eventually("the request is parked", async || state(&harness, id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&harness, id).await.request.reason, "rights_denied");
    let path = format!("/api/dead-requests/{id}/replay");
    // Carol may replay, but no licence profile is granted to carol.
    assert_eq!(harness.ask("POST", &path, "token-carol", &[]).await.status, 202);
    eventually("the request is parked again", async || state(&harness, id).await == DeadRequestState::Parked).await;
    assert_eq!(harness.fmp.arrivals().entries.len(), 1, "only ann's own call was sent");
    assert_eq!(harness.ask("POST", &path, "token-bob", &[]).await.status, 202);
    eventually("the request is done", async || state(&harness, id).await == DeadRequestState::Done).await;
    let now = kept(&harness, id).await.request;
    assert_eq!(now.subject, "ann");
    assert!(now.caller.contains("bob") && !now.caller.contains("ann"), "{}", now.caller);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_request_is_parked_once_the_review_of_its_caller_has_expired() {
    let harness = harness().await;
    harness.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let mut old = kept(&harness, fail(&harness, QUOTE).await).await.request;
    (old.id, old.fingerprint) = (Uuid::new_v4(), "old".to_owned());
    old.at -= SignedDuration::from_mins(15);
    let caps = DeadRequestLimits { total: 10, connection: 10 };
    harness.ledger.add_dead_request(&old, caps).await.unwrap();
    harness.fmp.recover().await;
    let (stop, worker) = harness.worker("a");
    eventually("the request is parked", async || state(&harness, old.id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&harness, old.id).await.request.reason, "review_expired");
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn equal_encrypted_requests_have_equal_fingerprints_under_the_same_key_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1"), [7; 32]).unwrap();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("1"), [8; 32]).unwrap();
    let mut marks = Vec::new();
    for folder in [&folder, &folder, &other] {
        let keys = Keyring::open(folder.path()).unwrap();
        let harness = GatewayHarness::with(Plan { keys, ..Plan::default() }).await;
        harness.finastra.fail_with(Behaviour::status(503)).await.unwrap();
        let id = fail(&harness, "/finastra/b2b/collaterals/COL-00000007").await;
        marks.push(kept(&harness, id).await.request.fingerprint);
    }
    assert_eq!(marks[0], marks[1]);
    assert_ne!(marks[0], marks[2], "another key gives another fingerprint");
}
