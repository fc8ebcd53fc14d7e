//! One retry of a dead request: the checks before it, the call, and the outcome for the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::clock::Clock;
use crate::domain::breaker::MAX_THROTTLE;
use crate::domain::event::{EventType, OutboxEvent, connection_aggregate, event_id};
use crate::domain::rights::Caller;
use crate::ledger::dead_requests::{DeadRequest, RetryOutcome, encryption_context};
use crate::ledger::encryption::Keyring;
use crate::provider::failure_reason::FailureReason;
use crate::provider::invoke::{self, FailureKind, InvokeOptions, InvokeOutcome};
use crate::provider::registry::Registry;
use crate::work::dead_requests::audit::audit_entry;
use crate::work::dead_requests::reason::{DeadRequestReason, RetryReason};

/// Retries of one request; the delays before them are 1, 2 and 4 s.
const MAX_TRIES: u32 = 3;
/// Deadline of one retry.
pub(super) const RETRY_DEADLINE: Duration = Duration::from_secs(10);
/// Delay before the next retry when the connection is not found or suspended.
const ABSENT_DELAY: Duration = Duration::from_secs(30);
/// How long the API server's access review of the caller is valid. It was made when the request came; permissions
/// change, and no further review can be made without the caller's token.
const REVIEW_TTL: Duration = Duration::from_mins(15);

/// Retries dead requests.
pub(super) struct Retrier {
    pub(super) registry: Registry,
    pub(super) keys: Keyring,
    pub(super) clock: Clock,
}

impl Retrier {
    /// Makes one retry; returns the outcome for the request.
    pub(super) async fn retry(&self, dead: &DeadRequest) -> RetryOutcome {
        let stored = &dead.request;
        let now = self.clock.now().wall;
        let Some(connection) = self.registry.get(&stored.connection) else {
            return self.postpone(dead, RetryReason::ConnectionAbsent);
        };
        // The object was replaced, perhaps by one of another provider: these parameters are not for it.
        if **connection.uid() != *stored.uid {
            return self.parked(dead, RetryReason::ConnectionReplaced, None);
        }
        let settings = connection.settings();
        if settings.provider() != stored.provider {
            return self.parked(dead, RetryReason::ProviderChanged, None);
        }
        if settings.suspended() {
            return self.postpone(dead, FailureReason::Suspended);
        }
        if review_expiry(dead).is_none_or(|end| now >= end) {
            return self.parked(dead, RetryReason::ReviewExpired, None);
        }
        let Some((parameters, caller)) = self.open(dead) else {
            return self.parked(dead, RetryReason::Unreadable, None);
        };
        let Ok(operation) = invoke::find_operation(&settings, &stored.operation) else {
            return self.parked(dead, RetryReason::OperationNotFound, None);
        };
        // A custom profile may have changed the operation's class.
        if !invoke::is_repeatable(operation) {
            return self.parked(dead, RetryReason::NotRepeatable, None);
        }
        let options =
            InvokeOptions { caller: Some(Arc::new(caller)), timeout: Some(RETRY_DEADLINE), single_attempt: true };
        let Ok(request) = invoke::build_request(&settings, &stored.operation, operation, &parameters, options) else {
            return self.parked(dead, RetryReason::InvalidParameter, None);
        };
        match invoke::invoke(&connection, &settings, request, || self.clock.now().wall).await {
            // The failed call would have been answered with stale data too.
            InvokeOutcome::Success(answer) if answer.meta.stale => {
                self.schedule_retry(dead, RetryReason::Stale, None, None)
            }
            // The provider answered; "no such item" is an answer.
            InvokeOutcome::Success(_) | InvokeOutcome::NotFound(_) | InvokeOutcome::Rejected(_) => RetryOutcome::Done,
            InvokeOutcome::Denied(_) => self.parked(dead, RetryReason::RightsDenied, None),
            // Nothing was sent, and callers come first: it counts as no try.
            InvokeOutcome::Failed(failure)
                if matches!(failure.kind, FailureKind::Suspended | FailureKind::BulkheadFull) =>
            {
                self.postpone(dead, failure.reason)
            }
            InvokeOutcome::Failed(failure) if !failure.retryable => self.parked(dead, failure.reason, failure.status),
            InvokeOutcome::Failed(failure) => {
                let until = failure.retry_in.and_then(|wait| after(self.clock.now().wall, wait.min(MAX_THROTTLE)));
                self.schedule_retry(dead, failure.reason, failure.status, until)
            }
        }
    }

    /// Decrypts and parses the parameters and the caller.
    fn open(&self, dead: &DeadRequest) -> Option<(BTreeMap<String, String>, Caller)> {
        let stored = &dead.request;
        let parameters = if stored.encrypted {
            let opened =
                self.keys.decrypt(&encryption_context(&stored.connection, stored.id), &stored.parameters).ok()?;
            serde_json::from_slice(&opened).ok()?
        } else {
            serde_json::from_slice(&stored.parameters).ok()?
        };
        Some((parameters, serde_json::from_str(&stored.caller).ok()?))
    }

    /// The outcome "retry", with a delay that doubles, or "parked" after the last try. A longer `Retry-After` wins.
    fn schedule_retry(
        &self,
        dead: &DeadRequest,
        reason: impl Into<DeadRequestReason>,
        status: Option<u16>,
        not_before: Option<Timestamp>,
    ) -> RetryOutcome {
        let (tried, reason) = (dead.tries + 1, reason.into());
        if tried >= MAX_TRIES {
            return self.parked(dead, reason, status);
        }
        let now = self.clock.now().wall;
        let next = after(now, Duration::from_secs(1 << tried)).unwrap_or(now);
        RetryOutcome::Retry {
            next: not_before.map_or(next, |at| at.max(next)),
            reason: reason.as_str().to_owned(),
            status,
        }
    }

    /// The outcome "postpone", which counts as no try; "parked" if the access review would expire before.
    fn postpone(&self, dead: &DeadRequest, reason: impl Into<DeadRequestReason>) -> RetryOutcome {
        let now = self.clock.now().wall;
        match after(now, ABSENT_DELAY).filter(|next| review_expiry(dead).is_some_and(|end| *next < end)) {
            Some(next) => RetryOutcome::Postponed { next },
            None => self.parked(dead, reason, None),
        }
    }

    fn parked(&self, dead: &DeadRequest, reason: impl Into<DeadRequestReason>, status: Option<u16>) -> RetryOutcome {
        let (stored, reason) = (&dead.request, reason.into().as_str());
        let mut audit = audit_entry(self.clock.now().wall, "dlq_failed", &stored.connection, reason);
        audit.provider = Some(stored.provider.clone());
        audit.request_id = stored.request_id;
        let event = Box::new(parked_event(dead, reason, status));
        RetryOutcome::Parked { reason: reason.to_owned(), status, audit: Box::new(audit), event }
    }
}

/// The event that a request is parked. Its ID is that of the request and of its last review: one that is replayed and
/// parked again is another event.
fn parked_event(dead: &DeadRequest, reason: &str, status: Option<u16>) -> OutboxEvent {
    let stored = &dead.request;
    let (namespace, name) = (&*stored.connection.namespace, &*stored.connection.name);
    let aggregate = connection_aggregate(namespace, name);
    let reviewed = dead.reviewed.as_millisecond().to_be_bytes();
    // Neither the parameters nor the caller: both may be account data.
    let payload = json!({
        "connection": name,
        "dead_request_id": stored.id.to_string(),
        "http_status": status,
        "operation": stored.operation,
        "provider": stored.provider,
        "reason": reason,
    });
    OutboxEvent {
        id: event_id(EventType::DeadRequestParked, &aggregate, &[stored.id.as_bytes(), &reviewed]),
        event_type: EventType::DeadRequestParked,
        namespace: namespace.to_owned(),
        aggregate,
        payload: payload.to_string(),
        correlation_id: stored.request_id.unwrap_or(stored.id),
    }
}

fn review_expiry(dead: &DeadRequest) -> Option<Timestamp> {
    after(dead.reviewed, REVIEW_TTL)
}

pub(super) fn after(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}
