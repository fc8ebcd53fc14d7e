//! Rows of a route: the reference payout and the defaults of its candidates.

use crate::api::v1alpha1::bank_route::BankRouteSpec;
use crate::domain::payout::StuckPolicy;
use crate::domain::route::{Candidate, Payout, Tier};
use crate::explain::setting::{Explained, Source};
use crate::explain::settings_table::SettingsTable;
use crate::resolve::bank_route::{self, DEFAULT_ZONE, RouteStuck};

/// Explains a `BankRoute`.
pub(super) fn explain(spec: &BankRouteSpec) -> Explained {
    let mut problems = Vec::new();
    let mut table = SettingsTable::new(spec, Source::Spec, "");
    table.add("referenceCurrency", &*spec.reference_currency, Source::Spec);
    match bank_route::reference(spec) {
        Ok(Payout { amount, currency, rail, country, .. }) => {
            table.add_or("reference.amount", amount.to_string(), Source::Default);
            table.add_or("reference.currency", currency.as_str(), Source::From("referenceCurrency"));
            table.add_or("reference.country", country, Source::Default);
            table.add_or("reference.rail", rail, Source::Default);
        }
        Err(problem) => problems.push(problem),
    }
    table.add_defaulted("priority", spec.priority, 0);
    table.add_defaulted("mode", spec.mode.as_str(), BankRouteSpec::default().mode.as_str());
    let when_none = BankRouteSpec::default().when_none_available;
    table.add_defaulted("whenNoneAvailable", spec.when_none_available.as_str(), when_none.as_str());
    table.add_defaulted("suspend", spec.suspend, false);
    if spec.scorer.is_none() {
        table.add("scorer", "built-in", Source::Default);
    }
    for wire in &spec.candidates {
        match bank_route::candidate(wire) {
            Ok(Candidate { name, tier, fees, .. }) => {
                let tier = match tier {
                    Tier::Primary => "Primary",
                    Tier::Fallback => "Fallback",
                };
                let source = |set: bool| if set { Source::Spec } else { Source::Default };
                table.add(&format!("candidates[{name}].tier"), tier, source(wire.tier.is_some()));
                if fees.is_empty() {
                    table.add(&format!("candidates[{name}].fees"), "none: free of charge", Source::Default);
                }
                if wire.daily_limit.as_ref().is_some_and(|limit| limit.time_zone.is_none()) {
                    table.add(&format!("candidates[{name}].dailyLimit.timeZone"), DEFAULT_ZONE, Source::Default);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    // The rest of it: limits, windows, rates, weights, match, scorer.
    let whole = bank_route::bank_route(spec);
    if let (Ok(route), true) = (&whole, spec.scorer.is_some()) {
        let max_age = route.scorer.as_ref().map(|scorer| scorer.max_age).unwrap_or_default();
        table.add_duration("scorer.maxAge", max_age, Source::Default);
    }
    if let Ok(route) = &whole {
        stuck_rows(&mut table, &route.stuck);
    }
    problems.extend(whole.err().filter(|_| problems.is_empty()));
    let unused = bank_route::unused_fields(spec);
    (table.finish(&unused), problems)
}

/// Adds how stuck payouts are handled.
fn stuck_rows(table: &mut SettingsTable, stuck: &RouteStuck) {
    let policy = match stuck.rules.policy {
        StuckPolicy::Inquire => "Inquire",
        StuckPolicy::InquireThenRecall => "InquireThenRecall",
        StuckPolicy::ManualOnly => "ManualOnly",
    };
    table.add_duration("stuck.after", stuck.rules.after, Source::Default);
    table.add_or("stuck.policy", policy, Source::Default);
    let cost = stuck.max_reroute_cost_basis_points;
    let cost = cost.map_or_else(|| "none: any additional cost needs a person".to_owned(), |cost| cost.to_string());
    table.add_or("stuck.maxRerouteCostBasisPoints", cost, Source::Default);
}
