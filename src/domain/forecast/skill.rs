//! How good predictions were: the Brier score, compared with always predicting the average.

use std::collections::VecDeque;

use crate::domain::ppm::Ppm;

/// Matured predictions that count.
pub const MATURED: usize = 200;
/// The most that fewer matured predictions can prove.
pub const UNPROVEN: Ppm = Ppm(250_000);
/// Fewer than this prove nothing: luck.
const FEWEST: usize = 20;
/// Less skill than this is none: luck, too.
const LEAST: Ppm = Ppm(10_000);

/// A prediction whose window is over.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Matured {
    /// The share of good outcomes that was predicted.
    pub predicted: Ppm,
    /// The share that came.
    pub observed: Ppm,
}

/// The last matured predictions of one forecaster about one bank.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SkillRecord {
    matured: VecDeque<Matured>,
}

impl SkillRecord {
    /// From stored predictions, oldest first; the last ones count.
    pub fn restored(matured: impl IntoIterator<Item = Matured>) -> Self {
        let mut record = Self::default();
        matured.into_iter().for_each(|one| record.add(one));
        record
    }

    /// Adds a prediction that has matured.
    pub fn add(&mut self, matured: Matured) {
        if self.matured.len() >= MATURED {
            self.matured.pop_front();
        }
        self.matured.push_back(matured);
    }

    /// The matured predictions, oldest first.
    pub fn matured(&self) -> impl Iterator<Item = Matured> + '_ {
        self.matured.iter().copied()
    }

    /// Mean squared error of the predictions against the outcomes of their windows; `None` without any.
    ///
    /// Of a window in which the share `o` of outcomes was good, the prediction `p` scores `(p − o)² + o(1 − o)`: the mean
    /// over the outcomes themselves.
    pub fn brier(&self) -> Option<f64> {
        self.mean(|one| {
            let (p, o) = (one.predicted.share(), one.observed.share());
            (p - o).powi(2) + o * (1.0 - o)
        })
    }

    /// The Brier score of climatology: of always predicting the average of the same windows.
    pub fn climatology(&self) -> Option<f64> {
        let average = self.mean(|one| one.observed.share())?;
        Some(average * (1.0 - average))
    }

    /// What the predictions are better than climatology by: `1 − Brier/climatology`, from 0 to 1. With fewer than 200 at
    /// most a quarter; with fewer than 20, where every outcome was alike, or if it is less than a hundredth, 0.
    pub fn skill(&self) -> Ppm {
        let (Some(brier), Some(climatology)) = (self.brier(), self.climatology()) else { return Ppm::default() };
        if self.matured.len() < FEWEST || climatology <= 0.0 {
            return Ppm::default();
        }
        let skill = Ppm::of(1.0 - brier / climatology);
        if skill < LEAST {
            return Ppm::default();
        }
        if self.matured.len() < MATURED { skill.min(UNPROVEN) } else { skill }
    }

    fn mean(&self, value: impl Fn(&Matured) -> f64) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "at most two hundred")]
        let count = self.matured.len() as f64;
        (!self.matured.is_empty()).then(|| self.matured.iter().map(value).sum::<f64>() / count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(pairs: impl IntoIterator<Item = (u32, u32)>) -> SkillRecord {
        SkillRecord::restored(
            pairs.into_iter().map(|(p, o)| Matured { predicted: Ppm(p * 10_000), observed: Ppm(o * 10_000) }),
        )
    }

    /// `n` predictions of a bank that is well half of the time.
    fn alternating(n: usize, predict: impl Fn(u32) -> u32) -> SkillRecord {
        record((0..n).map(|i| if i % 2 == 0 { (predict(100), 100) } else { (predict(0), 0) }))
    }

    #[test]
    fn brier_score_and_climatology_match_those_computed_by_hand() {
        // 0.9 of a window of which all is good: 0.01; 0.9 of one half good: 0.16 + 0.25. Half of both is 0.21.
        let record = record([(90, 100), (90, 50)]);
        assert!((record.brier().unwrap() - 0.21).abs() < 1e-12);
        assert!((record.climatology().unwrap() - 0.75 * 0.25).abs() < 1e-12);
        assert_eq!(SkillRecord::default().brier(), None);
    }

    #[test]
    fn a_perfect_forecaster_has_skill_and_one_that_guesses_has_none() {
        assert_eq!(alternating(200, |observed| observed).skill(), Ppm::ONE);
        assert_eq!(alternating(200, |_| 50).skill(), Ppm::default(), "the average itself");
        assert_eq!(alternating(200, |observed| 100 - observed).skill(), Ppm::default(), "the opposite");
        // Half right: errors of 0.25² against a climatology of 0.25.
        let half = alternating(200, |observed| if observed == 100 { 75 } else { 25 });
        assert_eq!(half.skill(), Ppm(750_000));
    }

    #[test]
    fn fewer_than_two_hundred_prove_at_most_a_quarter_and_fewer_than_twenty_nothing() {
        for (matured, skill) in [(0, 0), (19, 0), (20, 250_000), (199, 250_000), (200, 1_000_000), (500, 1_000_000)] {
            assert_eq!(alternating(matured, |observed| observed).skill(), Ppm(skill), "{matured}");
        }
    }

    #[test]
    fn where_every_outcome_was_good_there_is_nothing_to_predict() {
        assert_eq!(record((0..200).map(|_| (100, 100))).skill(), Ppm::default());
        assert_eq!(record((0..200).map(|_| (99, 100))).skill(), Ppm::default());
    }

    #[test]
    fn only_the_last_two_hundred_count() {
        let mut record = alternating(200, |observed| 100 - observed);
        for one in alternating(200, |observed| observed).matured() {
            record.add(one);
        }
        assert_eq!((record.skill(), record.matured().count()), (Ppm::ONE, 200));
    }

    proptest! {
        #[test]
        fn no_constant_prediction_has_skill(p in 0u32..=100, outcomes in prop::collection::vec(0u32..=100, 1..300)) {
            prop_assert_eq!(record(outcomes.into_iter().map(|o| (p, o))).skill(), Ppm::default());
        }
    }
}
