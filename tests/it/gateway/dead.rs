//! Failed requests in trouble: a ledger that is full, a provider that hangs, a connection that is another now, a caller who
//! has left, and whoever throws them away.

use std::sync::Arc;

use busbar::domain::rights::{LicenceProfile, LicenceSubject, Rights};
use busbar::ledger::audit::Audit as _;
use busbar::ledger::dead_requests::{DeadRequest, DeadRequestLimits, DeadRequestState, DeadRequests as _};
use busbar::ledger::encryption::Keyring;
use busbar::metrics::Metrics;
use busbar::profile::Profiles;
use busbar::testbed::sim::{Behaviour, FailurePoint, ScriptStep};
use jiff::SignedDuration;
use sqlx::{Connection as _, SqliteConnection};
use uuid::Uuid;

use super::QUOTE;
use super::later::{fail, state};
use super::world::{Plan, World, key};
use crate::kit::wait::eventually;

async fn kept(world: &World, id: Uuid) -> DeadRequest {
    world.ledger.get_dead_request(id).await.unwrap().unwrap()
}

/// A world whose circuits do not open: they would make the tries wait.
async fn world() -> World {
    let world = World::new().await;
    world.connect("fmp", &world.fmp, |draft| draft.breaker.consecutive_failures = 0);
    world.connect("polygon", &world.polygon, |draft| draft.breaker.consecutive_failures = 0);
    world
}

#[tokio::test]
async fn while_the_ledger_cannot_be_written_nothing_is_asked_again_and_what_was_asked_is_counted_afterwards() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    let mut disk = SqliteConnection::connect(&format!("sqlite:{}", world.file().display())).await.unwrap();
    let full = "CREATE TRIGGER disk_full BEFORE UPDATE ON dead_requests BEGIN SELECT RAISE(ABORT, 'full'); END";
    sqlx::query(full).execute(&mut disk).await.unwrap();
    let metrics = Metrics::new();
    let (stop, worker) = world.worker_in("a", &metrics);
    // 1 s and 2 s lie between the three.
    eventually("the worker has found the ledger full three times", async || {
        metrics.render().unwrap().contains("\nbusbar_dead_request_ledger_failures_total 3\n")
    })
    .await;
    assert_eq!(world.fmp.arrivals().entries.len(), 2, "the call, and one retry that could not be counted");
    assert_eq!(kept(&world, id).await.tries, 0);
    sqlx::query("DROP TRIGGER disk_full").execute(&mut disk).await.unwrap();
    // Its next one may follow at once: it has been due for long.
    eventually("the retry is counted", async || kept(&world, id).await.tries >= 1).await;
    let asked_again = world.fmp.arrivals().entries.len() - 1;
    let counted = usize::try_from(kept(&world, id).await.tries).unwrap();
    assert!(
        asked_again <= counted + 1,
        "{asked_again} retries, of which {counted} are counted, and one may be under way"
    );
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_provider_that_hangs_delays_its_own_requests_only_and_has_two_at_once() {
    let world = world().await;
    world.polygon.fail_with(Behaviour::status(503)).await.unwrap();
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    for n in 0..6 {
        fail(&world, &format!("/api/providers/treasury/polygon/quote?symbol=S{n}")).await;
    }
    let id = fail(&world, QUOTE).await;
    world.polygon.fail_with(ScriptStep::from(Behaviour::Stall(FailurePoint::BeforeHead))).await.unwrap();
    world.fmp.recover().await;
    let seen = world.polygon.arrivals().next;
    let (stop, worker) = world.worker("a");
    eventually("the hanging ones are asked", async || world.polygon.arrivals_since(seen).entries.len() == 2).await;
    eventually("the other is answered", async || state(&world, id).await == DeadRequestState::Done).await;
    assert_eq!(world.polygon.arrivals_since(seen).entries.len(), 2);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn whoever_polls_what_is_parked_adds_nothing() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    assert_ne!(id, other_caller(&world).await, "another caller's request is another");
    world.fmp.fail_with(Behaviour::status(403)).await.unwrap();
    let (stop, worker) = world.worker("a");
    eventually("it is parked", async || state(&world, id).await == DeadRequestState::Parked).await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let seen = kept(&world, id).await.seen;
    for _ in 0..3 {
        assert_eq!(fail(&world, QUOTE).await, id);
    }
    let now = kept(&world, id).await;
    assert_eq!((now.state, now.seen), (DeadRequestState::Parked, seen + 3));
    stop.cancel();
    worker.await.unwrap();
}

async fn other_caller(world: &World) -> Uuid {
    let said = world.ask("GET", QUOTE, "token-bob", &[]).await;
    Uuid::parse_str(said.body["data"]["dead_request_id"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn one_or_all_of_a_connection_are_thrown_away_by_whoever_may_delete() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fail(&world, &format!("/api/providers/treasury/fmp/quote?symbol=S{n}")).await);
    }
    let one = format!("/api/dead-requests/{}", ids[0]);
    assert_eq!(world.ask("DELETE", &one, "token-caller", &[]).await.status, 403);
    let gone = world.ask("DELETE", &one, "token-ann", &[]).await;
    assert_eq!((gone.status, gone.body["data"]["removed"].as_u64()), (200, Some(1)), "{gone:?}");
    let twice = world.ask("DELETE", &one, "token-ann", &[]).await;
    assert_eq!((twice.status, twice.error()), (404, "not_found"));
    let all = "/api/dead-requests?namespace=treasury&connection=fmp";
    assert_eq!(world.ask("DELETE", all, "token-caller", &[]).await.status, 403);
    for (path, removed) in [(all, 0), (&format!("{all}&state=pending"), 2)] {
        let purged = world.ask("DELETE", path, "token-ann", &[]).await;
        assert_eq!((purged.status, purged.body["data"]["removed"].as_u64()), (200, Some(removed)), "{path} {purged:?}");
    }
    let vague = world.ask("DELETE", "/api/dead-requests?namespace=treasury", "token-ann", &[]).await;
    assert_eq!((vague.status, vague.error()), (400, "invalid_request"), "whose?");
    let audit = world.ledger.list_audit(None, None, 10).await.unwrap();
    let acts = audit.iter().map(|stored| &stored.entry).filter(|entry| ["discard", "purge"].contains(&&*entry.action));
    let told: Vec<_> = acts.map(|entry| (&*entry.action, &*entry.subject, &*entry.connection)).collect();
    assert_eq!(told, [("purge", "ann", "fmp"), ("discard", "ann", "fmp")]);
}

#[tokio::test]
async fn another_connection_of_the_same_name_never_gets_the_parameters_of_the_first() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    let profile = Profiles::builtin().unwrap().get("polygon").unwrap();
    // Not removed in between, as it is for whoever missed that; no worker runs that would sweep.
    world.replace("fmp", "uid-new", profile, &world.polygon, |_| ());
    let owner = world.ledger.dead_request_owners().await.unwrap();
    assert_eq!(owner, [(key("fmp"), "uid-fmp".to_owned())]);
    let (stop, worker) = world.worker("a");
    eventually("it went with its connection", async || world.ledger.get_dead_request(id).await.unwrap().is_none())
        .await;
    assert!(world.polygon.arrivals().entries.is_empty(), "the other one was never asked");
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn what_is_due_for_a_connection_that_changed_under_it_is_parked_with_the_reason() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    let (stop, worker) = world.worker_that_sweeps_nothing("a");
    let polygon = || Profiles::builtin().unwrap().get("polygon").unwrap();
    world.replace("fmp", "uid-new", polygon(), &world.polygon, |_| ());
    eventually("it is parked", async || state(&world, id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&world, id).await.request.reason, "connection_replaced");
    // The same object, but of another provider.
    world.replace("fmp", "uid-fmp", polygon(), &world.polygon, |_| ());
    let path = format!("/api/dead-requests/{id}/replay");
    assert_eq!(world.ask("POST", &path, "token-ann", &[]).await.status, 202);
    eventually("it is parked again", async || kept(&world, id).await.request.reason == "provider_changed").await;
    assert!(world.polygon.arrivals().entries.is_empty());
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn failed_requests_go_when_their_connection_goes_and_the_audit_says_so() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    let (stop, worker) = world.worker("a");
    eventually("it is asked again", async || kept(&world, id).await.tries == 1).await;
    world.registry.remove(&key("fmp")).unwrap();
    eventually("it is gone", async || world.ledger.get_dead_request(id).await.unwrap().is_none()).await;
    let audit = world.ledger.list_audit(None, None, 10).await.unwrap();
    let told: Vec<_> = audit.iter().filter(|stored| stored.entry.action == "discard").collect();
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].entry.subject, told[0].entry.reason.as_deref()), ("busbar", Some("connection_deleted")));
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn a_replay_is_made_in_the_name_of_whoever_replays_and_judged_by_the_profiles_of_now() {
    let world = world().await;
    let only = |user: &str| {
        let subjects = vec![LicenceSubject::User(user.to_owned())];
        let actions = ["quote".to_owned()].into();
        let profile = LicenceProfile { name: "desk".into(), subjects, actions, requests_per_day: None };
        Some(Arc::new(Rights { profiles: vec![profile] }))
    };
    let connect = |user: &str| {
        world.connect("fmp", &world.fmp, |draft| {
            draft.breaker.consecutive_failures = 0;
            draft.rights = only(user);
        });
    };
    connect("ann");
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let id = fail(&world, QUOTE).await;
    world.fmp.recover().await;
    // Between the call and the retry ann has lost her profile.
    connect("bob");
    let (stop, worker) = world.worker("a");
    eventually("it is parked", async || state(&world, id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&world, id).await.request.reason, "rights_denied");
    let path = format!("/api/dead-requests/{id}/replay");
    // Carol may replay, but the connection's data are not hers.
    assert_eq!(world.ask("POST", &path, "token-carol", &[]).await.status, 202);
    eventually("it is parked again", async || state(&world, id).await == DeadRequestState::Parked).await;
    assert_eq!(world.fmp.arrivals().entries.len(), 1, "only ann's own call was ever sent");
    assert_eq!(world.ask("POST", &path, "token-bob", &[]).await.status, 202);
    eventually("it is answered", async || state(&world, id).await == DeadRequestState::Done).await;
    let now = kept(&world, id).await.request;
    assert_eq!(now.subject, "ann");
    assert!(now.caller.contains("bob") && !now.caller.contains("ann"), "{}", now.caller);
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn nothing_is_asked_in_the_name_of_a_caller_whose_rights_were_reviewed_too_long_ago() {
    let world = world().await;
    world.fmp.fail_with(Behaviour::status(503)).await.unwrap();
    let mut old = kept(&world, fail(&world, QUOTE).await).await.request;
    (old.id, old.fingerprint) = (Uuid::new_v4(), "old".to_owned());
    old.at -= SignedDuration::from_mins(15);
    let caps = DeadRequestLimits { total: 10, connection: 10 };
    world.ledger.add_dead_request(&old, caps).await.unwrap();
    world.fmp.recover().await;
    let (stop, worker) = world.worker("a");
    eventually("it is parked", async || state(&world, old.id).await == DeadRequestState::Parked).await;
    assert_eq!(kept(&world, old.id).await.request.reason, "review_expired");
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test]
async fn replicas_with_the_same_key_and_processes_after_a_restart_know_the_same_sealed_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1"), [7; 32]).unwrap();
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("1"), [8; 32]).unwrap();
    let mut marks = Vec::new();
    for folder in [&folder, &folder, &other] {
        let keys = Keyring::open(folder.path()).unwrap();
        let world = World::with(Plan { keys, ..Plan::default() }).await;
        world.finastra.fail_with(Behaviour::status(503)).await.unwrap();
        let id = fail(&world, "/finastra/b2b/collaterals/COL-00000007").await;
        marks.push(kept(&world, id).await.request.fingerprint);
    }
    assert_eq!(marks[0], marks[1]);
    assert_ne!(marks[0], marks[2], "whoever has not the key cannot guess");
}
