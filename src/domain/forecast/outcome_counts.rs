//! Outcomes of one connection, counted since it started: what happened between two readings.

use crate::domain::ppm::Ppm;

/// The counts.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct OutcomeCounts {
    /// Good ones.
    pub good: u64,
    /// All of them.
    pub total: u64,
}

impl OutcomeCounts {
    /// Counts one outcome.
    pub fn add(&mut self, success: bool) {
        self.good = self.good.saturating_add(u64::from(success));
        self.total = self.total.saturating_add(1);
    }

    /// The share of good outcomes since `before`; `None` if there were none, or the counts have started anew.
    pub fn share_since(self, before: Self) -> Option<Ppm> {
        let good = self.good.checked_sub(before.good)?;
        share(good, self.total.checked_sub(before.total)?)
    }
}

/// The share of good outcomes; `None` without outcomes.
pub(super) fn share(good: u64, total: u64) -> Option<Ppm> {
    let millionths = u128::from(good) * 1_000_000 / u128::from(total).max(1);
    (total > 0).then(|| Ppm::new(u32::try_from(millionths).unwrap_or(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_outcomes_is_exact() {
        assert_eq!(share(0, 0), None);
        assert_eq!((share(1, 3), share(7, 7)), (Some(Ppm(333_333)), Some(Ppm::ONE)));
        assert_eq!(share(u64::MAX, u64::MAX), Some(Ppm::ONE));
    }

    #[test]
    fn between_two_readings_only_what_came_since_counts() {
        let before = OutcomeCounts { good: 5, total: 10 };
        let mut after = before;
        assert_eq!(after.share_since(before), None, "nothing happened");
        for success in [true, true, false, true] {
            after.add(success);
        }
        assert_eq!(after.share_since(before), Some(Ppm(750_000)));
        assert_eq!(OutcomeCounts::default().share_since(before), None, "another connection");
    }
}
