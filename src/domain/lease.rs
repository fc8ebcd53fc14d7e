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

/// What to do about the lease now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nobody holds it (absent, given back, or expired as seen from here): try to take it.
    Acquire {
        /// The count of changes of holder to write.
        transitions: i32,
        /// The version to replace; `None` creates the lease.
        resource_version: Option<String>,
    },
    /// I hold it: renew it.
    Renew {
        /// The version to replace.
        resource_version: String,
    },
    /// Somebody else holds it: look again, and do not take it before `until`.
    Wait {
        /// When it expires as seen from here, unless it changes before.
        until: Mono,
    },
    /// I believed that I hold it, and somebody else does: stop, and end the process.
    Lost {
        /// Who holds it now.
        holder: String,
    },
}

/// Decides what `me` does about the lease. `observed` is `None` if the lease does not exist; `holding` is whether this
/// process believes that it holds it.
pub fn evaluate(observed: Option<&LeaseView>, me: &str, holding: bool, now: Mono) -> Verdict {
    let Some(lease) = observed else {
        return Verdict::Acquire { transitions: 0, resource_version: None };
    };
    let take = || Verdict::Acquire {
        transitions: lease.transitions.saturating_add(1),
        resource_version: Some(lease.resource_version.clone()),
    };
    match lease.holder.as_deref().filter(|h| !h.is_empty()) {
        None => take(),
        Some(holder) if holder == me => Verdict::Renew { resource_version: lease.resource_version.clone() },
        Some(holder) if holding => Verdict::Lost { holder: holder.to_owned() },
        Some(_) => {
            let until = lease.renew_observed_at + lease.duration;
            if now >= until { take() } else { Verdict::Wait { until } }
        }
    }
}
