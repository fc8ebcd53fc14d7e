//! Who is on trial: a few leases, so that a caller that dies does not hold the circuit half-open for ever.
//!
//! resilience4j (issues 903, 935) and opossum (issue 276) show the two ways to get stuck: a permit that is never given
//! back, and a verdict that waits for more results than there are permits. Leases answer the first; giving a permit
//! again as soon as its result is in answers the second.

use std::time::Duration;

use crate::domain::time::Mono;

/// The most trials a policy can ask for at once.
pub const MAX_TRIALS: usize = 16;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Lease {
    ticket: u32,
    expires: Mono,
}

/// The leases and the verdict so far of one half-open time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Trials {
    leases: [Option<Lease>; MAX_TRIALS],
    /// Never reused within a process, so that a late result cannot be taken for a newer trial's.
    last_ticket: u32,
    pub(super) successes: u32,
    /// Trials that never reported: the first is forgiven (a caller may die of its own causes), the second is not.
    pub(super) lost: u32,
}

impl Trials {
    /// Starts a new half-open time.
    pub(super) fn reset(&mut self) {
        self.leases = [None; MAX_TRIALS];
        self.successes = 0;
        self.lost = 0;
    }

    /// Takes a free trial out of `limit`, if there is one.
    pub(super) fn take(&mut self, limit: u8, lease: Duration, now: Mono) -> Option<u32> {
        let limit = usize::from(limit).clamp(1, MAX_TRIALS);
        if self.in_flight() >= limit {
            return None;
        }
        let ticket = self.last_ticket.wrapping_add(1);
        let free = self.leases.iter_mut().find(|l| l.is_none())?;
        *free = Some(Lease { ticket, expires: now + lease });
        self.last_ticket = ticket;
        Some(ticket)
    }

    /// Begins a trial's lease anew; nothing if it was lost in the meantime.
    pub(super) fn renew(&mut self, ticket: u32, lease: Duration, now: Mono) {
        if let Some(held) = self.leases.iter_mut().flatten().find(|l| l.ticket == ticket) {
            held.expires = now + lease;
        }
    }

    /// Gives a trial back; false if it was lost in the meantime.
    pub(super) fn give_back(&mut self, ticket: u32) -> bool {
        match self.leases.iter_mut().find(|l| l.is_some_and(|l| l.ticket == ticket)) {
            Some(lease) => {
                *lease = None;
                true
            }
            None => false,
        }
    }

    /// Takes back every lease that ended by `now` and counts it as lost.
    pub(super) fn expire(&mut self, now: Mono) {
        for lease in &mut self.leases {
            if lease.is_some_and(|l| now >= l.expires) {
                *lease = None;
                self.lost += 1;
            }
        }
    }

    /// Trials that are out now.
    pub(super) fn in_flight(&self) -> usize {
        self.leases.iter().flatten().count()
    }

    /// When the next lease ends, if any is out.
    pub(super) fn next_expiry(&self) -> Option<Mono> {
        self.leases.iter().flatten().map(|l| l.expires).min()
    }
}
