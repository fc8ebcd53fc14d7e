//! The outcomes of the last hour, counted: how much evidence there is, and which part of it is good.
//!
//! Unlike [`SuccessEstimate`](super::SuccessEstimate) it has no prior and no decay within the hour: whether a provider
//! is critical depends on what was observed, not on what is assumed of a young connection.

use std::time::Duration;

use crate::domain::time::Mono;

/// The window slides by this much; an outcome counts for 55 to 60 minutes.
const BUCKET: Duration = Duration::from_mins(5);
const BUCKETS: usize = 12;

/// Good and failed outcomes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct OutcomeTotals {
    pub(super) good: u32,
    pub(super) failed: u32,
}

impl OutcomeTotals {
    /// Number of outcomes.
    pub(super) const fn count(self) -> u32 {
        self.good.saturating_add(self.failed)
    }

    /// Whether fewer than `percent` of them are good.
    pub(super) fn is_below(self, percent: u32) -> bool {
        u64::from(self.good) * 100 < u64::from(self.count()) * u64::from(percent)
    }
}

/// The outcomes of the last hour.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RecentOutcomes {
    buckets: [OutcomeTotals; BUCKETS],
    /// Number of the newest bucket since the process's clock started.
    newest: u64,
}

impl RecentOutcomes {
    /// Adds one outcome.
    pub(super) fn add(&mut self, success: bool, now: Mono) {
        let number = number(now).max(self.newest);
        for passed in (self.newest + 1..=number).rev().take(BUCKETS) {
            self.buckets[index(passed)] = OutcomeTotals::default();
        }
        self.newest = number;
        let bucket = &mut self.buckets[index(number)];
        let count = if success { &mut bucket.good } else { &mut bucket.failed };
        *count = count.saturating_add(1);
    }

    /// The outcomes that still count.
    pub(super) fn totals(&self, now: Mono) -> OutcomeTotals {
        let oldest = (number(now) + 1).saturating_sub(BUCKETS as u64);
        let first = (self.newest + 1).saturating_sub(BUCKETS as u64).max(oldest);
        (first..=self.newest).map(|number| self.buckets[index(number)]).fold(OutcomeTotals::default(), |sum, one| {
            OutcomeTotals { good: sum.good.saturating_add(one.good), failed: sum.failed.saturating_add(one.failed) }
        })
    }
}

fn number(at: Mono) -> u64 {
    u64::try_from(at.since(Mono::ZERO).as_nanos() / BUCKET.as_nanos()).unwrap_or(u64::MAX)
}

fn index(number: u64) -> usize {
    usize::try_from(number % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn totals_match_a_recount_of_the_last_hour(
            script in prop::collection::vec((0u64..2_000, any::<bool>()), 1..100), quiet in 0u64..5_000,
        ) {
            let (mut recent, mut all, mut now) = (RecentOutcomes::default(), Vec::new(), 77);
            for (wait, success) in script {
                // Mostly close together, sometimes hours apart.
                now += if wait > 1_900 { wait * 5 } else { wait / 10 };
                recent.add(success, at(now));
                all.push((now, success));
            }
            now += quiet;
            let live = |at: u64| at / 300 + 12 > now / 300;
            let count = |wanted: bool| all.iter().filter(|(at, success)| live(*at) && *success == wanted).count();
            let totals = recent.totals(at(now));
            prop_assert_eq!((totals.good as usize, totals.failed as usize), (count(true), count(false)));
        }
    }

    #[test]
    fn the_share_is_exact_and_of_no_outcomes_none_is_below() {
        let totals = |good, failed| OutcomeTotals { good, failed };
        assert!(!totals(15, 5).is_below(75) && totals(14, 5).is_below(75));
        assert!(!totals(0, 0).is_below(75));
        assert!(!totals(u32::MAX, u32::MAX).is_below(50));
    }
}
