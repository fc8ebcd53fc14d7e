//! How good the built-in forecast is on the series of the testbed: Brier score, skill, and how early it warns.

use busbar::testbed::bank_series::{BankSeries, replay};

use crate::Figures;
use crate::stats::float;

/// Seeds of the series: the figures are means over all of them.
const SEEDS: std::ops::Range<u64> = 1..11;

pub(crate) fn run(figures: &mut Figures) {
    let (mut brier, mut climatology, mut records) = (0.0, 0.0, 0);
    for series in BankSeries::ALL {
        let (mut warned, mut minutes, mut of_series, mut average) = (0, 0.0, 0.0, 0.0);
        for seed in SEEDS {
            let replayed = replay(series.outcomes(seed));
            let record = replayed.monitor.skill_record();
            if let (Some(score), Some(usual)) = (record.brier(), record.climatology()) {
                of_series += score;
                average += usual;
                records += 1;
            }
            warned += usize::from(replayed.warned.is_some());
            if let (Some(warned), Some(opened)) = (replayed.warned, replayed.opened) {
                minutes += (opened.as_secs_f64() - warned.as_secs_f64()) / 60.0;
            }
        }
        let runs = float(SEEDS.count());
        println!(
            "{}: warned in {warned} of {runs} runs, {:.1} minutes before the circuit opened (mean), Brier {:.4}, \
             of the average {:.4}",
            series.name(),
            minutes / float(warned.max(1)),
            of_series / runs,
            average / runs,
        );
        brier += of_series;
        climatology += average;
    }
    figures.figure("forecast.brier", format_args!("{:.4}", brier / float(records)), "");
    figures.figure("forecast.skill", format_args!("{:.3}", 1.0 - brier / climatology), "");
}
