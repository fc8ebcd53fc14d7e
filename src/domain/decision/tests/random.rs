//! Random routes, requests and usages: the same number gives the same case.

use super::*;
use crate::domain::hash::mix;
use crate::domain::route::{
    Adjustment, AdjustmentScope, Approval, CandidateHealth, CandidatePrediction, Hysteresis, Pin, PinSource, RouteMode,
    Tier,
};

/// What a decision depends on.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub request: DecisionRequest,
    pub snapshot: Snapshot,
    pub usage: Usage,
}

/// A deterministic source of choices.
struct Source(u64);

impl Source {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = mix(self.0);
        self.0 % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, percent: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.chance(percent).then(|| make(self))
    }

    fn list<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self, u64) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|n| make(self, n)).collect()
    }

    /// A decimal with up to three places, so that ties occur.
    fn decimal(&mut self, bound: u64) -> Decimal {
        let places = u32::try_from(self.below(4)).unwrap();
        Decimal::new(i64::try_from(self.below(bound)).unwrap(), places)
    }

    fn currency(&mut self) -> Currency {
        let code = self.pick(&["USD", "EUR", "XOF", "KWD"]);
        currency(code)
    }

    fn million(&mut self) -> u32 {
        u32::try_from(self.below(11) * 100_000).unwrap()
    }

    /// An instant that is over or not, as likely.
    fn instant(&mut self) -> Timestamp {
        let ahead = self.chance(50);
        let by = Duration::from_millis(self.below(7_200_000));
        if ahead { now() + by } else { now() - by }
    }

    fn scope(&mut self) -> AdjustmentScope {
        match self.below(4) {
            0 => AdjustmentScope::Country(self.pick(&["SN", "CI"]).into()),
            1 => AdjustmentScope::Merchant(self.pick(&["m-1", "m-2"]).into()),
            _ => AdjustmentScope::Global,
        }
    }

    fn name(&mut self) -> String {
        format!("bank-{}", self.below(7))
    }

    fn fee(&mut self, n: u64) -> Fee {
        Fee {
            basis_points: self.decimal(200),
            currencies: self.maybe(20, Self::currency).into_iter().collect(),
            currency: self.maybe(20, Self::currency),
            fixed: self.decimal(50),
            max: self.maybe(20, |s| s.decimal(5_000)),
            min: self.maybe(20, |s| s.decimal(50)),
            name: format!("fee-{n}"),
            rails: self.maybe(20, |s| s.pick(&["SEPA", "ACH"]).into()).into_iter().collect(),
            up_to_amount: self.maybe(20, |s| s.decimal(100_000)),
            ..Fee::default()
        }
    }

    fn prediction(&mut self) -> CandidatePrediction {
        CandidatePrediction {
            currency: self.maybe(30, Self::currency),
            demoted: self.chance(30),
            expected_fx: self.maybe(40, |s| s.decimal(100) - Decimal::TEN),
            fraud_risk: self.maybe(30, Self::million),
            rail: self.maybe(20, |s| s.pick(&["SEPA", "ACH"]).into()),
            risk: self.million(),
            score: self.maybe(30, |s| s.decimal(2)),
            settlement_days: self.maybe(30, |s| u32::try_from(s.below(5)).unwrap()),
            skill: self.million(),
            success: self.million(),
            valid_until: self.instant(),
        }
    }

    fn candidate(&mut self, n: u64) -> SnapshotCandidate {
        use EffectiveState::{Closed, ForcedClosed, ForcedOpen, HalfOpen, Open, Shadow};
        let circuits =
            [Closed, Closed, Closed, Closed, Closed, Closed, ForcedClosed, ForcedOpen, HalfOpen, Open, Shadow];
        let candidate = Candidate {
            circuit: self.maybe(95, |s| s.pick(&circuits)),
            countries: self.maybe(20, |s| s.pick(&["SN", "CI"]).into()).into_iter().collect(),
            currencies: self.maybe(20, Self::currency).into_iter().collect(),
            cut_off: self.chance(5),
            fees: self.list(2, Self::fee),
            funding_currency: self.maybe(50, Self::currency),
            fx_basis_points: self.decimal(100) - Decimal::TEN,
            health: match self.below(12) {
                0 => CandidateHealth::Unhealthy,
                1 => CandidateHealth::NeverHealthy,
                _ => CandidateHealth::Usable,
            },
            max_amount: self.maybe(20, |s| s.decimal(1_000_000)),
            min_amount: self.maybe(20, |s| s.decimal(1_000)),
            name: format!("bank-{n}"),
            predictions: self.list(3, |s, _| s.prediction()),
            rails: self.maybe(10, |s| s.pick(&["SEPA", "ACH"]).into()).into_iter().collect(),
            score: self.decimal(3),
            settlement_days: u32::try_from(self.below(4)).unwrap(),
            success: self.maybe(80, Self::million),
            suspended: self.chance(5),
            tier: if self.chance(30) { Tier::Fallback } else { Tier::Primary },
            ..Candidate::default()
        };
        let daily_limit = self.maybe(30, |s| DailyLimit {
            amount: s.maybe(60, |s| s.decimal(1_000_000)),
            count: s.maybe(60, |s| u32::try_from(s.below(5)).unwrap()),
            zone: s.pick(&["UTC", "Europe/Oslo", "Pacific/Kiritimati"]).into(),
        });
        SnapshotCandidate { bank_profile_id: None, candidate, connection: format!("connection-{n}"), daily_limit }
    }

    fn rules(&mut self) -> RouteRules {
        let mut values = Vec::new();
        for code in ["EUR", "XOF", "KWD"] {
            if self.chance(70) {
                values.push((currency(code), self.decimal(5_000) + Decimal::new(1, 3)));
            }
        }
        let rates = Rates::new(currency("USD"), values, self.maybe(20, Self::instant));
        let mut rules = RouteRules::new(rates.with_max_age(self.maybe(30, |s| Duration::from_secs(s.below(7_200)))));
        rules.adjustments = self.list(4, |s, n| Adjustment {
            candidate: s.name(),
            name: format!("w-{n}"),
            scope: s.scope(),
            until: s.instant(),
            weight: s.decimal(10_000) + Decimal::new(1, 1),
        });
        rules.approved =
            self.maybe(30, |s| Approval { candidate: s.name(), proposal: uuid::Uuid::nil(), until: s.instant() });
        rules.cost.delay_basis_points = self.decimal(10);
        if self.chance(20) {
            (rules.cost.retry_basis_points, rules.cost.health_penalty) = (Decimal::ZERO, Decimal::ZERO);
        }
        let min_hold = Duration::from_secs(self.below(3_600));
        rules.hysteresis = Hysteresis { min_hold, switch_percent: self.pick(&[0, 0, 2, 30]) };
        rules.mode = self.pick(&[RouteMode::Reactive, RouteMode::Predictive, RouteMode::Hybrid]);
        rules.pins = self.list(2, |s, _| Pin {
            candidate: s.name(),
            scope: s.scope(),
            source: s.pick(&[PinSource::Spec, PinSource::Api]),
            until: s.instant(),
        });
        rules
    }

    fn request(&mut self) -> DecisionRequest {
        let code = self.currency();
        let places = code.exponent().unwrap();
        let digits = u32::try_from(self.below(9)).unwrap();
        let minor = 1 + self.below(10_u64.pow(digits) * 9);
        let rate = |s: &mut Self, from: &str, to: &str| RequestRate {
            at: s.maybe(50, |s| now() - Duration::from_secs(s.below(7_200))),
            from: currency(from),
            rate: s.decimal(100_000) + Decimal::new(1, 3),
            to: currency(to),
        };
        let pairs = [("EUR", "USD"), ("KWD", "USD"), ("USD", "XOF"), ("XOF", "EUR")];
        let rates = pairs.iter().filter_map(|(from, to)| self.maybe(25, |s| rate(s, from, to))).collect();
        DecisionRequest {
            payout: Payout {
                amount: Decimal::new(i64::try_from(minor).unwrap(), places).normalize(),
                country: self.maybe(60, |s| s.pick(&["SN", "CI"]).into()),
                currency: code,
                merchant: self.maybe(50, |s| s.pick(&["m-1", "m-2"]).into()),
                rail: self.maybe(50, |s| s.pick(&["SEPA", "ACH"]).into()),
            },
            payout_id: format!("p-{minor}"),
            rates,
            ..request("1", "USD")
        }
    }
}

/// The case of this number.
pub(super) fn case(seed: u64) -> Case {
    let mut source = Source(mix(seed));
    let candidates = source.list(7, Source::candidate);
    let mut snapshot = Snapshot { rules: source.rules(), ..snapshot(candidates) };
    snapshot.incumbent =
        source.maybe(60, |s| SnapshotIncumbent { name: s.name(), since: now() - Duration::from_secs(s.below(3_600)) });
    let limited = snapshot.candidates.iter().filter_map(|one| Some((&one.candidate.name, one.daily_limit.as_ref()?)));
    let mut used = std::collections::BTreeMap::new();
    for (name, limit) in limited {
        if source.chance(80) {
            let count = u32::try_from(source.below(5)).unwrap();
            used.insert(name.clone(), DayUsage { amount: source.decimal(500_000), count, day: limit.day(now()) });
        }
    }
    Case { request: source.request(), snapshot, usage: Usage(used) }
}
