//! Stores failed requests as dead requests, to be retried after the caller got the error.
//!
//! Only reads are stored: see [`is_repeatable`]. A stored request holds no credentials: the call path adds them to each
//! try. Parameters can name accounts: with a key (`--key-secret`) they are encrypted; without one a request is stored
//! only if the profile marks all its parameters as public, such as a ticker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use prometheus::IntCounterVec;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;
use crate::ledger::Ledger;
use crate::ledger::dead_requests::{DeadRequestLimits, NewDeadRequest, encryption_context};
use crate::ledger::encryption::Keyring;
use crate::metrics::{Metrics, MetricsError};
use crate::profile::Operation;
use crate::provider::invoke::{FailureKind, InvokeFailure, is_repeatable};

/// Delay before the first retry; a longer `Retry-After` wins.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of pending and parked requests: a few megabytes. A tenth of it per connection, so that one failing
/// provider does not use up the capacity of the others.
pub const LIMITS: DeadRequestLimits = DeadRequestLimits { total: 10_000, connection: 1_000 };

/// Stores failed requests in the ledger.
pub struct DeadRequestRecorder {
    ledger: Arc<dyn Ledger>,
    keys: Keyring,
    clock: Clock,
    wakeup: Arc<Notify>,
    results: IntCounterVec,
}

/// A failed call.
pub struct FailedCall<'a> {
    /// The connection.
    pub connection: &'a ObjectKey,
    /// The UID of the connection's object.
    pub uid: &'a str,
    /// The connection's provider.
    pub provider: &'a str,
    /// The operation's name.
    pub name: &'a str,
    /// The operation.
    pub operation: &'a Operation,
    /// The parameters.
    pub parameters: &'a BTreeMap<String, String>,
    /// The caller.
    pub caller: &'a Caller,
    /// How it failed.
    pub failure: &'a InvokeFailure,
}

impl DeadRequestRecorder {
    /// A recorder that notifies `wakeup` when there is something to retry.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        keys: Keyring,
        clock: Clock,
        wakeup: Arc<Notify>,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let results = metrics.counter_from_zero(
            "busbar_dead_requests_kept_total",
            "Failed requests by result of storing them: kept, full, no_key, not_repeatable, overload, error.",
            ["result"],
            [["kept"], ["full"], ["no_key"], ["not_repeatable"], ["overload"], ["error"]],
        )?;
        Ok(Self { ledger, keys, clock, wakeup, results })
    }

    /// Stores a failed request; returns its ID if it was stored.
    pub async fn record(&self, failed: &FailedCall<'_>) -> Option<Uuid> {
        let stored = self.try_record(failed).await;
        let result = stored.as_ref().map_or_else(|why| why.as_str(), |_| "kept");
        self.results.with_label_values(&[result]).inc();
        if stored.is_ok() {
            self.notify();
        }
        stored.ok()
    }

    /// Notifies the worker that there is something to retry.
    pub fn notify(&self) {
        self.wakeup.notify_one();
    }

    async fn try_record(&self, failed: &FailedCall<'_>) -> Result<Uuid, NotStored> {
        if !failed.failure.retryable || !is_repeatable(failed.operation) {
            return Err(NotStored::NotRepeatable);
        }
        // More of them would be more load; the caller knows when to come back.
        if failed.failure.kind == FailureKind::BulkheadFull {
            return Err(NotStored::Overload);
        }
        let request = self.dead_request(failed)?;
        match self.ledger.add_dead_request(&request, LIMITS).await {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(NotStored::Full),
            Err(error) => {
                tracing::warn!(%error, connection = %failed.connection, "storing a dead request failed; it is not retried");
                Err(NotStored::Error)
            }
        }
    }

    /// The request as it is stored.
    fn dead_request(&self, failed: &FailedCall<'_>) -> Result<NewDeadRequest, NotStored> {
        let id = Uuid::new_v4();
        let plain = serde_json::to_vec(failed.parameters).map_err(|_| NotStored::Error)?;
        let caller = serde_json::to_string(failed.caller).map_err(|_| NotStored::Error)?;
        let encrypted = self.keys.has_key();
        let identity = RequestIdentity { failed, parameters: &plain, caller: &caller };
        let fingerprint = self.fingerprint(&identity, encrypted).ok_or(NotStored::NoKey)?;
        let parameters = if encrypted {
            let context = encryption_context(failed.connection, id);
            self.keys.encrypt(&context, &plain).map_err(|_| NotStored::NoKey)?
        } else if failed.has_only_public_parameters() {
            plain
        } else {
            return Err(NotStored::NoKey);
        };
        let at = self.clock.now().wall;
        let wait = failed.failure.retry_in.unwrap_or_default().clamp(FIRST_RETRY_DELAY, MAX_THROTTLE);
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
        Ok(NewDeadRequest {
            id,
            connection: failed.connection.clone(),
            uid: failed.uid.to_owned(),
            provider: failed.provider.to_owned(),
            operation: failed.name.to_owned(),
            parameters,
            encrypted,
            fingerprint,
            caller,
            subject: failed.caller.user.clone(),
            reason: failed.failure.reason.as_str().to_owned(),
            status: failed.failure.status,
            request_id: failed.caller.request_id,
            at,
            next: at.checked_add(wait).unwrap_or(jiff::Timestamp::MAX),
        })
    }

    /// Identifies equal requests: same caller, same licence profiles, same object. Where parameters are encrypted it is
    /// a MAC with the key: account numbers can be guessed, and it must be equal on all replicas and after restarts.
    fn fingerprint(&self, identity: &RequestIdentity<'_>, keyed: bool) -> Option<String> {
        let text = identity.encode();
        let digest = if keyed { self.keys.keyed_hash(&text).ok()? } else { Sha256::digest(&text).into() };
        Some(hex::encode(digest))
    }
}

impl FailedCall<'_> {
    /// Whether the profile declares all parameters of the call as public.
    fn has_only_public_parameters(&self) -> bool {
        self.parameters.keys().all(|name| self.operation.parameters.get(name).is_some_and(|rule| rule.public))
    }
}

/// What makes two failed requests the same.
struct RequestIdentity<'a> {
    failed: &'a FailedCall<'a>,
    /// The parameters as JSON, not encrypted.
    parameters: &'a [u8],
    /// The caller as JSON.
    caller: &'a str,
}

impl RequestIdentity<'_> {
    /// The parts, each with its length, so that no two identities are encoded alike.
    fn encode(&self) -> Vec<u8> {
        let FailedCall { uid, provider, name, .. } = *self.failed;
        let connection = self.failed.connection.to_string();
        let mut encoded = Vec::new();
        for part in [connection.as_bytes(), uid.as_bytes(), provider.as_bytes(), name.as_bytes()]
            .into_iter()
            .chain([self.caller.as_bytes(), self.parameters])
        {
            encoded.extend_from_slice(&part.len().to_le_bytes());
            encoded.extend_from_slice(part);
        }
        encoded
    }
}

/// Why a failed request was not stored.
#[derive(Copy, Clone, Debug)]
enum NotStored {
    /// A retry would fail again, or could do harm.
    NotRepeatable,
    /// Too many calls of its connection are in flight.
    Overload,
    /// The limits are reached.
    Full,
    /// Its parameters need encryption, and there is no key.
    NoKey,
    /// The ledger failed.
    Error,
}

impl NotStored {
    /// The label of the metric.
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotRepeatable => "not_repeatable",
            Self::Overload => "overload",
            Self::Full => "full",
            Self::NoKey => "no_key",
            Self::Error => "error",
        }
    }
}
