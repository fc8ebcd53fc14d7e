//! Secrets, one `get` at a time.
//!
//! Busbar never lists or watches Secrets: it may only read those that an object of the same namespace names. A copy is
//! shared by all who name the Secret and is read again once it is older than the refresh time; sooner for who was
//! refused with it, because a refusal is how a rotation shows. What is kept is wiped when dropped and has no `Debug`
//! that would print it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretSlice;
use tokio_util::sync::CancellationToken;

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

/// What a look for a Secret found.
pub struct Reading {
    /// The Secret; `None` if there is none of that name.
    pub data: Option<Arc<SecretData>>,
    /// How much longer this is good for who asked.
    pub left: Duration,
}

/// The first look again after a refused credential was read anew; each further one comes after twice as long, until the
/// refresh time is reached. A Secret that stays wrong is so read a few times more in all, and not at every probe.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long a copy is good that was read at `read`, for one whose credential from it was refused at `refused`: not at all
/// if it is older than the refusal, else for as long as the refusal had lasted when it was read.
fn good_for(refresh: Duration, read: Mono, refused: Option<Mono>) -> Duration {
    match refused {
        None => refresh,
        Some(refused) if read < refused => Duration::ZERO,
        Some(refused) => read.since(refused).max(LOOK_AGAIN).min(refresh),
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
    /// The copy of `key`, if it is still good, and for how long. Old ones are dropped at most once in a refresh time: a
    /// sweep for every look would make ten thousand Secrets cost their square.
    fn fresh(&mut self, key: &ObjectKey, refresh: Duration, refused: Option<Mono>, now: Mono) -> Option<Reading> {
        if now.since(self.swept) >= refresh {
            self.sweep(refresh, now);
        }
        let copy = self.by_key.get(key)?;
        let left = good_for(refresh, copy.read, refused).checked_sub(now.since(copy.read))?;
        (!left.is_zero()).then(|| Reading { data: copy.data.clone(), left })
    }

    /// Drops what is too old.
    fn sweep(&mut self, refresh: Duration, now: Mono) {
        self.by_key.retain(|_, copy| now.since(copy.read) < refresh);
        self.swept = now;
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

    /// Drops copies that are too old, once in each refresh time, until `stop`: a credential that nobody names any more is
    /// gone from memory within two refresh times, whether or not another Secret is ever asked for.
    pub async fn keep_swept(&self, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep_until(self.clock.mono() + self.refresh) => {}
            }
            let now = self.clock.mono();
            self.copies.lock().unwrap_or_else(PoisonError::into_inner).sweep(self.refresh, now);
        }
    }

    /// The Secret at `key`, at most [`Secrets::refresh`] old. Who was refused with a credential from it says since when,
    /// and gets no copy that is older than that.
    pub async fn get(&self, key: &ObjectKey, refused: Option<Mono>) -> Result<Reading, ApiError> {
        let asked = self.clock.mono();
        {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(reading) = copies.fresh(key, self.refresh, refused, asked) {
                return Ok(reading);
            }
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let data = super::call(api.get_opt(&key.name)).await?.map(|secret| Arc::new(read(secret)));
        // As old as the question: what was changed while the answer was under way may not be in it.
        let copy = Copy { read: asked, data: data.clone() };
        self.copies.lock().unwrap_or_else(PoisonError::into_inner).by_key.insert(key.clone(), copy);
        Ok(Reading { data, left: good_for(self.refresh, asked, refused) })
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
        let left = |copies: &mut Copies, key, now| copies.fresh(key, refresh, None, at(now)).map(|r| r.left.as_secs());
        assert_eq!(left(&mut copies, &a, 159), Some(1));
        assert_eq!(left(&mut copies, &a, 160), None, "too old, though not swept yet");
        assert_eq!(left(&mut copies, &b, 160), Some(30));
        assert_eq!(left(&mut copies, &b, 240), None);
        assert!(copies.by_key.is_empty(), "what is old is wiped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_nobody_asks_for_again_is_dropped_all_the_same() {
        let refresh = Duration::from_mins(1);
        let clock = Clock::system();
        let nobody = kube::Client::new(
            tower::service_fn(|_| async {
                Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody"))
            }),
            "ns",
        );
        let secrets = Secrets::new(nobody, clock, refresh);
        let count = || secrets.copies.lock().unwrap().by_key.len();
        let copy = Copy { read: clock.mono(), data: None };
        secrets.copies.lock().unwrap().by_key.insert(ObjectKey::new("ns", "a"), copy);
        let stop = CancellationToken::new();
        let watched = async {
            tokio::time::sleep(Duration::from_secs(59)).await;
            assert_eq!(count(), 1, "still good");
            tokio::time::sleep(refresh + Duration::from_secs(2)).await;
            assert_eq!(count(), 0);
            stop.cancel();
        };
        tokio::join!(secrets.keep_swept(&stop), watched);
    }

    #[test]
    fn a_refused_credential_is_read_anew_at_once_and_then_ever_more_seldom() {
        let (refresh, mut copies) = (Duration::from_mins(1), Copies::default());
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        let key = ObjectKey::new("ns", "a");
        let refused = Some(at(100));
        copies.by_key.insert(key.clone(), Copy { read: at(99), data: None });
        // As one who looks at each second of ten minutes, though a probe every five would do.
        let mut reads = Vec::new();
        for now in 100..700 {
            if copies.fresh(&key, refresh, refused, at(now)).is_none() {
                copies.by_key.insert(key.clone(), Copy { read: at(now), data: None });
                reads.push(now - 100);
            }
        }
        assert_eq!(reads[..8], [0, 2, 4, 8, 16, 32, 64, 124]);
        assert_eq!(reads.len(), 15, "{reads:?}");
        assert!(copies.fresh(&key, refresh, None, at(700)).is_some(), "who was not refused is content");
    }
}
