//! Remembers the status that this process last wrote to each object, to tell our own writes from foreign ones.
//!
//! A watch returns each of our own writes as an event, and those must not cause a reconcile; a status that this process
//! has neither written nor adopted was changed by another field manager and must be overwritten. Statuses are compared
//! by digest, eight bytes an object. A write is recorded before its request leaves, because the event may arrive before
//! the response.
//!
//! The full status is cached only until the watch has returned it: otherwise thousands of idle objects would hold their
//! status in memory twice.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::domain::key::ObjectKey;

/// The author of a status that a watch event carries.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process wrote it, is writing it, or adopted it.
    Own,
    /// This process has neither written nor adopted a status of the object yet.
    Unknown,
    /// Another field manager.
    Foreign,
}

#[derive(Debug)]
struct OwnershipRecord<S> {
    /// Digest of the status last written or adopted.
    last_written: Option<u64>,
    /// Digest of the write in flight. Kept after a request without a response, which may have been applied.
    in_flight: Option<u64>,
    disputed: bool,
    /// The last write and its version, until the watch has returned it.
    pending_echo: Option<(u64, Arc<S>)>,
    /// The newest version of ours that the watch has returned.
    observed: u64,
}

impl<S> Default for OwnershipRecord<S> {
    fn default() -> Self {
        Self { last_written: None, in_flight: None, disputed: false, pending_echo: None, observed: 0 }
    }
}

/// How far the watch is behind this process's writes to one object.
#[derive(Clone, Debug)]
pub struct WriteEcho<S> {
    /// The last write and its version, while the watch has not returned it.
    pub pending: Option<(u64, Arc<S>)>,
    /// The newest version of ours that the watch has returned.
    pub observed: u64,
}

impl<S> Default for WriteEcho<S> {
    fn default() -> Self {
        Self { pending: None, observed: 0 }
    }
}

/// Status ownership of all objects of one kind, whose status is an `S`.
#[derive(Debug)]
pub struct StatusOwnership<S> {
    by_object: Mutex<HashMap<ObjectKey, OwnershipRecord<S>>>,
}

impl<S> Default for StatusOwnership<S> {
    fn default() -> Self {
        Self { by_object: Mutex::default() }
    }
}

impl<S: Serialize> StatusOwnership<S> {
    /// The origin of `status`. A foreign one marks the object as disputed until our own status is written again.
    pub fn origin(&self, key: &ObjectKey, status: Option<&S>) -> Origin {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else { return Origin::Unknown };
        let found = Some(digest(status));
        let own = found == entry.last_written || found == entry.in_flight;
        entry.disputed = !own && entry.last_written.is_some();
        match (own, entry.disputed) {
            (true, _) => Origin::Own,
            (false, true) => Origin::Foreign,
            (false, false) => Origin::Unknown,
        }
    }

    /// Whether the status on the API server was last written by another field manager.
    pub fn is_disputed(&self, key: &ObjectKey) -> bool {
        self.lock().get(key).is_some_and(|entry| entry.disputed)
    }

    /// Records that a request that writes `status` is about to be sent.
    pub fn begin_write(&self, key: &ObjectKey, status: &S) {
        self.lock().entry(key.clone()).or_default().in_flight = Some(digest(Some(status)));
    }

    /// Records `status` as what the API server stores after our write.
    pub fn record_write(&self, key: &ObjectKey, status: Option<&S>) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        (entry.last_written, entry.in_flight, entry.disputed) = (Some(digest(status)), None, false);
    }

    /// Caches the status that was written as `version` until the watch returns it, which may already have happened.
    pub fn expect_echo(&self, key: &ObjectKey, version: u64, status: Arc<S>) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        entry.pending_echo = (entry.observed < version).then_some((version, status));
    }

    /// The write that the watch has not returned yet, and the newest version that it has. Read under one lock, because
    /// the first can turn into the second at any moment.
    pub fn echo(&self, key: &ObjectKey) -> WriteEcho<S> {
        let entries = self.lock();
        let Some(entry) = entries.get(key) else { return WriteEcho::default() };
        WriteEcho { pending: entry.pending_echo.clone(), observed: entry.observed }
    }

    /// Records that the store has our status as `version`, or a newer one based on it.
    pub fn observe(&self, key: &ObjectKey, version: u64) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.observed = entry.observed.max(version);
            entry.pending_echo.take_if(|(written, _)| *written <= version);
        }
    }

    /// Adopts `status` as our own because it needs no change; ignored if a status was already written or adopted.
    pub fn adopt(&self, key: &ObjectKey, status: Option<&S>) {
        let mut entries = self.lock();
        let entry = entries.entry(key.clone()).or_default();
        if entry.last_written.is_none() {
            entry.last_written = Some(digest(status));
        }
    }

    /// Forgets an object that was deleted or replaced.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, OwnershipRecord<S>>> {
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes what is written to it, so that the JSON text is never held in memory.
struct HashWriter(DefaultHasher);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn digest<S: Serialize>(status: Option<&S>) -> u64 {
    let mut writer = HashWriter(DefaultHasher::new());
    // Our statuses are structs of strings and numbers, which serialize; a failure would look like a dispute and lose
    // nothing.
    drop(serde_json::to_writer(&mut writer, &status));
    writer.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_neither_written_nor_adopted_is_foreign() {
        let (ownership, key) = (StatusOwnership::default(), ObjectKey::new("ns", "a"));
        let origin = |status: &'static str| ownership.origin(&key, Some(&status));
        assert_eq!(origin("theirs"), Origin::Unknown);
        ownership.begin_write(&key, &"first");
        assert_eq!((origin("first"), origin("theirs")), (Origin::Own, Origin::Unknown));
        ownership.adopt(&key, Some(&"old"));
        ownership.adopt(&key, Some(&"not the first one adopted"));
        assert_eq!(origin("old"), Origin::Own);
        assert_eq!(origin("theirs"), Origin::Foreign);
        assert!(ownership.is_disputed(&key));

        // The event may arrive before the response, and the response may never arrive.
        ownership.begin_write(&key, &"new");
        assert_eq!((origin("new"), origin("old")), (Origin::Own, Origin::Own));
        ownership.record_write(&key, Some(&"new"));
        assert!(!ownership.is_disputed(&key));
        assert_eq!((origin("new"), origin("old")), (Origin::Own, Origin::Foreign));
        ownership.forget(&key);
        assert_eq!(origin("theirs"), Origin::Unknown);
    }
}
