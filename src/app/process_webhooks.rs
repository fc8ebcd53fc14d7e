//! The webhooks of this process: how those of a connection are verified, and which jobs they trigger.
//!
//! Of a standby too: every replica accepts webhooks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::api::v1alpha1::provider_connection::WebhookSecret;
use crate::cluster::secrets::{Freshness, ReadMark};
use crate::controllers::Ctx;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::gateway::webhooks::rule::{RuleUnavailable, WebhookRule, WebhookRules};
use crate::profile::WebhookScheme;
use crate::settings::secret_data::SecretState;
use crate::work::reconcile_queue::Kind;
use crate::work::webhooks::WebhookJobs;

/// The key of the secret, unless `secretRef.key` names another one.
const SECRET_KEY: &str = "webhook-secret";
/// What the key of the replaced secret has behind the name of the current one.
const PREVIOUS: &str = "-previous";
/// Connections with unverified webhooks that are remembered.
const MAX_REFUSED: usize = 10_000;

/// The webhooks of the connections and jobs of `ctx`.
pub(super) struct ProcessWebhooks {
    ctx: Arc<Ctx>,
    /// What each connection's Secrets are read for, and since when.
    known: Mutex<HashMap<ObjectKey, KnownSpec>>,
}

/// A version of a connection whose Secret may be used.
struct KnownSpec {
    uid: String,
    generation: i64,
    /// The Secret is read after this: a copy of the time before the spec named it is not used.
    since: ReadMark,
    /// Since when webhooks are not verified; `None` after one that was.
    refused: Option<Mono>,
}

impl ProcessWebhooks {
    pub(super) fn new(ctx: Arc<Ctx>) -> Self {
        Self { ctx, known: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, KnownSpec>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How recent the Secret must be: not older than the spec, and read again at growing intervals while webhooks are not
    /// verified.
    fn freshness(&self, key: &ObjectKey, uid: &str, generation: i64, refused: bool) -> Freshness {
        let now = self.ctx.clock.mono();
        let mut known = self.lock();
        if known.len() >= MAX_REFUSED && !known.contains_key(key) {
            known.clear();
        }
        let is_same = |spec: &KnownSpec| spec.uid == uid && spec.generation == generation;
        if !known.get(key).is_some_and(is_same) {
            let since = self.ctx.secrets.mark();
            known.insert(key.clone(), KnownSpec { uid: uid.to_owned(), generation, since, refused: None });
        }
        let Some(spec) = known.get_mut(key) else {
            return Freshness { after: self.ctx.secrets.mark(), rejected: None, unusable: None };
        };
        if refused {
            spec.refused = spec.refused.or(Some(now));
        }
        Freshness { after: spec.since, rejected: spec.refused, unusable: None }
    }

    async fn read(&self, key: &ObjectKey, refused: bool) -> Result<Option<WebhookRule>, RuleUnavailable> {
        let Some(object) = self.ctx.stores.connections.get(key) else { return Ok(None) };
        let Some(webhook) = &object.spec.webhook else { return Ok(None) };
        let (scheme, secret) = match (&webhook.hmac_sha512, &webhook.static_secret) {
            (Some(secret), None) => (WebhookScheme::HmacSha512, secret),
            (None, Some(secret)) => (WebhookScheme::StaticSecret, secret),
            _ => return Ok(None),
        };
        let profile = self.ctx.profiles.get(&object.spec.provider);
        let declared = profile.as_ref().and_then(|profile| profile.webhook.as_ref());
        let header = secret.header.clone().or_else(|| declared.map(|declared| declared.header.clone()));
        let Some(header) = header else { return Ok(None) };
        let uid = object.metadata.uid.as_deref().unwrap_or_default();
        let generation = object.metadata.generation.unwrap_or_default();
        let freshness = self.freshness(key, uid, generation, refused);
        let reference = key.sibling(secret.secret_ref.name.to_string());
        let read = self.ctx.secrets.get(&reference, freshness).await;
        let state = read.map_err(|error| RuleUnavailable(error.to_string()))?.state;
        let secrets = match &state {
            SecretState::Found(data) => {
                let [current, previous] = keys(secret);
                [data.get(&current), data.get(&previous)].into_iter().flatten().cloned().collect()
            }
            // Refused like a wrong signature: whether it exists is not for the sender.
            SecretState::NotFound | SecretState::Forbidden(_) => Vec::new(),
        };
        Ok(Some(WebhookRule {
            header: header.to_ascii_lowercase(),
            scheme,
            secrets,
            event: declared.and_then(|declared| declared.event.clone()),
            pokes: declared.map(|declared| declared.pokes.clone()).unwrap_or_default(),
            time: declared.and_then(|declared| declared.time.clone()),
        }))
    }
}

/// The keys of the current and of the replaced secret.
fn keys(secret: &WebhookSecret) -> [String; 2] {
    let current = secret.secret_ref.key.as_deref().unwrap_or(SECRET_KEY);
    [current.to_owned(), format!("{current}{PREVIOUS}")]
}

impl WebhookRules for ProcessWebhooks {
    fn rule<'a>(
        &'a self,
        connection: &'a ObjectKey,
        refused: bool,
    ) -> BoxFuture<'a, Result<Option<WebhookRule>, RuleUnavailable>> {
        self.read(connection, refused).boxed()
    }

    fn verified(&self, connection: &ObjectKey) {
        if let Some(spec) = self.lock().get_mut(connection) {
            spec.refused = None;
        }
    }
}

impl WebhookJobs for ProcessWebhooks {
    fn jobs_of(&self, connection: &ObjectKey) -> Vec<ObjectKey> {
        let is_of = |namespace: Option<&str>, name: &str| {
            namespace == Some(&*connection.namespace) && name == &*connection.name
        };
        self.ctx
            .stores
            .jobs
            .list()
            .iter()
            .filter(|job| is_of(job.metadata.namespace.as_deref(), &job.spec.connection_ref.name))
            .filter_map(|job| job.metadata.name.as_deref().map(|name| connection.sibling(name)))
            .collect()
    }

    fn notify(&self, job: &ObjectKey) {
        self.ctx.reconcile_queue.enqueue(Kind::SyncJob, job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_previous_secret_is_beside_the_current_one() {
        let named = |key: Option<&str>| {
            let text =
                format!("{{secretRef: {{name: mono{}}}}}", key.map(|k| format!(", key: {k}")).unwrap_or_default());
            serde_yaml::from_str::<WebhookSecret>(&text).unwrap()
        };
        assert_eq!(keys(&named(None)), ["webhook-secret", "webhook-secret-previous"]);
        assert_eq!(keys(&named(Some("hook"))), ["hook", "hook-previous"]);
    }
}
