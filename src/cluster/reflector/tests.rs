//! What a reflector stores and reports for the events of its watch.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicyStatus};
use crate::cluster::references::ReferenceIndex;
use crate::cluster::status_ownership::StatusOwnership;
use crate::domain::key::Kind;

/// The reported changes in order, each with the generation that the store had at that moment.
type Reports = Arc<Mutex<Vec<(ObjectChange, Option<i64>)>>>;

/// A reflector of policies, its store, the status ownership, and the changes it reported.
struct Fixture {
    reflector: Reflector<BreakerPolicy>,
    store: Store<BreakerPolicy>,
    ownership: Arc<StatusOwnership>,
    reports: Reports,
}

impl Fixture {
    fn new() -> Self {
        let (ownership, reports) = (Arc::<StatusOwnership>::default(), Arc::<Mutex<Vec<_>>>::default());
        let store = Arc::<Mutex<Option<Store<BreakerPolicy>>>>::default();
        let on_change = {
            let (reports, store) = (Arc::clone(&reports), Arc::clone(&store));
            // Reads the store at once, as a reconcile may.
            move |change: ObjectChange| {
                let name = ObjectRef::<BreakerPolicy>::new(&change.key.name).within(&change.key.namespace);
                let stored = store.lock().unwrap().as_ref().and_then(|store| store.get(&name)?.metadata.generation);
                reports.lock().unwrap().push((change, stored));
            }
        };
        let deps = ReflectorDeps {
            references: Arc::new(ReferenceIndex::default()),
            ownership: Arc::clone(&ownership),
            on_change: Arc::new(on_change),
        };
        let (reflector, reader) = Reflector::new(deps);
        *store.lock().unwrap() = Some(reader.clone());
        Self { reflector, store: reader, ownership, reports }
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

    fn take_reports(&self) -> Vec<(ObjectChange, Option<i64>)> {
        std::mem::take(&mut self.reports.lock().unwrap())
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

#[test]
fn changes_of_a_list_are_reported_after_the_store_has_them() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, None)]);
    fixture.take_reports();
    fixture.list(&[policy("1", 2, None)]);
    let reports = fixture.take_reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].1, Some(2), "the handler read the old object");
    fixture.list(&[]);
    assert!(fixture.take_reports()[0].0.deleted);
}

#[test]
fn own_status_is_not_reported_and_a_foreign_status_is_not_stored() {
    let mut fixture = Fixture::new();
    fixture.list(&[policy("1", 1, Some(1))]);
    let key = ObjectKey::new("ns", "p");
    let own = fixture.store.get(&ObjectRef::new("p").within("ns")).unwrap().status.clone();
    fixture.ownership.adopt(Kind::BreakerPolicy, &key, own.as_ref());
    fixture.take_reports();
    fixture.apply(&policy("1", 1, Some(1)));
    assert!(fixture.take_reports().is_empty());
    fixture.apply(&policy("1", 1, Some(99)));
    assert_eq!(fixture.take_reports().len(), 1);
    assert!(fixture.ownership.is_disputed(Kind::BreakerPolicy, &key));
    assert_eq!(fixture.status()["connections"]["total"], 1);
    // Another object of the same name starts with its own status.
    fixture.apply(&policy("2", 1, Some(99)));
    assert!(fixture.take_reports()[0].0.replaced);
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
        fixture.ownership.record_write(Kind::BreakerPolicy, &key, Some(&status));
        fixture.ownership.expect_echo(Kind::BreakerPolicy, &key, version, Arc::new(status.clone()));
    };
    let pending = |fixture: &Fixture| {
        let echo = fixture.ownership.echo::<BreakerPolicyStatus>(Kind::BreakerPolicy, &key);
        echo.pending.map(|(version, _)| version)
    };
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
    fixture.ownership.begin_write(Kind::BreakerPolicy, &key, &status);
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
    assert!(fixture.take_reports()[0].0.deleted && fixture.store.is_empty());
}
