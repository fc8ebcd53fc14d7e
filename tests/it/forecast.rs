//! The built-in forecast on series of outcomes: when it warns, when it does not, and what its predictions are worth.
//!
//! The series are generated from seeds (`src/testbed/bank_series.rs`): the same outcomes in every run.

use std::time::Duration;

use busbar::domain::health::Ppm;
use busbar::testbed::bank_series::{BankSeries, Replayed, replay};

/// Replays of a series with so many seeds; those of a day are long.
fn replayed(series: BankSeries, seeds: u64) -> impl Iterator<Item = Replayed> {
    (1..=seeds).map(move |seed| replay(series.outcomes(seed)))
}

fn minutes(at: Duration) -> u64 {
    at.as_secs() / 60
}

#[test]
fn a_slow_degradation_is_announced_before_the_circuit_opens() {
    for run in replayed(BankSeries::SlowDegradation, 8) {
        let (warned, opened) = (run.warned.unwrap(), run.opened.unwrap());
        assert!(warned < opened, "warned {} min, opened {} min", minutes(warned), minutes(opened));
        assert!(minutes(warned) >= 180, "not while it is well: {} min", minutes(warned));
    }
}

#[test]
fn a_cliff_opens_the_circuit_and_is_not_announced_before_it_happens() {
    for run in replayed(BankSeries::Cliff, 8) {
        let opened = run.opened.unwrap();
        assert!((180..=184).contains(&minutes(opened)), "{} min", minutes(opened));
        assert!(run.warned.is_none_or(|warned| minutes(warned) >= 180), "{:?}", run.warned);
        let forecast = run.monitor.warning();
        assert!(!forecast.outage, "an hour and a half after it has recovered");
    }
}

/// A bank without anything to predict: no warning, and next to no skill.
fn assert_never_announced(series: BankSeries) {
    for run in replayed(series, 4) {
        assert_eq!((run.warned, run.warned_outcomes), (None, 0), "{}", series.name());
        let record = run.monitor.skill_record();
        assert_eq!(record.matured().count(), 200, "{}", series.name());
        assert!(record.skill() < Ppm::new(20_000), "{}: {:?}", series.name(), record.skill());
    }
}

#[test]
fn a_noisy_but_healthy_bank_is_never_announced_to_fail() {
    assert_never_announced(BankSeries::NoisyHealthy);
}

#[test]
fn a_healthy_daily_pattern_is_never_announced_to_fail() {
    assert_never_announced(BankSeries::DailyPattern);
}

#[test]
fn forecasts_of_a_degradation_are_better_than_its_average() {
    for run in replayed(BankSeries::SlowDegradation, 8) {
        let record = run.monitor.skill_record();
        assert!(record.brier().unwrap() < record.climatology().unwrap(), "{:?}", record.brier());
        assert!(record.skill() > Ppm::default());
    }
}

#[test]
fn the_same_series_gives_the_same_forecasts() {
    for series in [BankSeries::SlowDegradation, BankSeries::Cliff] {
        let [one, other] = [(); 2].map(|()| replay(series.outcomes(42)));
        assert_eq!(one.monitor, other.monitor, "{}", series.name());
        assert_eq!((one.warned, one.opened), (other.warned, other.opened));
    }
}
