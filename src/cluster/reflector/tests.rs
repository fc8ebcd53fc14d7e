//! What a reflector stores and reports for the events of its watch.

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicyStatus};
use crate::domain::key::Kind;

/// A reflector of policies, its store, the status ownership, and the deps with the queue that it reports to.
struct Fixture {
    reflector: Reflector<BreakerPolicy>,
    store: Store<BreakerPolicy>,
    ownership: Arc<StatusOwnership<BreakerPolicyStatus>>,
    deps: ReflectorDeps,
}

impl Fixture {
    fn new() -> Self {
        let (deps, ownership) = (ReflectorDeps::default(), Arc::default());
        let (reflector, store) = Reflector::new(deps.clone(), Arc::clone(&ownership));
        Self { reflector, store, ownership, deps }
    }

    fn list(&mut self, objects: &[Value]) {
        self.reflector.handle(Event::Init);
        for object in objects {
            self.reflector.handle(Event::InitApply(serde_json::from_str(&object.to_string()).unwrap()));
        }
        self.reflector.handle(Event::InitDone);
    }

    fn apply(&mut self, object: &Value) {
        self.reflector.handle(Event::Apply(serde_json::from_str(&object.to_string()).unwrap()));
    }

    fn take_reports(&self) -> Vec<ObjectChange> {
        std::iter::from_fn(|| self.deps.changes.try_take()).collect()
    }

    fn status(&self) -> Value {
        let object = self.store.get(&ObjectRef::new("p").within("ns")).unwrap();
        json!(object.status)
    }
}

fn policy(uid: &str, generation: i64, ready: Option<i32>) -> Value {
    let status = ready.map(|total| json!({"observedGeneration": generation, "connections": {"total": total}}));
    json!({"metadata": {"name": "p", "namespace": "ns", "uid": uid, "generation": generation}, "spec": {}, "status": status})
}

fn changed() -> ObjectChange {
    ObjectChange::Changed(Kind::BreakerPolicy, ObjectKey::new("ns", "p"))
}

fn ended(uid: &str) -> ObjectChange {
    ObjectChange::Ended { kind: Kind::BreakerPolicy, key: ObjectKey::new("ns", "p"), uid: uid.to_owned() }
}

#[test]
fn changes_of_a_list_are_reported_after_the_store_has_them() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, None)]);
    fixture.take_reports();
    fixture.reflector.handle(Event::Init);
    let listed = policy("1", 2, None).to_string();
    fixture.reflector.handle(Event::InitApply(serde_json::from_str(&listed).unwrap()));
    assert_eq!(fixture.take_reports(), [], "a reconcile would read the old object");
    fixture.reflector.handle(Event::InitDone);
    assert_eq!(fixture.take_reports(), [changed()]);
    assert_eq!(fixture.store.get(&ObjectRef::new("p").within("ns")).unwrap().metadata.generation, Some(2));
}

#[test]
fn an_object_that_a_list_no_longer_returns_or_another_replaced_has_ended() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, None)]);
    fixture.take_reports();
    fixture.list(&[policy("2", 1, None)]);
    assert_eq!(fixture.take_reports(), [ended("1"), changed()]);
    fixture.list(&[]);
    assert_eq!(fixture.take_reports(), [ended("2")]);
}

#[test]
fn own_status_is_not_reported_and_a_foreign_status_is_not_stored() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, Some(1))]);
    let key = ObjectKey::new("ns", "p");
    let own = fixture.store.get(&ObjectRef::new("p").within("ns")).unwrap().status.clone();
    fixture.ownership.adopt(&key, own.as_ref());
    fixture.take_reports();
    fixture.apply(&policy("1", 1, Some(1)));
    assert!(fixture.take_reports().is_empty());
    fixture.apply(&policy("1", 1, Some(99)));
    assert_eq!(fixture.take_reports().len(), 1);
    assert!(fixture.ownership.is_disputed(&key));
    assert_eq!(fixture.status()["connections"]["total"], 1);
    // Another object of the same name starts with its own status.
    fixture.apply(&policy("2", 1, Some(99)));
    assert_eq!(fixture.take_reports(), [ended("1"), changed()]);
    assert_eq!(fixture.status()["connections"]["total"], 99);
}

#[test]
fn a_written_status_is_cached_only_until_the_store_has_it() {
    let key = ObjectKey::new("ns", "p");
    let versioned = |version: &str| {
        let mut policy = policy("1", 1, Some(1));
        policy["metadata"]["resourceVersion"] = json!(version);
        policy
    };
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, None)]);
    let status = serde_json::from_value::<BreakerPolicy>(versioned("7")).unwrap().status.unwrap();
    let write = |fixture: &Fixture, version: u64| {
        fixture.ownership.record_write(&key, Some(&status));
        fixture.ownership.expect_echo(&key, version, Arc::new(status.clone()));
    };
    let pending = |fixture: &Fixture| fixture.ownership.echo(&key).pending.map(|(version, _)| version);
    write(&fixture, 7);
    assert_eq!(pending(&fixture), Some(7));
    // A list that has not ended has not reached the store.
    fixture.reflector.handle(Event::Init);
    fixture.reflector.handle(Event::InitApply(serde_json::from_str(&versioned("7").to_string()).unwrap()));
    assert_eq!(pending(&fixture), Some(7));
    fixture.reflector.handle(Event::InitDone);
    fixture.apply(&versioned("6"));
    assert_eq!(pending(&fixture), Some(7), "an older one");
    fixture.apply(&versioned("7"));
    assert_eq!(pending(&fixture), None);
    // The event may arrive before the response to the write.
    fixture.ownership.begin_write(&key, &status);
    fixture.apply(&versioned("9"));
    write(&fixture, 9);
    assert_eq!(pending(&fixture), None);
    // A foreign status over it is not stored, so the store does not have our write yet.
    write(&fixture, 11);
    let mut theirs = versioned("12");
    theirs["status"]["connections"]["total"] = json!(99);
    fixture.apply(&theirs);
    assert_eq!(pending(&fixture), Some(11));
}

#[test]
fn an_undecodable_object_stays_as_last_decoded_until_it_is_deleted() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, Some(1))]);
    fixture.take_reports();
    let mut bad = policy("1", 2, Some(1));
    bad["spec"]["preset"] = json!(7);
    fixture.apply(&bad);
    fixture.list(&[bad.clone()]);
    assert!(fixture.take_reports().is_empty());
    assert_eq!(fixture.store.get(&ObjectRef::new("p").within("ns")).unwrap().metadata.generation, Some(1));
    fixture.reflector.handle(Event::Delete(serde_json::from_str(&bad.to_string()).unwrap()));
    assert_eq!(fixture.take_reports(), [ended("1")]);
    assert!(fixture.store.is_empty());
}

#[test]
fn a_store_is_current_up_to_its_last_event_unless_it_misses_some() {
    let mut fixture = Fixture::new();
    let watched = fixture.reflector.watched_version();
    let versioned = |version: &str| {
        let mut object = policy("1", 1, None);
        object["metadata"]["resourceVersion"] = json!(version);
        object
    };
    fixture.list(&[versioned("9")]);
    assert!(!watched.has_reached(1), "listed objects come in no order");
    fixture.apply(&versioned("11"));
    assert!(watched.has_reached(11) && !watched.has_reached(12));
    fixture.reflector.handle(Event::Delete(serde_json::from_str(&versioned("12").to_string()).unwrap()));
    assert!(watched.has_reached(12));
    let mut undecodable = versioned("13");
    undecodable["spec"]["preset"] = json!(7);
    fixture.apply(&undecodable);
    assert!(!watched.has_reached(1), "the store shows an older form");
    fixture.apply(&versioned("14"));
    assert!(watched.has_reached(14));
    fixture.reflector.handle(Event::Init);
    assert!(!watched.has_reached(1));
}
