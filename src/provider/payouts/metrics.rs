//! Counts what becomes of payouts, for the gateway and the clock: an act is counted where it is stored, once.

use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec};

use crate::domain::payout::{Applied, Effect, Payout};
use crate::ledger::payouts::PayoutAct;
use crate::metrics::{Metrics, MetricsError};

/// Outcomes of payouts: the label values.
const OUTCOMES: [[&str; 1]; 6] =
    [["registered"], ["confirmed"], ["rerouted"], ["held"], ["duplicate"], ["not_executed"]];

/// From a second to ten days: instant payments and recalls.
const AGE_BUCKETS: [f64; 13] =
    [1.0, 10.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0, 259_200.0, 864_000.0];

/// Counters of payouts. Clones share them.
#[derive(Clone)]
pub struct PayoutMetrics {
    outcomes: IntCounterVec,
    seconds: HistogramVec,
}

impl PayoutMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// If one is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let outcomes = metrics.counter_from_zero(
            "busbar_payouts_total",
            "Followed payouts by outcome; one payout may have several: registered, confirmed, rerouted (a further attempt), \
             held (waits for a person), duplicate (executed twice, or about to be), not_executed (proven so far).",
            ["outcome"],
            OUTCOMES,
        )?;
        let help = "Time from the registration of a payout until an attempt was confirmed (confirmed), or every attempt \
                    was proven not to have been executed (not_executed).";
        let options = HistogramOpts::new("busbar_payout_age_seconds", help).buckets(AGE_BUCKETS.to_vec());
        let seconds = HistogramVec::new(options, &["outcome"])?;
        metrics.collector(Box::new(seconds.clone()))?;
        for outcome in ["confirmed", "not_executed"] {
            seconds.with_label_values(&[outcome]);
        }
        Ok(Self { outcomes, seconds })
    }

    /// Counts an act that is stored; `before` is the payout as it was, `None` for a registration.
    pub fn count(&self, act: PayoutAct, before: Option<&Payout>, applied: &Applied, at: Timestamp) {
        let payout = &applied.payout;
        let was = |is: fn(&Payout) -> bool| before.is_some_and(is);
        let attempts = |payout: &Payout| payout.attempts.len();
        if act == PayoutAct::Register {
            self.add("registered");
        } else if before.map_or(0, attempts) < attempts(payout) {
            self.add("rerouted");
        }
        if payout.is_executed() && !was(Payout::is_executed) {
            self.ended("confirmed", payout, at);
        }
        if payout.is_not_executed() && !was(Payout::is_not_executed) {
            self.ended("not_executed", payout, at);
        }
        if payout.hold().is_some() && !was(|payout| payout.hold().is_some()) {
            self.add("held");
        }
        if applied.effects.contains(&Effect::Freeze) {
            self.add("duplicate");
        }
    }

    fn add(&self, outcome: &'static str) {
        self.outcomes.with_label_values(&[outcome]).inc();
    }

    fn ended(&self, outcome: &'static str, payout: &Payout, at: Timestamp) {
        self.add(outcome);
        let age = at.duration_since(payout.registered_at).as_secs_f64().max(0.0);
        self.seconds.with_label_values(&[outcome]).observe(age);
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;
    use uuid::Uuid;

    use super::*;
    use crate::domain::money::Currency;
    use crate::domain::payout::{
        AttemptPlan, BankPromises, BankReport, Evidence, EvidenceSource, NewPayout, PayoutInput, StuckRules, apply,
        register,
    };

    #[test]
    fn a_payout_counts_once_for_each_thing_that_becomes_of_it() {
        let metrics = Metrics::new();
        let counters = PayoutMetrics::new(&metrics).unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let later = Timestamp::from_second(1_800_000_090).unwrap();
        let new = NewPayout {
            amount: Decimal::ONE,
            currency: Currency::parse("EUR").unwrap(),
            namespace: "team".to_owned(),
            payout_id: "p".to_owned(),
            route: "r".to_owned(),
            rules: StuckRules::default(),
        };
        let plan = AttemptPlan {
            attempt_no: 1,
            bank: "a".to_owned(),
            candidate: "a".to_owned(),
            decision_id: Uuid::from_u128(1),
            promises: BankPromises::default(),
            send_by: later,
        };
        let registered = register(new, plan, start);
        counters.count(PayoutAct::Register, None, &registered, start);
        let evidence = Evidence::new(EvidenceSource::Submitter, later);
        let report = PayoutInput::Report { attempt_no: 1, report: BankReport::Confirmation, evidence };
        let mut payout = registered.payout;
        for _ in 0..2 {
            let applied = apply(&payout, &report, later);
            counters.count(PayoutAct::Report, Some(&payout), &applied, later);
            payout = applied.payout;
        }
        let text = metrics.render().unwrap();
        for line in [
            "busbar_payouts_total{outcome=\"registered\"} 1\n",
            "busbar_payouts_total{outcome=\"confirmed\"} 1\n",
            "busbar_payouts_total{outcome=\"held\"} 0\n",
            "busbar_payouts_total{outcome=\"duplicate\"} 0\n",
            "busbar_payout_age_seconds_sum{outcome=\"confirmed\"} 90\n",
        ] {
            assert!(text.contains(line), "{line} {text}");
        }
    }
}
