//! Secrets, one `get` at a time.
//!
//! Busbar never lists or watches Secrets: it may only read those that an object of the same namespace names. A copy is
//! shared by all who name the Secret and is read again once it is older than the refresh time. What is kept is wiped
//! when dropped and has no `Debug` that would print it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretSlice;

use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;

/// One reading of a Secret.
pub struct SecretData {
    /// Its version when it was read: changes with every change, tells nothing of the content.
    pub resource_version: String,
    values: BTreeMap<String, SecretSlice<u8>>,
}

impl SecretData {
    /// A stand-in without any value: under each of `keys` stands the text that names the place, `Secret <name> key <key>`.
    /// For showing which key goes where without reading a Secret.
    pub fn naming<'a>(name: &str, keys: impl IntoIterator<Item = &'a str>) -> Self {
        let place = |key: &str| SecretSlice::from(format!("Secret {name} key {key}").into_bytes());
        let values = keys.into_iter().map(|key| (key.to_owned(), place(key))).collect();
        Self { resource_version: String::new(), values }
    }

    /// The bytes under `key`.
    pub fn get(&self, key: &str) -> Option<&SecretSlice<u8>> {
        self.values.get(key)
    }
}

impl std::fmt::Debug for SecretData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretData({}, {} keys)", self.resource_version, self.values.len())
    }
}

struct Copy {
    read: Mono,
    data: Option<Arc<SecretData>>,
}

/// Reads Secrets and shares fresh copies.
pub struct Secrets {
    client: Client,
    clock: Clock,
    refresh: Duration,
    copies: Mutex<Copies>,
}

/// The copies, and when those that are too old were last dropped.
#[derive(Default)]
struct Copies {
    by_key: HashMap<ObjectKey, Copy>,
    swept: Mono,
}

impl Copies {
    /// The copy of `key`, if it is younger than `refresh`. Old ones are dropped at most once in that time: a sweep for
    /// every look would make ten thousand Secrets cost their square.
    fn fresh(&mut self, key: &ObjectKey, refresh: Duration, now: Mono) -> Option<&Copy> {
        if now.since(self.swept) >= refresh {
            self.by_key.retain(|_, copy| now.since(copy.read) < refresh);
            self.swept = now;
        }
        self.by_key.get(key).filter(|copy| now.since(copy.read) < refresh)
    }
}

impl Secrets {
    /// A reader whose copies live for `refresh`.
    pub fn new(client: Client, clock: Clock, refresh: Duration) -> Self {
        Self { client, clock, refresh, copies: Mutex::default() }
    }

    /// How long a copy is good.
    pub fn refresh(&self) -> Duration {
        self.refresh
    }

    /// The Secret at `key`, at most [`Secrets::refresh`] old; `None` if there is none of that name.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Arc<SecretData>>, ApiError> {
        let now = self.clock.mono();
        {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(copy) = copies.fresh(key, self.refresh, now) {
                return Ok(copy.data.clone());
            }
        }
        self.get_now(key).await
    }

    /// The Secret at `key` as it is now, whatever copy there is; `None` if there is none of that name.
    pub async fn get_now(&self, key: &ObjectKey) -> Result<Option<Arc<SecretData>>, ApiError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let data = super::call(api.get_opt(&key.name)).await?.map(|secret| Arc::new(read(secret)));
        let copy = Copy { read: self.clock.mono(), data: data.clone() };
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).by_key.insert(key.clone(), copy);
        Ok(data)
    }
}

fn read(secret: Secret) -> SecretData {
    let values =
        secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, SecretSlice::from(bytes.0))).collect();
    SecretData { resource_version: secret.metadata.resource_version.unwrap_or_default(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_good_until_its_refresh_time_and_old_ones_are_dropped() {
        let (refresh, mut copies) = (Duration::from_mins(1), Copies::default());
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let (a, b) = (ObjectKey::new("ns", "a"), ObjectKey::new("ns", "b"));
        copies.by_key.insert(a.clone(), Copy { read: at(100), data: None });
        copies.by_key.insert(b.clone(), Copy { read: at(130), data: None });
        assert!(copies.fresh(&a, refresh, at(159)).is_some());
        assert!(copies.fresh(&a, refresh, at(160)).is_none(), "too old, though not swept yet");
        assert!(copies.fresh(&b, refresh, at(160)).is_some());
        assert!(copies.fresh(&b, refresh, at(240)).is_none());
        assert!(copies.by_key.is_empty(), "what is old is wiped");
    }
}
