//! Who may act: our own leader election over a Lease, decided by values.
//!
//! The timing is client-go's (`tools/leaderelection`): a lease counts as expired when *this* process has seen it
//! unchanged for its whole duration, measured on this process's monotonic clock, so clocks of different machines are
//! never compared. Failing to renew is not losing; seeing somebody else as the holder is.

use std::time::Duration;

use crate::domain::time::Mono;

/// A Lease as this process last read it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseView {
    /// Who holds it; `None` or empty once it was given back.
    pub holder: Option<String>,
    /// When *we* first saw this very state (holder and renew time): every change starts the wait anew.
    pub renew_observed_at: Mono,
    /// For how long the holder may be silent.
    pub duration: Duration,
    /// How often the holder changed.
    pub transitions: i32,
    /// What an update must name, so that it fails if somebody was faster.
    pub resource_version: String,
}

impl LeaseView {
    /// Who holds it, if anybody does.
    pub fn held_by(&self) -> Option<&str> {
        self.holder.as_deref().filter(|h| !h.is_empty())
    }

    /// When it expires as seen from here, unless it changes before.
    pub fn expires(&self) -> Mono {
        self.renew_observed_at + self.duration
    }

    /// This view after reading the lease again at `now`: the wait goes on only if nothing changed.
    #[must_use]
    pub fn seen_again(&self, fresh: Self) -> Self {
        if fresh.resource_version == self.resource_version {
            Self { renew_observed_at: self.renew_observed_at, ..fresh }
        } else {
            fresh
        }
    }
}

/// What to do about the lease now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nobody holds it (absent, given back, or expired as seen from here): try to take it, naming the version seen.
    Acquire,
    /// I hold it: renew it, naming the version seen.
    Renew,
    /// Somebody else holds it: look again, and do not take it before `until`.
    Wait {
        /// When it expires as seen from here, unless it changes before.
        until: Mono,
    },
    /// I believed that I hold it, and somebody else does: stop, and end the process.
    Lost,
}

/// Decides what `me` does about the lease. `observed` is `None` if the lease does not exist; `holding` is whether this
/// process believes that it holds it.
///
/// A lease that was given back or deleted while I hold it is taken again at once: nobody else has it, and whoever is
/// faster wins by the resource version.
pub fn evaluate(observed: Option<&LeaseView>, me: &str, holding: bool, now: Mono) -> Verdict {
    let Some(lease) = observed else { return Verdict::Acquire };
    match lease.held_by() {
        None => Verdict::Acquire,
        Some(holder) if holder == me => Verdict::Renew,
        Some(_) if holding => Verdict::Lost,
        Some(_) if now >= lease.expires() => Verdict::Acquire,
        Some(_) => Verdict::Wait { until: lease.expires() },
    }
}

/// Whether a holder may still act: its last renewal that the API server confirmed was *sent* less than `deadline` ago.
/// Past it the holder stops reconciling, without having lost anything yet.
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

    fn view(holder: Option<&str>, seen: u64) -> LeaseView {
        LeaseView {
            holder: holder.map(str::to_owned),
            renew_observed_at: at(seen),
            duration: LEASE,
            transitions: 3,
            resource_version: "17".into(),
        }
    }

    #[test]
    fn a_lease_that_does_not_exist_or_was_given_back_is_acquired() {
        assert_eq!(evaluate(None, "me", false, at(0)), Verdict::Acquire);
        assert_eq!(evaluate(Some(&view(None, 0)), "me", false, at(0)), Verdict::Acquire);
        assert_eq!(evaluate(Some(&view(Some(""), 0)), "me", false, at(0)), Verdict::Acquire);
        assert_eq!(evaluate(Some(&view(Some(""), 0)), "me", true, at(0)), Verdict::Acquire, "nobody else has it");
    }

    #[test]
    fn my_own_lease_is_renewed_even_after_it_expired() {
        assert_eq!(evaluate(Some(&view(Some("me"), 0)), "me", true, at(5)), Verdict::Renew);
        assert_eq!(evaluate(Some(&view(Some("me"), 0)), "me", true, at(500)), Verdict::Renew);
        assert_eq!(evaluate(Some(&view(Some("me"), 0)), "me", false, at(5)), Verdict::Renew, "my former self's");
    }

    #[test]
    fn anothers_lease_expires_only_by_what_i_saw_myself() {
        let lease = view(Some("other"), 100);
        assert_eq!(evaluate(Some(&lease), "me", false, at(100)), Verdict::Wait { until: at(115) });
        assert_eq!(evaluate(Some(&lease), "me", false, at(114)), Verdict::Wait { until: at(115) });
        assert_eq!(evaluate(Some(&lease), "me", false, at(115)), Verdict::Acquire);
    }

    #[test]
    fn every_change_that_i_see_starts_the_wait_anew() {
        let first = view(Some("other"), 100);
        let unchanged = first.seen_again(view(Some("other"), 110));
        assert_eq!(unchanged.expires(), at(115));
        let renewed = first.seen_again(LeaseView { resource_version: "18".into(), ..view(Some("other"), 110) });
        assert_eq!(renewed.expires(), at(125));
    }

    #[test]
    fn a_holder_that_sees_somebody_else_as_holder_has_lost() {
        assert_eq!(evaluate(Some(&view(Some("other"), 0)), "me", true, at(1)), Verdict::Lost);
        assert_eq!(evaluate(Some(&view(Some("other"), 0)), "me", true, at(99)), Verdict::Lost, "also once expired");
    }

    #[test]
    fn a_holder_that_cannot_renew_stops_acting_at_its_deadline_before_anybody_else_may_start() {
        let deadline = Duration::from_secs(10);
        assert!(may_act(at(100), deadline, at(109)));
        assert!(!may_act(at(100), deadline, at(110)));
        // The other one saw the renewal no earlier than it was sent.
        assert_eq!(evaluate(Some(&view(Some("me"), 100)), "you", false, at(110)), Verdict::Wait { until: at(115) });
    }
}
