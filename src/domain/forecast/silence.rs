//! Silence of a provider that is checked regularly: φ of its missing responses.
//!
//! Only checks that were sent count. While none is sent (a maintenance window, a rate limit, another leader), the
//! provider has nothing to respond to, and the silence is ours.

use std::time::Duration;

use super::phi::{IntervalHistory, THRESHOLD};
use crate::domain::ppm::Ppm;
use crate::domain::time::Mono;

/// The responses of one provider to its health checks.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Silence {
    history: IntervalHistory,
    /// When the last check ended.
    checked: Option<Mono>,
    /// Whether the check before came after a gap in which none was due.
    rested: bool,
    /// The last response, or the beginning of the silence that counts.
    since: Option<Mono>,
    phi: f64,
}

impl Silence {
    /// Records a check that has ended: `responded` says whether the provider sent any response, good or bad. Silence
    /// counts beyond `tolerated` checks without a response in a row.
    pub fn observe(&mut self, responded: bool, tolerated: u32, now: Mono) {
        let gap = self.checked.map(|checked| now.since(checked));
        let mean = self.history.mean();
        // No check was due for so long: the provider was not asked meanwhile.
        let asked = gap.is_some_and(|gap| self.history.is_empty() || gap <= 2 * mean + Duration::from_secs(1));
        let rests = gap.filter(|_| !asked);
        if rests.is_some() {
            self.since = self.since.map(|since| since.max(now - mean));
        }
        // Twice in a row is no pause: the first gap was short, or the interval is another one now.
        if let Some(gap) = rests.filter(|_| self.rested) {
            self.history = IntervalHistory::assuming(gap);
        }
        self.rested = rests.is_some();
        self.checked = Some(self.checked.map_or(now, |checked| checked.max(now)));
        let elapsed = self.since.map(|since| now.since(since));
        if responded {
            // After a detected failure, or when it was not asked, the interval says nothing about its rhythm.
            if let Some(elapsed) = elapsed.filter(|_| asked && self.phi < THRESHOLD) {
                if self.history.is_empty() {
                    self.history = IntervalHistory::assuming(elapsed);
                } else {
                    self.history.add(elapsed);
                }
            }
            self.since = Some(self.since.map_or(now, |since| since.max(now)));
            self.phi = 0.0;
        } else if let Some(elapsed) = elapsed {
            self.phi = self.history.phi(elapsed, mean * tolerated);
        }
    }

    /// φ as of the last check.
    pub fn phi(&self) -> f64 {
        self.phi
    }

    /// The risk of the silence: 0 while it responds, 1 from φ = 8.
    pub fn risk(&self) -> Ppm {
        Ppm::of(self.phi / THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_rhythm_that_begins_with_a_short_gap_or_becomes_slower_is_learned() {
        let mut silence = Silence::default();
        for seconds in [0, 18, 78, 138, 198, 258] {
            silence.observe(true, 0, at(seconds));
        }
        (0..20).for_each(|n| silence.observe(false, 0, at(318 + 60 * n)));
        assert!(silence.phi() >= THRESHOLD, "{}", silence.phi());
        let mut slower = regular(50);
        (0..10).for_each(|n| slower.observe(true, 0, at(1_500 + 300 * n)));
        (0..20).for_each(|n| slower.observe(false, 0, at(4_500 + 300 * n)));
        assert!(slower.phi() >= THRESHOLD, "{}", slower.phi());
    }

    fn regular(checks: u64) -> Silence {
        let mut silence = Silence::default();
        (0..checks).for_each(|n| silence.observe(true, 0, at(30 * n)));
        silence
    }

    #[test]
    fn a_silent_provider_is_detected_and_is_well_again_with_its_next_response() {
        let mut silence = regular(20);
        assert_eq!(silence.risk(), Ppm::default());
        silence.observe(false, 0, at(19 * 30 + 50));
        assert!(silence.phi() > THRESHOLD, "{}", silence.phi());
        assert_eq!(silence.risk(), Ppm::ONE);
        let before = silence.history.clone();
        silence.observe(true, 0, at(20 * 30 + 30));
        assert_eq!(silence.risk(), Ppm::default());
        assert_eq!(silence.history, before, "an interval after a detected failure is no sample");
    }

    #[test]
    fn tolerated_checks_without_a_response_are_no_silence() {
        let mut silence = regular(20);
        for n in 20..22 {
            silence.observe(false, 2, at(30 * n));
            assert!(silence.phi() < 0.5, "{n}: {}", silence.phi());
        }
        silence.observe(false, 2, at(30 * 22));
        assert!((silence.phi() - 0.3).abs() < 0.05, "just due: {}", silence.phi());
        silence.observe(false, 2, at(30 * 23));
        assert_eq!(silence.risk(), Ppm::ONE);
    }

    #[test]
    fn time_without_checks_is_not_silence() {
        for responded in [false, true] {
            let mut silence = regular(20);
            let later = 19 * 30 + 3_600;
            silence.observe(responded, 0, at(later));
            assert!(silence.phi() < 0.5, "the first check after an hour without: {}", silence.phi());
            assert_eq!(silence.history.mean(), regular(20).history.mean(), "an hour is not its rhythm");
            silence.observe(false, 0, at(later + 30));
            assert_eq!(silence.phi() > 0.5, !responded, "it counts from the check on: {}", silence.phi());
        }
    }

    #[test]
    fn before_the_first_response_there_is_no_rhythm_to_miss() {
        let mut silence = Silence::default();
        (0..50).for_each(|n| silence.observe(false, 0, at(30 * n)));
        assert_eq!(silence.risk(), Ppm::default());
    }
}
