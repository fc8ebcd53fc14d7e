//! How the webhooks of a harness are verified.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use busbar::domain::key::ObjectKey;
use busbar::gateway::webhooks::rule::{RuleUnavailable, WebhookRule, WebhookRules};
use busbar::profile::WebhookScheme;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use secrecy::SecretSlice;

/// The header of all webhooks.
pub(crate) const HEADER: &str = "x-signature";

/// The connection `mono` with the secrets set here; no other one accepts webhooks.
pub(crate) struct ScriptedHooks {
    pub(crate) secrets: Mutex<Vec<&'static str>>,
    /// Secrets that are read only once one is refused: a rotation.
    pub(crate) rotated: Mutex<Vec<&'static str>>,
    pub(crate) scheme: Mutex<WebhookScheme>,
    pub(crate) time: Mutex<Option<&'static str>>,
    pub(crate) rereads: AtomicUsize,
}

impl Default for ScriptedHooks {
    fn default() -> Self {
        Self {
            secrets: Mutex::new(vec!["s3cret"]),
            rotated: Mutex::default(),
            scheme: Mutex::new(WebhookScheme::HmacSha512),
            time: Mutex::default(),
            rereads: AtomicUsize::new(0),
        }
    }
}

impl WebhookRules for ScriptedHooks {
    fn rule<'a>(
        &'a self,
        connection: &'a ObjectKey,
        refused: bool,
    ) -> BoxFuture<'a, Result<Option<WebhookRule>, RuleUnavailable>> {
        if refused {
            self.rereads.fetch_add(1, Ordering::Relaxed);
            let rotated = std::mem::take(&mut *self.rotated.lock().unwrap());
            if !rotated.is_empty() {
                *self.secrets.lock().unwrap() = rotated;
            }
        }
        let rule = (&*connection.name == "mono").then(|| WebhookRule {
            header: HEADER.to_owned(),
            scheme: *self.scheme.lock().unwrap(),
            secrets: self
                .secrets
                .lock()
                .unwrap()
                .iter()
                .map(|text| SecretSlice::from(text.as_bytes().to_vec()))
                .collect(),
            event: Some("/event".to_owned()),
            pokes: vec!["account.updated".to_owned()],
            time: self.time.lock().unwrap().map(str::to_owned),
        });
        async move { Ok(rule) }.boxed()
    }

    fn verified(&self, _: &ObjectKey) {}
}
