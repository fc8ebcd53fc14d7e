//! What a mirror remembers of every object, to know which of the API server's words are news.

use std::collections::{HashMap, HashSet};

use kube::ResourceExt as _;

use crate::cluster::stores::Watched;
use crate::domain::key::ObjectKey;

/// What makes an object worth a reconcile when it changes.
#[derive(PartialEq, Eq)]
struct Mark {
    uid: Option<String>,
    generation: Option<i64>,
    requested_at: Option<String>,
    deleting: bool,
}

impl Mark {
    fn of<K: Watched>(object: &K) -> Self {
        Self {
            uid: object.uid(),
            generation: object.meta().generation,
            requested_at: object.requested_at().map(str::to_owned),
            deleting: object.meta().deletion_timestamp.is_some(),
        }
    }
}

/// What a state of an object is to those who know the last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing.
    None,
    /// It is new, or changed.
    Changed,
    /// It is another of the same name.
    Replaced,
}

/// Remembers the last mark of every object, and which of them the running relist has met.
#[derive(Default)]
pub(super) struct Seen {
    marks: HashMap<ObjectKey, Mark>,
    listed: Option<HashSet<ObjectKey>>,
}

impl Seen {
    /// Whether this state of the object is news.
    pub(super) fn note<K: Watched>(&mut self, object: &K) -> News {
        let mark = Mark::of(object);
        let key = object.key();
        self.met(&key);
        match self.marks.get(&key) {
            Some(last) if *last == mark => return News::None,
            Some(last) if last.uid == mark.uid => {}
            Some(_) => {
                self.marks.insert(key, mark);
                return News::Replaced;
            }
            None => {}
        }
        self.marks.insert(key, mark);
        News::Changed
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) -> bool {
        self.marks.remove(key).is_some()
    }

    /// Begins a relist.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// Whether a relist is under way; if so, it has met `key`.
    pub(super) fn met(&mut self, key: &ObjectKey) -> bool {
        self.listed.as_mut().map(|listed| listed.insert(key.clone())).is_some()
    }

    /// Ends a relist: what it did not meet is gone.
    pub(super) fn end_list(&mut self) -> Vec<ObjectKey> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone: Vec<_> = self.marks.keys().filter(|k| !listed.contains(*k)).cloned().collect();
        for key in &gone {
            self.marks.remove(key);
        }
        gone
    }
}
