//! Trials of a half-open circuit: leased permits, so that a caller that never reports does not keep the circuit
//! half-open forever.
//!
//! resilience4j (issues 903, 935) and opossum (issue 276) show the two ways to get stuck: a permit that is never
//! released, and a decision that waits for more results than there are permits. Leases solve the first; reissuing a
//! permit as soon as its result is recorded solves the second.

use std::time::Duration;

use crate::domain::time::Mono;

/// Largest number of concurrent trials that a policy can configure.
pub const MAX_TRIALS: usize = 16;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct TrialLease {
    ticket: u32,
    expires: Mono,
}

/// Leases and results of one half-open period.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Trials {
    leases: [Option<TrialLease>; MAX_TRIALS],
    /// Not reused within a process, so that a late result is not attributed to a newer trial.
    last_ticket: u32,
    pub(super) successes: u32,
    /// Trials that never reported. The first is tolerated, because the caller may have failed on its own; the second
    /// opens the circuit.
    pub(super) lost: u32,
}

impl Trials {
    /// Starts a new half-open period.
    pub(super) fn reset(&mut self) {
        self.leases = [None; MAX_TRIALS];
        self.successes = 0;
        self.lost = 0;
    }

    /// Issues a trial if fewer than `limit` are in flight; returns its ticket.
    pub(super) fn take(&mut self, limit: u8, lease: Duration, now: Mono) -> Option<u32> {
        let limit = usize::from(limit).clamp(1, MAX_TRIALS);
        if self.in_flight() >= limit {
            return None;
        }
        let ticket = self.last_ticket.wrapping_add(1);
        let free = self.leases.iter_mut().find(|l| l.is_none())?;
        *free = Some(TrialLease { ticket, expires: now + lease });
        self.last_ticket = ticket;
        Some(ticket)
    }

    /// Whether a trial is in flight and its lease is not over.
    pub(super) fn is_leased(&self, ticket: u32, now: Mono) -> bool {
        self.leases.iter().flatten().any(|lease| lease.ticket == ticket && now < lease.expires)
    }

    /// Renews the lease of a trial; no effect if it is over.
    pub(super) fn renew(&mut self, ticket: u32, lease: Duration, now: Mono) {
        if let Some(held) = self.leases.iter_mut().flatten().find(|l| l.ticket == ticket && now < l.expires) {
            held.expires = now + lease;
        }
    }

    /// Releases a trial; `false` if its lease has expired.
    pub(super) fn release(&mut self, ticket: u32) -> bool {
        match self.leases.iter_mut().find(|l| l.is_some_and(|l| l.ticket == ticket)) {
            Some(lease) => {
                *lease = None;
                true
            }
            None => false,
        }
    }

    /// Removes every lease that expired by `now` and counts it as lost.
    pub(super) fn expire(&mut self, now: Mono) {
        for lease in &mut self.leases {
            if lease.is_some_and(|l| now >= l.expires) {
                *lease = None;
                self.lost += 1;
            }
        }
    }

    /// Number of trials in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.leases.iter().flatten().count()
    }

    /// When the next lease expires, if there is one.
    pub(super) fn next_expiry(&self) -> Option<Mono> {
        self.leases.iter().flatten().map(|l| l.expires).min()
    }
}
