//! Leader election over a Kubernetes Lease, as pure functions of values.
//!
//! The timing is that of client-go (`tools/leaderelection`): a lease is expired when *this* process has observed it
//! unchanged for its whole duration on its own monotonic clock, so clocks of different machines are never compared. A
//! failed renewal does not lose the lease; observing another holder does.

use std::time::Duration;

use crate::domain::time::Mono;

/// A Lease as last observed by this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObservedLease {
    /// Identity of the holder; `None` or empty after a release.
    pub holder: Option<String>,
    /// When this process first observed this resource version; every change restarts the expiry.
    pub renew_observed_at: Mono,
    /// Lease duration.
    pub duration: Duration,
    /// Number of holder changes.
    pub transitions: i32,
    /// Precondition of an update, so that it fails if another replica updated the Lease first.
    pub resource_version: String,
}

impl ObservedLease {
    /// Identity of the holder, if there is one.
    pub fn current_holder(&self) -> Option<&str> {
        self.holder.as_deref().filter(|h| !h.is_empty())
    }

    /// When the lease expires for this process, unless it changes before.
    pub fn expires(&self) -> Mono {
        self.renew_observed_at + self.duration
    }

    /// This observation updated with a `fresh` read: the expiry keeps running only if nothing changed.
    #[must_use]
    pub fn refreshed(&self, fresh: Self) -> Self {
        if fresh.resource_version == self.resource_version {
            Self { renew_observed_at: self.renew_observed_at, ..fresh }
        } else {
            fresh
        }
    }
}

/// Next action of the elector.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LeaseDecision {
    /// The lease is free (absent, released or expired): try to acquire it with the observed version.
    Acquire,
    /// This process holds the lease: renew it with the observed version.
    Renew,
    /// Another process holds the lease: keep observing, and do not acquire it before `until`.
    Wait {
        /// When the lease expires for this process, unless it changes before.
        until: Mono,
    },
    /// This process believed to be the holder, but another one is: stop and exit.
    Lost,
}

/// Decides the next action of the replica `me`. `observed` is `None` if the Lease does not exist; `holding` is whether
/// this process believes to be the holder.
///
/// A Lease that was released or deleted while this process holds it is acquired again at once: it has no other holder,
/// and the resource version decides a race.
pub fn evaluate(observed: Option<&ObservedLease>, me: &str, holding: bool, now: Mono) -> LeaseDecision {
    let Some(lease) = observed else { return LeaseDecision::Acquire };
    match lease.current_holder() {
        None => LeaseDecision::Acquire,
        Some(holder) if holder == me => LeaseDecision::Renew,
        Some(_) if holding => LeaseDecision::Lost,
        Some(_) if now >= lease.expires() => LeaseDecision::Acquire,
        Some(_) => LeaseDecision::Wait { until: lease.expires() },
    }
}

/// Whether the holder may still act: the last renewal that the API server confirmed was *sent* less than `deadline`
/// ago. After the deadline the holder stops reconciling, although the lease is not lost yet.
pub fn may_act(last_renewal_sent: Mono, deadline: Duration, now: Mono) -> bool {
    now < last_renewal_sent + deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn view(holder: Option<&str>, seen: u64) -> ObservedLease {
        ObservedLease {
            holder: holder.map(str::to_owned),
            renew_observed_at: at(seen),
            duration: LEASE,
            transitions: 3,
            resource_version: "17".into(),
        }
    }

    #[test]
    fn an_absent_or_released_lease_is_acquired() {
        assert_eq!(evaluate(None, "me", false, at(0)), LeaseDecision::Acquire);
        assert_eq!(evaluate(Some(&view(None, 0)), "me", false, at(0)), LeaseDecision::Acquire);
        assert_eq!(evaluate(Some(&view(Some(""), 0)), "me", false, at(0)), LeaseDecision::Acquire);
        assert_eq!(evaluate(Some(&view(Some(""), 0)), "me", true, at(0)), LeaseDecision::Acquire, "no other holder");
    }

    #[test]
    fn the_own_lease_is_renewed_even_after_it_expired() {
        assert_eq!(evaluate(Some(&view(Some("me"), 0)), "me", true, at(5)), LeaseDecision::Renew);
        assert_eq!(evaluate(Some(&view(Some("me"), 0)), "me", true, at(500)), LeaseDecision::Renew);
        assert_eq!(
            evaluate(Some(&view(Some("me"), 0)), "me", false, at(5)),
            LeaseDecision::Renew,
            "acquired before a restart"
        );
    }

    #[test]
    fn a_lease_expires_by_local_observation_only() {
        let lease = view(Some("other"), 100);
        assert_eq!(evaluate(Some(&lease), "me", false, at(100)), LeaseDecision::Wait { until: at(115) });
        assert_eq!(evaluate(Some(&lease), "me", false, at(114)), LeaseDecision::Wait { until: at(115) });
        assert_eq!(evaluate(Some(&lease), "me", false, at(115)), LeaseDecision::Acquire);
    }

    #[test]
    fn every_observed_change_restarts_the_expiry() {
        let first = view(Some("other"), 100);
        let unchanged = first.refreshed(view(Some("other"), 110));
        assert_eq!(unchanged.expires(), at(115));
        let renewed = first.refreshed(ObservedLease { resource_version: "18".into(), ..view(Some("other"), 110) });
        assert_eq!(renewed.expires(), at(125));
    }

    #[test]
    fn a_holder_that_observes_another_holder_has_lost() {
        assert_eq!(evaluate(Some(&view(Some("other"), 0)), "me", true, at(1)), LeaseDecision::Lost);
        assert_eq!(
            evaluate(Some(&view(Some("other"), 0)), "me", true, at(99)),
            LeaseDecision::Lost,
            "also once expired"
        );
    }

    #[test]
    fn the_holder_stops_at_its_deadline_before_another_may_acquire() {
        let deadline = Duration::from_secs(10);
        assert!(may_act(at(100), deadline, at(109)));
        assert!(!may_act(at(100), deadline, at(110)));
        // Another replica observes the renewal no earlier than it was sent.
        assert_eq!(
            evaluate(Some(&view(Some("me"), 100)), "you", false, at(110)),
            LeaseDecision::Wait { until: at(115) }
        );
    }
}
