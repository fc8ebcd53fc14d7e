//! Keeps requests that failed for good, so that they are tried again when nobody waits for them any more.
//!
//! Only reads are kept: see [`may_be_repeated`]. Nothing of a credential is in a kept request, for the call path adds those
//! to each try. Parameters can name accounts: with a key (`--key-secret`) they are sealed, without one a request is kept
//! only if the profile calls every parameter of it public, such as a ticker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus::IntCounterVec;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::ledger::Ledger;
use crate::ledger::dead_requests::{DeadCaps, NewDeadRequest, seal_name};
use crate::ledger::sealed::Keyring;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::ask::{Failure, may_be_repeated};
use crate::provider::profile::Operation;

/// Before the first retry; a provider that asks for a longer pause gets it.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Requests that may be kept at once, those of a storm that differ: a few megabytes. Of one connection a tenth, so that
/// nobody's bad provider takes the room of all others.
pub const CAPS: DeadCaps = DeadCaps { total: 10_000, connection: 1_000 };

/// Keeps requests.
pub struct Keep {
    ledger: Arc<dyn Ledger>,
    keys: Keyring,
    clock: Clock,
    bell: Arc<Notify>,
    kept: IntCounterVec,
}

/// A request that failed.
pub struct Failed<'a> {
    /// Of which connection.
    pub connection: &'a ObjectKey,
    /// The UID of its object.
    pub uid: &'a str,
    /// Its provider.
    pub provider: &'a str,
    /// The operation's name.
    pub name: &'a str,
    /// The operation.
    pub operation: &'a Operation,
    /// What was asked for.
    pub parameters: &'a BTreeMap<String, String>,
    /// By whom.
    pub caller: &'a Caller,
    /// How it failed.
    pub failure: &'a Failure,
}

impl Keep {
    /// One that rings `bell` when there is something to retry.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        keys: Keyring,
        clock: Clock,
        bell: Arc<Notify>,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let kept = metrics.counter(
            "busbar_dead_requests_kept_total",
            "Requests that failed for good, by what became of them: kept, full, no_key, not_repeatable, error.",
            &["result"],
        )?;
        Ok(Self { ledger, keys, clock, bell, kept })
    }

    /// Keeps a failed request; its id, if it was kept.
    pub async fn keep(&self, failed: &Failed<'_>) -> Option<Uuid> {
        let (result, id) = match self.try_keep(failed).await {
            Ok(id) => ("kept", Some(id)),
            Err(why) => (why, None),
        };
        self.kept.with_label_values(&[result]).inc();
        if id.is_some() {
            self.ring();
        }
        id
    }

    /// Tells whoever retries that there is something to do.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    async fn try_keep(&self, failed: &Failed<'_>) -> Result<Uuid, &'static str> {
        if !failed.failure.again || !may_be_repeated(failed.operation) {
            return Err("not_repeatable");
        }
        let id = Uuid::new_v4();
        let plain = serde_json::to_vec(failed.parameters).map_err(|_| "error")?;
        let public =
            failed.parameters.keys().all(|name| failed.operation.parameters.get(name).is_some_and(|p| p.public));
        let (parameters, sealed) = if self.keys.has_key() {
            (self.keys.seal(&seal_name(failed.connection, id), &plain).map_err(|_| "no_key")?, true)
        } else if public {
            (plain.clone(), false)
        } else {
            return Err("no_key");
        };
        let caller = serde_json::to_string(failed.caller).map_err(|_| "error")?;
        let at = self.clock.now().wall;
        let wait = failed.failure.retry_in.unwrap_or_default().max(FIRST_RETRY);
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        let request = NewDeadRequest {
            id,
            connection: failed.connection.clone(),
            uid: failed.uid.to_owned(),
            provider: failed.provider.to_owned(),
            operation: failed.name.to_owned(),
            parameters,
            sealed,
            fingerprint: self.fingerprint(failed, &plain, (&caller, sealed)).ok_or("no_key")?,
            caller,
            subject: failed.caller.user.clone(),
            reason: failed.failure.code.to_owned(),
            status: failed.failure.status,
            request_id: failed.caller.request_id,
            at,
            next: at.checked_add(wait).unwrap_or(jiff::Timestamp::MAX),
        };
        match self.ledger.add_dead_request(&request, CAPS).await {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err("full"),
            Err(error) => {
                tracing::warn!(%error, connection = %failed.connection, "a failed request could not be kept");
                Err("error")
            }
        }
    }

    /// Tells equal requests: of the same caller, judged alike, to the same object. Where parameters are sealed it is made
    /// with the key: account numbers can be guessed, and replicas and restarts must still agree.
    fn fingerprint(&self, failed: &Failed<'_>, plain: &[u8], (caller, sealed): (&str, bool)) -> Option<String> {
        let connection = failed.connection.to_string();
        let parts = [&*connection, failed.uid, failed.provider, failed.name, caller].map(str::as_bytes);
        let mut text = Vec::new();
        for part in parts.into_iter().chain([plain]) {
            text.extend_from_slice(&part.len().to_le_bytes());
            text.extend_from_slice(part);
        }
        let mark = if sealed { self.keys.mark(&text).ok()? } else { Sha256::digest(&text).into() };
        Some(mark.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
            text
        }))
    }
}
