//! One retry: what is asked, and what its end means for the request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::domain::rights::Caller;
use crate::ledger::dead_requests::{DeadRequest, Settled, seal_name};
use crate::ledger::sealed::Keyring;
use crate::provider::ask::{self, Ended, FailureKind, Manner};
use crate::provider::registry::Registry;

/// Retries of one request; the waits before them are 1, 2 and 4 s.
const TRIES: u32 = 3;
/// A retry must have ended by then.
pub(super) const WITHIN: Duration = Duration::from_secs(10);
/// When to look again for a connection that is not here, or suspended.
const ABSENT: Duration = Duration::from_secs(30);
/// How long the API server's word on the caller counts. It was given when he asked; who may do what changes, and nobody
/// asks the API server again in his name.
const REVIEW_COUNTS: Duration = Duration::from_mins(15);

/// What a retry needs.
pub(super) struct Retrier {
    pub(super) registry: Registry,
    pub(super) keys: Keyring,
    pub(super) clock: Clock,
}

impl Retrier {
    /// Asks once more; what is to become of the request.
    pub(super) async fn retry(&self, dead: &DeadRequest) -> Settled {
        let kept = &dead.request;
        let now = self.clock.now().wall;
        let Some(live) = self.registry.get(&kept.connection) else { return self.later(dead, "connection_absent") };
        // Another object of the same name, perhaps another provider's: these parameters are not for it.
        if **live.uid() != *kept.uid {
            return self.parked(dead, "connection_replaced", None);
        }
        let settings = live.settings();
        if settings.provider() != kept.provider {
            return self.parked(dead, "provider_changed", None);
        }
        if settings.suspended() {
            return self.later(dead, "suspended");
        }
        if review_ends(dead).is_none_or(|end| now >= end) {
            return self.parked(dead, "review_expired", None);
        }
        let Some((parameters, caller)) = self.open(dead) else { return self.parked(dead, "unreadable", None) };
        let Ok(operation) = ask::operation(&settings, &kept.operation) else {
            return self.parked(dead, "operation_not_found", None);
        };
        // Its class may have changed under a profile of the user's.
        if !ask::may_be_repeated(operation) {
            return self.parked(dead, "not_repeatable", None);
        }
        let manner = Manner { caller: Some(Arc::new(caller)), within: Some(WITHIN), hasty: true };
        let Ok(request) = ask::request(&settings, &kept.operation, operation, &parameters, manner) else {
            return self.parked(dead, "invalid_parameter", None);
        };
        match ask::ask(&live, request, || self.clock.now().wall).await {
            // A stale answer is what the failed call would have got too.
            Ended::Good(answer) if answer.meta.stale => self.again(dead, "stale", None, None),
            // The provider answered; that it has no such item is an answer.
            Ended::Good(_) | Ended::NotFound(_) | Ended::Refused(_) => Settled::Done,
            Ended::Denied(_) => self.parked(dead, "rights_denied", None),
            Ended::Failed(failure) if failure.kind == FailureKind::Suspended => self.later(dead, failure.code),
            Ended::Failed(failure) if !failure.again => self.parked(dead, failure.code, failure.status),
            Ended::Failed(failure) => {
                let until = failure.retry_in.and_then(|wait| after(self.clock.now().wall, wait));
                self.again(dead, failure.code, failure.status, until)
            }
        }
    }

    /// Parameters and caller.
    fn open(&self, dead: &DeadRequest) -> Option<(BTreeMap<String, String>, Caller)> {
        let kept = &dead.request;
        let parameters = if kept.sealed {
            let opened = self.keys.open_sealed(&seal_name(&kept.connection, kept.id), &kept.parameters).ok()?;
            serde_json::from_slice(&opened).ok()?
        } else {
            serde_json::from_slice(&kept.parameters).ok()?
        };
        Some((parameters, serde_json::from_str(&kept.caller).ok()?))
    }

    /// The next try, twice as far away as the last, or the end. A provider that asks for a longer pause gets it.
    fn again(&self, dead: &DeadRequest, code: &str, status: Option<u16>, not_before: Option<Timestamp>) -> Settled {
        let tried = dead.tries + 1;
        if tried >= TRIES {
            return self.parked(dead, code, status);
        }
        let now = self.clock.now().wall;
        let next = after(now, Duration::from_secs(1 << tried)).unwrap_or(now);
        Settled::Again { next: not_before.map_or(next, |at| at.max(next)), reason: code.to_owned(), status }
    }

    /// Not now; but in nobody's name when his rights are not known any more.
    fn later(&self, dead: &DeadRequest, code: &str) -> Settled {
        let now = self.clock.now().wall;
        match after(now, ABSENT).filter(|next| review_ends(dead).is_some_and(|end| *next < end)) {
            Some(next) => Settled::Later { next },
            None => self.parked(dead, code, None),
        }
    }

    fn parked(&self, dead: &DeadRequest, code: &str, status: Option<u16>) -> Settled {
        let kept = &dead.request;
        let mut audit = super::entry(self.clock.now().wall, "dlq_failed", &kept.connection, code);
        audit.provider = Some(kept.provider.clone());
        audit.request_id = kept.request_id;
        Settled::Parked { reason: code.to_owned(), status, audit: Box::new(audit) }
    }
}

fn review_ends(dead: &DeadRequest) -> Option<Timestamp> {
    after(dead.reviewed, REVIEW_COUNTS)
}

pub(super) fn after(now: Timestamp, wait: Duration) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from(wait).ok()?).ok()
}
