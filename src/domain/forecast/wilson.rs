//! Wilson's score interval: what a success rate is at least, and at most, given few outcomes.

use crate::domain::ppm::Ppm;

/// The quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.96;

/// The smallest success rate that is plausible (95 %) after `good` of `total` outcomes; 0 without outcomes.
pub fn wilson_lower(good: u32, total: u32) -> Ppm {
    interval(good, total, -1.0)
}

/// The largest success rate that is plausible (95 %) after `good` of `total` outcomes; 1 without outcomes.
pub fn wilson_upper(good: u32, total: u32) -> Ppm {
    if total == 0 { Ppm::ONE } else { interval(good, total, 1.0) }
}

fn interval(good: u32, total: u32, side: f64) -> Ppm {
    if total == 0 {
        return Ppm::default();
    }
    let n = f64::from(total);
    let share = f64::from(good.min(total)) / n;
    let spread = (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    Ppm::of((share + Z * Z / (2.0 * n) + side * Z * spread) / (1.0 + Z * Z / n))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lower_bound_matches_the_published_values() {
        for (good, total, thousandths) in [(9, 10, 596), (10, 10, 722), (98, 100, 930), (990, 1000, 982)] {
            let bound = (wilson_lower(good, total).get() + 500) / 1000;
            assert_eq!(bound, thousandths, "{good}/{total}");
        }
    }

    #[test]
    fn without_outcomes_everything_is_plausible() {
        assert_eq!((wilson_lower(0, 0), wilson_upper(0, 0)), (Ppm::default(), Ppm::ONE));
        assert_eq!(wilson_upper(10, 10), Ppm::ONE);
        assert_eq!(wilson_lower(0, 10), Ppm::default());
    }

    proptest! {
        #[test]
        fn the_interval_holds_the_observed_share_and_narrows(good in 0u32..=1000, more in 0u32..1000) {
            let total = good + more;
            prop_assume!(total > 0);
            let share = Ppm::of(f64::from(good) / f64::from(total));
            prop_assert!(wilson_lower(good, total) <= share && share <= wilson_upper(good, total));
            prop_assert!(wilson_lower(good, total) <= wilson_lower(good * 10, total * 10));
        }
    }
}
