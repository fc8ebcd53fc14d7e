//! Rows of a route: the reference payout and the defaults of its candidates.

use crate::api::v1alpha1::bank_route::BankRouteSpec;
use crate::domain::route::{Candidate, Payout, Tier};
use crate::explain::setting::{Explained, Source};
use crate::explain::settings_table::SettingsTable;
use crate::resolve::bank_route;

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
            }
            Err(problem) => problems.push(problem),
        }
    }
    let unused = bank_route::unused_fields(spec);
    (table.finish(&unused), problems)
}
