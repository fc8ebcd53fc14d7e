//! Rows of a breaker policy, on its own or as part of a connection.

use rust_decimal::Decimal;

use crate::api::v1alpha1::breaker_policy::{BreakerMode, BreakerPolicySpec, Preset};
use crate::domain::breaker::{HalfOpenPolicy, Mode, OnUnhealthy, OpenPolicy, Policy, WindowSpec};
use crate::explain::setting::{Explained, Setting, Source};
use crate::explain::settings_table::{SettingsTable, statuses};
use crate::resolve::{BreakerRules, breaker_policy};
use crate::settings::{ErrorClass, FailureCriteria};

/// Explains a `BreakerPolicy`.
pub(super) fn explain(spec: &BreakerPolicySpec) -> Explained {
    match breaker_policy(spec, 0) {
        Ok(rules) => (policy_rows(spec, Source::Spec, "", &rules), Vec::new()),
        Err(error) => (SettingsTable::new(spec, Source::Spec, "").finish(&[]), vec![error]),
    }
}

/// Rows of rules that come from a policy's spec.
pub(super) fn policy_rows(
    spec: &BreakerPolicySpec,
    owner: Source,
    prefix: &'static str,
    rules: &BreakerRules,
) -> Vec<Setting> {
    let mut table = SettingsTable::new(spec, owner, prefix);
    table.add_defaulted("preset", spec.preset.as_str(), Preset::default().as_str());
    rule_rows(table, spec.preset.as_str(), rules)
}

/// Rows of rules that come from a profile's preset.
pub(super) fn preset_rows(
    preset: &'static str,
    profile: Source,
    prefix: &'static str,
    rules: &BreakerRules,
) -> Vec<Setting> {
    let mut table = SettingsTable::new(&serde_json::Value::Null, Source::Spec, prefix);
    table.add("preset", preset, profile);
    rule_rows(table, preset, rules)
}

fn rule_rows(mut table: SettingsTable, preset: &'static str, rules: &BreakerRules) -> Vec<Setting> {
    let BreakerRules { policy, failure_criteria } = rules;
    let Policy {
        mode,
        consecutive_failures,
        failure_percent,
        slow_call_percent,
        slow_call_duration,
        minimum_calls,
        unhealthy,
        window,
        open: OpenPolicy { base, max, factor_milli, jitter_percent },
        half_open: HalfOpenPolicy { trials, required_successes, lease, max_dwell },
        // Not a setting: derived from the connection's name.
        jitter_seed: _,
    } = *policy;
    let by_preset = || Source::Preset(preset);
    let mode = match mode {
        Mode::Enforce => BreakerMode::Enforce,
        Mode::Shadow => BreakerMode::Shadow,
    };
    table.add_defaulted("mode", mode.as_str(), BreakerMode::default().as_str());
    table.add_or("trip.consecutiveFailures", consecutive_failures, by_preset());
    table.add_or("trip.failurePercent", failure_percent, Source::Default);
    table.add_or("trip.slowCallPercent", slow_call_percent, Source::Default);
    table.add_duration("trip.slowCallDuration", slow_call_duration, Source::Default);
    table.add_or("trip.minimumCalls", minimum_calls, Source::Default);
    let unhealthy = match unhealthy {
        OnUnhealthy::Open => "Open",
        OnUnhealthy::Ignore => "Ignore",
    };
    table.add_or("trip.unhealthy", unhealthy, by_preset());
    match window {
        WindowSpec::Time(length) => table.add_duration("window.duration", length, Source::Default),
        WindowSpec::Calls(calls) => table.add_or("window.calls", calls, Source::Default),
    }
    let FailureCriteria { failure_statuses, failure_errors, ignore_statuses } = failure_criteria;
    table.add_or("classify.failureStatuses", statuses(failure_statuses), Source::Default);
    table.add_or("classify.failureErrors", errors(failure_errors), Source::Default);
    table.add_or("classify.ignoreStatuses", statuses(ignore_statuses), Source::Default);
    table.add_duration("open.base", base, by_preset());
    table.add_duration("open.max", max, Source::Default);
    table.add_or("open.factor", Decimal::new(factor_milli.into(), 3).normalize().to_string(), Source::Default);
    table.add_or("open.jitterPercent", jitter_percent, Source::Default);
    table.add_or("halfOpen.trials", trials, Source::Default);
    table.add_or("halfOpen.requiredSuccesses", required_successes, Source::Default);
    table.add_duration("halfOpen.lease", lease, Source::Default);
    table.add_duration("halfOpen.maxDwell", max_dwell, Source::Default);
    table.into_rows()
}

fn errors(list: &[ErrorClass]) -> Vec<&'static str> {
    let mut names: Vec<_> = list
        .iter()
        .map(|class| match class {
            ErrorClass::Connect => "Connect",
            ErrorClass::Tls => "Tls",
            ErrorClass::Timeout => "Timeout",
            ErrorClass::Reset => "Reset",
            ErrorClass::Body => "Body",
        })
        .collect();
    names.dedup();
    names
}
