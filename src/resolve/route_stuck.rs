//! Resolves how a route handles stuck payouts. Pure.

use rust_decimal::Decimal;

use crate::api::v1alpha1::bank_route::{BankRouteSpec, StuckPolicy as WirePolicy};
use crate::domain::payout::{StuckPolicy, StuckRules};
use crate::resolve::fields::{amount, duration};
use crate::resolve::spec_error::SpecError;

/// Largest amount, in the route's reference currency, for which two people may accept the risk of a duplicate: what a
/// business can afford to pay twice. A larger payout is resolved with the bank's evidence.
pub const DUPLICATE_RISK_LIMIT: Decimal = Decimal::ONE_THOUSAND;

/// How a route handles stuck payouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStuck {
    /// The rules. The limit of the risk of a duplicate is in the route's reference currency.
    pub rules: StuckRules,
    /// Largest additional cost of another bank without a person, in basis points of the amount; `None`: any additional
    /// cost needs a person.
    pub max_reroute_cost_basis_points: Option<Decimal>,
}

/// How the route handles stuck payouts. `checkInterval` is an upper bound: the payout clock acts at the instant that
/// something is due, and looks more often than the shortest interval that a route may ask for.
pub(super) fn stuck(spec: &BankRouteSpec) -> Result<RouteStuck, SpecError> {
    let (wire, defaults) = (spec.stuck.as_ref(), StuckRules::default());
    let after = wire.and_then(|stuck| stuck.after.as_deref());
    let cost = wire.and_then(|stuck| stuck.max_reroute_cost_basis_points.as_deref());
    Ok(RouteStuck {
        rules: StuckRules {
            after: duration("stuck.after", after, defaults.after)?,
            duplicate_risk_limit: Some(DUPLICATE_RISK_LIMIT),
            policy: match wire.and_then(|stuck| stuck.policy) {
                None => defaults.policy,
                Some(WirePolicy::Inquire) => StuckPolicy::Inquire,
                Some(WirePolicy::InquireThenRecall) => StuckPolicy::InquireThenRecall,
                Some(WirePolicy::ManualOnly) => StuckPolicy::ManualOnly,
            },
            ..defaults
        },
        max_reroute_cost_basis_points: amount("stuck.maxRerouteCostBasisPoints", cost)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(fields: &str) -> Result<RouteStuck, SpecError> {
        let text =
            format!("{{referenceCurrency: EUR, candidates: [{{name: a, connectionRef: {{name: a}}}}], {fields}}}");
        stuck(&serde_yaml::from_str(&text).unwrap())
    }

    #[test]
    fn unset_fields_have_their_defaults() {
        for fields in ["", "stuck: {}", "stuck: {checkInterval: 30s}"] {
            let stuck = of(fields).unwrap();
            assert_eq!(
                (stuck.rules.after, stuck.rules.policy),
                (Duration::from_mins(30), StuckPolicy::InquireThenRecall)
            );
            assert_eq!(stuck.rules.duplicate_risk_limit, Some(DUPLICATE_RISK_LIMIT));
            assert_eq!(stuck.max_reroute_cost_basis_points, None);
        }
    }

    #[test]
    fn each_set_field_counts() {
        for (name, policy) in [
            ("Inquire", StuckPolicy::Inquire),
            ("InquireThenRecall", StuckPolicy::InquireThenRecall),
            ("ManualOnly", StuckPolicy::ManualOnly),
        ] {
            assert_eq!(of(&format!("stuck: {{policy: {name}}}")).unwrap().rules.policy, policy);
        }
        let set = of("stuck: {after: 1m, maxRerouteCostBasisPoints: '12.5'}").unwrap();
        assert_eq!(set.rules.after, Duration::from_mins(1));
        assert_eq!(set.max_reroute_cost_basis_points, Some(Decimal::new(125, 1)));
    }

    #[test]
    fn an_unreadable_value_names_its_field() {
        let error = of("stuck: {after: soon}").unwrap_err();
        assert!(error.message.contains("stuck.after"), "{}", error.message);
    }
}
