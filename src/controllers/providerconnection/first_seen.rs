//! When each version of a connection was first seen, in the order of the reads of Secrets.
//!
//! What is read of a Secret belongs to one object at one generation: a copy that was read before this version was first
//! seen may be the Secret of a former tenant of the namespace, or the one that belongs to the former address. The
//! version includes the profile, which decides on addresses too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::v1alpha1::ProviderConnection;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::secrets::ReadMark;
use crate::controllers::resolution_cache::ObjectStamp;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::profile::Profile;

/// A version of a connection.
#[derive(Debug)]
struct SeenVersion {
    object: ObjectStamp,
    profile: Option<Arc<Profile>>,
    /// The request (`requestedAt`) that it was last seen with.
    requested: Option<String>,
    seen: Seen,
}

/// When a version of a connection was first seen.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// Only copies of Secrets that were read after it are used.
    pub mark: ReadMark,
    /// When it was first seen.
    pub at: Mono,
    /// Whether the Secrets were read again after the version had been left alone for a moment.
    pub settled: bool,
    /// Since when its Secrets could not be used: they were missing, forbidden, or without a required key.
    pub unusable: Option<Mono>,
}

/// The current version of each connection: one entry per object.
#[derive(Debug, Default)]
pub struct FirstSeen {
    by_key: Mutex<HashMap<ObjectKey, SeenVersion>>,
}

impl FirstSeen {
    /// When this version of `object` was first seen; `now` if it is new. A new request requires Secrets that are read
    /// after it: the requester may have just changed them.
    pub fn of(&self, object: &ProviderConnection, profile: Option<&Arc<Profile>>, now: impl FnOnce() -> Seen) -> Seen {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = object.key();
        let requested = object.requested_at();
        let known = by_key.get_mut(&key).filter(|known| {
            let same_profile = match (&known.profile, profile) {
                (Some(known), Some(profile)) => Arc::ptr_eq(known, profile),
                (None, None) => true,
                _ => false,
            };
            same_profile && known.object.matches(object)
        });
        if let Some(known) = known {
            if requested.is_some() && known.requested.as_deref() != requested {
                known.requested = requested.map(str::to_owned);
                known.seen = Seen { mark: now().mark, unusable: None, ..known.seen };
            }
            return known.seen;
        }
        let (object, requested, seen) = (ObjectStamp::of(object), requested.map(str::to_owned), now());
        by_key.insert(key, SeenVersion { object, profile: profile.cloned(), requested, seen });
        seen
    }

    /// Records whether the Secrets of this version can be used; returns since when they cannot: from `now` on, if that
    /// is new.
    pub fn set_unusable(&self, object: &ProviderConnection, unusable: bool, now: Mono) -> Option<Mono> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let known = by_key.get_mut(&object.key()).filter(|known| known.object.matches(object))?;
        known.seen.unusable = unusable.then(|| known.seen.unusable.unwrap_or(now));
        known.seen.unusable
    }

    /// Requires Secrets that are read after `mark`, because the version has settled.
    pub fn settle(&self, object: &ProviderConnection, mark: ReadMark) {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = by_key.get_mut(&object.key()).filter(|known| known.object.matches(object)) {
            known.seen = Seen { mark, settled: true, ..known.seen };
        }
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Forgets a deleted or replaced object.
    pub fn forget(&self, key: &ObjectKey) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt as _;

    use super::*;
    use crate::api::REQUESTED_AT;
    use crate::clock::Clock;
    use crate::cluster::secrets::SecretReader;
    use crate::profile::Profiles;

    fn object(uid: &str, generation: i64) -> ProviderConnection {
        let spec = serde_yaml::from_str("{provider: generic, environment: Sandbox}").unwrap();
        let mut object = ProviderConnection::new("bank", spec);
        object.metadata.namespace = Some("ns".to_owned());
        (object.metadata.uid, object.metadata.generation) = (Some(uid.into()), Some(generation));
        object
    }

    #[test]
    fn a_new_uid_generation_or_profile_is_seen_anew() {
        let (seen, one, other) = (FirstSeen::default(), profile(), profile());
        let at = |object: &ProviderConnection, profile: &Arc<Profile>, seconds: u64| {
            let now = Seen { at: Mono::ZERO + std::time::Duration::from_secs(seconds), ..Seen::default() };
            seen.of(object, Some(profile), || now).at.since(Mono::ZERO).as_secs()
        };
        assert_eq!((at(&object("1", 1), &one, 1), at(&object("1", 1), &one, 2)), (1, 1));
        assert_eq!(at(&object("1", 2), &one, 3), 3, "another generation");
        assert_eq!(at(&object("2", 2), &one, 4), 4, "another object");
        assert_eq!(at(&object("2", 2), &other, 5), 5, "a profile that was loaded anew");
        assert_eq!(at(&object("2", 2), &other, 6), 5);
        seen.forget(&ObjectKey::new("ns", "bank"));
        assert_eq!(at(&object("2", 2), &other, 7), 7);
    }

    #[tokio::test]
    async fn a_new_request_requires_later_reads_and_restarts_the_wait_for_a_missing_secret() {
        let (seen, mut object, one) = (FirstSeen::default(), object("1", 1), profile());
        let reader = SecretReader::new(kube_client(), Clock::system(), std::time::Duration::ZERO);
        let of = |object: &ProviderConnection| {
            seen.of(object, Some(&one), || Seen { mark: reader.mark(), ..Seen::default() })
        };
        let first = of(&object);
        assert_eq!(seen.set_unusable(&object, true, Mono::from_nanos(7)), Some(Mono::from_nanos(7)));
        assert_eq!(seen.set_unusable(&object, true, Mono::from_nanos(9)), Some(Mono::from_nanos(7)), "since the first");
        assert_eq!(of(&object).mark, first.mark);
        object.annotations_mut().insert(REQUESTED_AT.into(), "now".into());
        let requested = of(&object);
        assert!(requested.mark > first.mark && requested.unusable.is_none());
        assert_eq!(of(&object), requested, "one request is one read");
        object.annotations_mut().clear();
        assert_eq!(of(&object), requested, "a removed annotation requests nothing");
        assert_eq!(seen.set_unusable(&object, false, Mono::ZERO), None);
    }

    fn kube_client() -> kube::Client {
        let never = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("unreachable"))
        });
        kube::Client::new(never, "ns")
    }

    fn profile() -> Arc<Profile> {
        Profiles::builtin().unwrap().get("generic").unwrap()
    }

    #[test]
    fn a_settled_version_requires_a_later_read() {
        let (seen, object) = (FirstSeen::default(), object("1", 1));
        let now = Seen::default();
        assert!(!seen.of(&object, None, || now).settled);
        let later = ReadMark::default();
        seen.settle(&object, later);
        assert_eq!(seen.of(&object, None, || now), Seen { mark: later, settled: true, ..now });
    }
}
