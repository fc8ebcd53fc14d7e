//! A route: the reference payout and what is assumed of its candidates.

use crate::api::v1alpha1::bank_route::BankRouteSpec;
use crate::controllers::bankroute::plan;
use crate::domain::route::{Candidate, Reference, Tier};
use crate::explain::sheet::Sheet;
use crate::explain::{Explained, Source};

/// Explains a route.
pub(super) fn explain(spec: &BankRouteSpec) -> Explained {
    let mut problems = Vec::new();
    let mut sheet = Sheet::new(spec, Source::Spec, "");
    sheet.row("referenceCurrency", &*spec.reference_currency, Source::Spec);
    match plan::reference(spec) {
        Ok(Reference { amount, currency, rail, country }) => {
            sheet.put("reference.amount", amount.to_string(), Source::Default);
            sheet.put("reference.currency", currency.as_str(), Source::From("referenceCurrency"));
            sheet.put("reference.country", country, Source::Default);
            sheet.put("reference.rail", rail, Source::Default);
        }
        Err(problem) => problems.push(problem),
    }
    sheet.filled("priority", spec.priority, 0);
    sheet.filled("mode", spec.mode.as_str(), BankRouteSpec::default().mode.as_str());
    let when_none = BankRouteSpec::default().when_none_available;
    sheet.filled("whenNoneAvailable", spec.when_none_available.as_str(), when_none.as_str());
    sheet.filled("suspend", spec.suspend, false);
    for wire in &spec.candidates {
        match plan::candidate(wire) {
            Ok(Candidate { name, tier, fees, .. }) => {
                let tier = match tier {
                    Tier::Primary => "Primary",
                    Tier::Fallback => "Fallback",
                };
                let said = |set: bool| if set { Source::Spec } else { Source::Default };
                sheet.row(&format!("candidates[{name}].tier"), tier, said(wire.tier.is_some()));
                if fees.is_empty() {
                    sheet.row(&format!("candidates[{name}].fees"), "none: free of charge", Source::Default);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    let unread = plan::unread_fields(spec);
    (sheet.finish(&unread), problems)
}
