//! What the statuses said when they were last ours: how a status that somebody else wrote is told from our own.
//!
//! A watch brings back every write of ours, and those deserve no reconcile; a status that this process has neither
//! written nor found to be right is somebody else's, and ours must be there again. Compared are digests, eight bytes an
//! object. What is being written is known before the request leaves, for its event may come before the answer.
//!
//! What was written is kept whole for no longer than until the watch has brought it back: thousands of objects at rest
//! would otherwise have each its status twice.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::domain::key::{Kind, ObjectKey};

/// Whose a status is that came by watch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// As this process wrote it, is writing it, or found it right.
    Ours,
    /// This process has not judged the object yet.
    Unknown,
    /// Somebody else's.
    Foreign,
}

#[derive(Debug, Default)]
struct Claim {
    stands: Option<u64>,
    /// Stays after a request without an answer, which may have been obeyed all the same.
    sent: Option<u64>,
    disputed: bool,
    /// What was written as which version, until the watch has brought it back.
    awaited: Option<(u64, Arc<dyn Any + Send + Sync>)>,
    /// The newest version that it has brought back.
    back: u64,
}

/// What was written, with its version, while the watch has not brought it back; and the newest version that it has.
pub type Awaited<S> = (Option<(u64, Arc<S>)>, u64);

/// The claims of one process, over all kinds.
#[derive(Debug, Default)]
pub struct Claims {
    by_object: Mutex<HashMap<(Kind, ObjectKey), Claim>>,
}

impl Claims {
    /// Whose `status` is. One that is somebody else's is disputed from now on, until ours is written.
    pub fn whose<S: Serialize>(&self, kind: Kind, key: &ObjectKey, status: Option<&S>) -> Whose {
        let mut claims = self.lock();
        let Some(claim) = claims.get_mut(&(kind, key.clone())) else { return Whose::Unknown };
        let found = Some(digest(status));
        let ours = found == claim.stands || found == claim.sent;
        claim.disputed = !ours && claim.stands.is_some();
        match (ours, claim.disputed) {
            (true, _) => Whose::Ours,
            (false, true) => Whose::Foreign,
            (false, false) => Whose::Unknown,
        }
    }

    /// Whether somebody else's words stand in the status.
    pub fn disputed(&self, kind: Kind, key: &ObjectKey) -> bool {
        self.lock().get(&(kind, key.clone())).is_some_and(|claim| claim.disputed)
    }

    /// A request that writes `status` is about to leave.
    pub fn sending<S: Serialize>(&self, kind: Kind, key: &ObjectKey, status: &S) {
        self.lock().entry((kind, key.clone())).or_default().sent = Some(digest(Some(status)));
    }

    /// `status` is what the API server keeps after a write of ours.
    pub fn wrote<S: Serialize>(&self, kind: Kind, key: &ObjectKey, status: Option<&S>) {
        let mut claims = self.lock();
        let claim = claims.entry((kind, key.clone())).or_default();
        (claim.stands, claim.sent, claim.disputed) = (Some(digest(status)), None, false);
    }

    /// Keeps what was written, as `version`, until the watch brings it back; which it may have done already.
    pub fn keep<S: Send + Sync + 'static>(&self, kind: Kind, key: &ObjectKey, version: u64, status: Arc<S>) {
        let mut claims = self.lock();
        let claim = claims.entry((kind, key.clone())).or_default();
        claim.awaited = (claim.back < version).then_some((version, status));
    }

    /// What was written and did not come back yet, with its version; and the newest version that did. Read together, because
    /// one becomes the other at any moment.
    pub fn awaited<S: Send + Sync + 'static>(&self, kind: Kind, key: &ObjectKey) -> Awaited<S> {
        let claims = self.lock();
        let Some(claim) = claims.get(&(kind, key.clone())) else { return (None, 0) };
        let awaited = claim.awaited.clone().and_then(|(version, status)| Some((version, status.downcast().ok()?)));
        (awaited, claim.back)
    }

    /// The store has a status of ours as `version`, or something newer that we go on from.
    pub fn back(&self, kind: Kind, key: &ObjectKey, version: u64) {
        if let Some(claim) = self.lock().get_mut(&(kind, key.clone())) {
            claim.back = claim.back.max(version);
            claim.awaited.take_if(|(written, _)| *written <= version);
        }
    }

    /// `status` was found there and nothing else is to be said; remembered only if nothing is yet.
    pub fn found<S: Serialize>(&self, kind: Kind, key: &ObjectKey, status: Option<&S>) {
        let mut claims = self.lock();
        let claim = claims.entry((kind, key.clone())).or_default();
        if claim.stands.is_none() {
            claim.stands = Some(digest(status));
        }
    }

    /// Forgets an object that is gone, or was replaced by another of its name.
    pub fn forget(&self, kind: Kind, key: &ObjectKey) {
        self.lock().remove(&(kind, key.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Kind, ObjectKey), Claim>> {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes what is printed into it, so that nothing need be kept.
struct Sink(DefaultHasher);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest<S: Serialize>(status: Option<&S>) -> u64 {
    let mut sink = Sink(DefaultHasher::new());
    // Our statuses are structs of texts and numbers, which print; and what did not would be a dispute, not a loss.
    drop(serde_json::to_writer(&mut sink, &status));
    sink.0.finish()
}

/// What stands in `found` and not in `ours`, as a merge patch that takes it out; `None` if there is nothing. Server-side
/// apply takes back what others changed of ours, and leaves what they added.
pub fn surplus(found: &Value, ours: &Value) -> Option<Value> {
    match (found, ours) {
        (Value::Object(found), Value::Object(ours)) => {
            let patch: serde_json::Map<String, Value> = found
                .iter()
                .filter_map(|(name, value)| match ours.get(name) {
                    None => Some((name.clone(), Value::Null)),
                    Some(own) => surplus(value, own).map(|patch| (name.clone(), patch)),
                })
                .collect();
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        // Lists of things with names: what is left keeps the order and the content that it has.
        (Value::Array(found), Value::Array(ours)) => {
            let known = |item: &&Value| ours.iter().any(|own| name(own) == name(item));
            let left: Vec<Value> = found.iter().filter(known).cloned().collect();
            (left.len() < found.len()).then_some(Value::Array(left))
        }
        _ => None,
    }
}

/// What tells an item of a list from its neighbours: its name, or all of it.
fn name(item: &Value) -> &Value {
    ["type", "name", "id"].iter().find_map(|key| item.get(key)).unwrap_or(item)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_we_have_neither_written_nor_found_right_is_somebody_elses() {
        let (claims, key) = (Claims::default(), ObjectKey::new("ns", "a"));
        let whose = |status: &str| claims.whose(Kind::SyncJob, &key, Some(&status));
        assert_eq!(whose("theirs"), Whose::Unknown);
        claims.sending(Kind::SyncJob, &key, &"first");
        assert_eq!((whose("first"), whose("theirs")), (Whose::Ours, Whose::Unknown));
        claims.found(Kind::SyncJob, &key, Some(&"old"));
        claims.found(Kind::SyncJob, &key, Some(&"not as it was first found"));
        assert_eq!(whose("old"), Whose::Ours);
        assert_eq!(whose("theirs"), Whose::Foreign);
        assert!(claims.disputed(Kind::SyncJob, &key));

        // The event may come before the answer, and the answer may never come.
        claims.sending(Kind::SyncJob, &key, &"new");
        assert_eq!((whose("new"), whose("old")), (Whose::Ours, Whose::Ours));
        claims.wrote(Kind::SyncJob, &key, Some(&"new"));
        assert!(!claims.disputed(Kind::SyncJob, &key));
        assert_eq!((whose("new"), whose("old")), (Whose::Ours, Whose::Foreign));
        claims.forget(Kind::SyncJob, &key);
        assert_eq!(whose("theirs"), Whose::Unknown);
    }

    #[test]
    fn what_others_added_is_taken_out_and_nothing_else() {
        let ours =
            json!({"health": "Healthy", "policy": {"name": "p"}, "conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(surplus(&ours, &ours), None);
        let found = json!({
            "health": "Unhealthy", "host": "theirs", "policy": {"name": "p", "source": "Ref"},
            "conditions": [{"type": "Theirs"}, {"type": "Ready", "status": "False"}],
        });
        let wanted = json!({
            "host": null, "policy": {"source": null}, "conditions": [{"type": "Ready", "status": "False"}],
        });
        assert_eq!(surplus(&found, &ours), Some(wanted));
    }
}
