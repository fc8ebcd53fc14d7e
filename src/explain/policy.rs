//! The rules of a breaker, of a policy on its own or as they guard a connection.

use rust_decimal::Decimal;

use crate::api::v1alpha1::breaker_policy::{BreakerMode, BreakerPolicySpec, Preset};
use crate::controllers::breakerpolicy::plan;
use crate::domain::breaker::{HalfOpenPolicy, Mode, OnUnhealthy, OpenPolicy, Policy, WindowSpec};
use crate::explain::sheet::{Sheet, statuses};
use crate::explain::{Explained, Setting, Source};
use crate::provider::classify::{Classify, ErrorClass};

/// A policy on its own.
pub(super) fn explain(spec: &BreakerPolicySpec) -> Explained {
    match plan::rules(spec, 0) {
        Ok(rules) => (of_policy(spec, Source::Spec, "", &rules), Vec::new()),
        Err(problem) => (Sheet::new(spec, Source::Spec, "").finish(&[]), vec![problem]),
    }
}

/// Rules that came from `spec`.
pub(super) fn of_policy(
    spec: &BreakerPolicySpec,
    owner: Source,
    prefix: &'static str,
    rules: &(Policy, Classify),
) -> Vec<Setting> {
    let mut sheet = Sheet::new(spec, owner, prefix);
    sheet.filled("preset", spec.preset.as_str(), Preset::default().as_str());
    table(sheet, spec.preset.as_str(), rules)
}

/// Rules that came from a profile's preset alone.
pub(super) fn of_profile(
    preset: &'static str,
    profile: Source,
    prefix: &'static str,
    rules: &(Policy, Classify),
) -> Vec<Setting> {
    let mut sheet = Sheet::new(&serde_json::Value::Null, Source::Spec, prefix);
    sheet.row("preset", preset, profile);
    table(sheet, preset, rules)
}

fn table(mut sheet: Sheet, preset: &'static str, (policy, classify): &(Policy, Classify)) -> Vec<Setting> {
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
        // No setting: made from the connection's name.
        jitter_seed: _,
    } = *policy;
    let by_preset = || Source::Preset(preset);
    let mode = match mode {
        Mode::Enforce => BreakerMode::Enforce,
        Mode::Shadow => BreakerMode::Shadow,
    };
    sheet.filled("mode", mode.as_str(), BreakerMode::default().as_str());
    sheet.put("trip.consecutiveFailures", consecutive_failures, by_preset());
    sheet.put("trip.failurePercent", failure_percent, Source::Default);
    sheet.put("trip.slowCallPercent", slow_call_percent, Source::Default);
    sheet.duration("trip.slowCallDuration", slow_call_duration, Source::Default);
    sheet.put("trip.minimumCalls", minimum_calls, Source::Default);
    let unhealthy = match unhealthy {
        OnUnhealthy::Open => "Open",
        OnUnhealthy::Ignore => "Ignore",
    };
    sheet.put("trip.unhealthy", unhealthy, by_preset());
    match window {
        WindowSpec::Time(length) => sheet.duration("window.duration", length, Source::Default),
        WindowSpec::Calls(calls) => sheet.put("window.calls", calls, Source::Default),
    }
    let Classify { failure_statuses, failure_errors, ignore_statuses } = classify;
    sheet.put("classify.failureStatuses", statuses(failure_statuses), Source::Default);
    sheet.put("classify.failureErrors", errors(failure_errors), Source::Default);
    sheet.put("classify.ignoreStatuses", statuses(ignore_statuses), Source::Default);
    sheet.duration("open.base", base, by_preset());
    sheet.duration("open.max", max, Source::Default);
    sheet.put("open.factor", Decimal::new(factor_milli.into(), 3).normalize().to_string(), Source::Default);
    sheet.put("open.jitterPercent", jitter_percent, Source::Default);
    sheet.put("halfOpen.trials", trials, Source::Default);
    sheet.put("halfOpen.requiredSuccesses", required_successes, Source::Default);
    sheet.duration("halfOpen.lease", lease, Source::Default);
    sheet.duration("halfOpen.maxDwell", max_dwell, Source::Default);
    sheet.rows()
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
