//! A mirror and what its watch brings.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::{BreakerPolicy, BreakerPolicyStatus};
use crate::cluster::claims::Claims;
use crate::cluster::references::References;
use crate::domain::key::Kind;

/// What was told, in order.
type Told = Arc<Mutex<Vec<(Change, Option<i64>)>>>;

/// A mirror of policies, its store, what it knows of statuses, and what it has told.
struct Watched {
    filling: Filling<BreakerPolicy>,
    store: Store<BreakerPolicy>,
    claims: Arc<Claims>,
    told: Told,
}

impl Watched {
    fn new() -> Self {
        let (claims, told) = (Arc::<Claims>::default(), Arc::<Mutex<Vec<_>>>::default());
        let store = Arc::<Mutex<Option<Store<BreakerPolicy>>>>::default();
        let sink = {
            let (told, store) = (Arc::clone(&told), Arc::clone(&store));
            // Whoever is told looks at once.
            move |change: Change| {
                let name = ObjectRef::<BreakerPolicy>::new(&change.key.name).within(&change.key.namespace);
                let seen = store.lock().unwrap().as_ref().and_then(|store| store.get(&name)?.metadata.generation);
                told.lock().unwrap().push((change, seen));
            }
        };
        let shared =
            Shared { references: Arc::new(References::default()), claims: Arc::clone(&claims), sink: Arc::new(sink) };
        let (filling, reader) = Filling::new(shared);
        *store.lock().unwrap() = Some(reader.clone());
        Self { filling, store: reader, claims, told }
    }

    fn list(&mut self, objects: &[Value]) {
        self.filling.take(Event::Init);
        for object in objects {
            self.filling.take(Event::InitApply(serde_json::from_str(&object.to_string()).unwrap()));
        }
        self.filling.take(Event::InitDone);
    }

    fn apply(&mut self, object: &Value) {
        self.filling.take(Event::Apply(serde_json::from_str(&object.to_string()).unwrap()));
    }

    fn told(&self) -> Vec<(Change, Option<i64>)> {
        std::mem::take(&mut self.told.lock().unwrap())
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
fn what_a_list_brings_is_told_when_the_store_has_it() {
    let mut watched = Watched::new();
    watched.list(&[policy("1", 1, None)]);
    watched.told();
    watched.list(&[policy("1", 2, None)]);
    let told = watched.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1, Some(2), "whoever was told looked and found what was there before");
    watched.list(&[]);
    assert!(watched.told()[0].0.gone);
}

#[test]
fn a_status_of_our_own_is_no_news_and_somebody_elses_is_not_believed() {
    let mut watched = Watched::new();
    watched.list(&[policy("1", 1, Some(1))]);
    let key = ObjectKey::new("ns", "p");
    let ours = watched.store.get(&ObjectRef::new("p").within("ns")).unwrap().status.clone();
    watched.claims.found(Kind::BreakerPolicy, &key, ours.as_ref());
    watched.told();
    watched.apply(&policy("1", 1, Some(1)));
    assert!(watched.told().is_empty());
    watched.apply(&policy("1", 1, Some(99)));
    assert_eq!(watched.told().len(), 1);
    assert!(watched.claims.disputed(Kind::BreakerPolicy, &key));
    assert_eq!(watched.status()["connections"]["total"], 1);
    // Another of the name brings its own.
    watched.apply(&policy("2", 1, Some(99)));
    assert!(watched.told()[0].0.replaced);
    assert_eq!(watched.status()["connections"]["total"], 99);
}

#[test]
fn what_was_written_is_kept_until_the_store_has_it_and_no_longer() {
    let key = ObjectKey::new("ns", "p");
    let versioned = |version: &str| {
        let mut policy = policy("1", 1, Some(1));
        policy["metadata"]["resourceVersion"] = json!(version);
        policy
    };
    let mut watched = Watched::new();
    watched.list(&[policy("1", 1, None)]);
    let status = serde_json::from_value::<BreakerPolicy>(versioned("7")).unwrap().status.unwrap();
    let write = |watched: &Watched, version: u64| {
        watched.claims.wrote(Kind::BreakerPolicy, &key, Some(&status));
        watched.claims.keep(Kind::BreakerPolicy, &key, version, Arc::new(status.clone()));
    };
    let awaited = |watched: &Watched| {
        let (awaited, _) = watched.claims.awaited::<BreakerPolicyStatus>(Kind::BreakerPolicy, &key);
        awaited.map(|(version, _)| version)
    };
    write(&watched, 7);
    assert_eq!(awaited(&watched), Some(7));
    // A list that is not at its end has not reached the store.
    watched.filling.take(Event::Init);
    watched.filling.take(Event::InitApply(serde_json::from_str(&versioned("7").to_string()).unwrap()));
    assert_eq!(awaited(&watched), Some(7));
    watched.filling.take(Event::InitDone);
    watched.apply(&versioned("6"));
    assert_eq!(awaited(&watched), Some(7), "an older one");
    watched.apply(&versioned("7"));
    assert_eq!(awaited(&watched), None);
    // The event may come before the answer to the write.
    watched.claims.sending(Kind::BreakerPolicy, &key, &status);
    watched.apply(&versioned("9"));
    write(&watched, 9);
    assert_eq!(awaited(&watched), None);
    // What others wrote over it is not believed, so ours is not in the store.
    write(&watched, 11);
    let mut theirs = versioned("12");
    theirs["status"]["connections"]["total"] = json!(99);
    watched.apply(&theirs);
    assert_eq!(awaited(&watched), Some(11));
}

#[test]
fn an_object_that_does_not_decode_stays_as_it_was_until_it_goes() {
    let mut watched = Watched::new();
    watched.list(&[policy("1", 1, Some(1))]);
    watched.told();
    let mut bad = policy("1", 2, Some(1));
    bad["spec"]["preset"] = json!(7);
    watched.apply(&bad);
    watched.list(&[bad.clone()]);
    assert!(watched.told().is_empty());
    assert_eq!(watched.store.get(&ObjectRef::new("p").within("ns")).unwrap().metadata.generation, Some(1));
    watched.filling.take(Event::Delete(serde_json::from_str(&bad.to_string()).unwrap()));
    assert!(watched.told()[0].0.gone && watched.store.is_empty());
}
