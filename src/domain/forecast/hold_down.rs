//! Hold-down: a prediction counts when it is repeated, and for a minimum time.

use std::time::Duration;

use crate::domain::time::Mono;

/// Predictions of an outage in a row from which on it is predicted, and predictions of none that end it.
const CONFIRMATIONS: u8 = 2;
/// Minimum time for which an outage is predicted.
pub const MIN_DWELL: Duration = Duration::from_mins(10);

/// Whether an outage is predicted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct HoldDown {
    since: Option<Mono>,
    /// Consecutive predictions that contradict the current state.
    contradictions: u8,
}

impl HoldDown {
    /// Records a prediction of an outage, or of none; returns whether one is predicted now.
    pub fn observe(&mut self, outage: bool, now: Mono) -> bool {
        self.contradictions = if outage == self.since.is_some() { 0 } else { self.contradictions.saturating_add(1) };
        let dwelt = self.since.is_none_or(|since| now.since(since) >= MIN_DWELL);
        if self.contradictions >= CONFIRMATIONS && dwelt {
            self.since = outage.then_some(now);
            self.contradictions = 0;
        }
        self.since.is_some()
    }

    /// Whether an outage is predicted.
    pub fn is_predicted(&self) -> bool {
        self.since.is_some()
    }

    /// Since when an outage is predicted, and how many predictions in a row have contradicted the state.
    pub fn parts(&self) -> (Option<Mono>, u8) {
        (self.since, self.contradictions)
    }

    /// From its [`parts`](Self::parts).
    pub fn restored(since: Option<Mono>, contradictions: u8) -> Self {
        Self { since, contradictions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after predictions two minutes apart.
    fn walk(outages: &[bool]) -> Vec<bool> {
        let mut hold = HoldDown::default();
        (0u64..)
            .zip(outages)
            .map(|(n, outage)| hold.observe(*outage, Mono::ZERO + Duration::from_mins(2 * n)))
            .collect()
    }

    #[test]
    fn one_prediction_of_an_outage_is_none_and_two_in_a_row_are() {
        let (o, x) = (false, true);
        assert_eq!(walk(&[o, x, o, x, o, x]), [o; 6]);
        assert_eq!(walk(&[o, x, x, x]), [o, o, x, x]);
    }

    #[test]
    fn it_ends_after_two_healthy_predictions_and_ten_minutes() {
        let (o, x) = (false, true);
        assert_eq!(walk(&[x, x, o, o, o, o, o]), [o, x, x, x, x, x, o], "ten minutes after the second");
        assert_eq!(walk(&[x, x, x, x, x, x, x, o, x, o, o]), [o, x, x, x, x, x, x, x, x, x, o]);
    }
}
