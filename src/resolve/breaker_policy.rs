//! Resolves a breaker policy's spec to the breaker's policy and the failure criteria of calls. Pure.

use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use crate::api::v1alpha1::breaker_policy::{BreakerMode, BreakerPolicySpec, FailureError, Preset, UnhealthyAction};
use crate::domain::breaker::{self, HalfOpenPolicy, Mode, OnUnhealthy, OpenPolicy, Policy, WindowSpec};
use crate::domain::key::ObjectKey;
use crate::domain::money::parse_unsigned;
use crate::profile::StatusPattern;
use crate::resolve::fields::{duration, number};
use crate::resolve::spec_error::SpecError;
use crate::settings::{ErrorClass, FailureCriteria};

/// What a breaker policy comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerRules {
    /// When the circuit opens and closes.
    pub policy: Policy,
    /// Which results of a call count as failures of the provider.
    pub failure_criteria: FailureCriteria,
}

impl BreakerRules {
    /// The rules of a connection without a policy object: the preset of its profile.
    pub fn preset(preset: breaker::Preset, jitter_seed: u64) -> Self {
        let policy = Policy { jitter_seed, ..Policy::preset(preset) };
        Self { policy, failure_criteria: FailureCriteria::default() }
    }
}

/// Jitter seed of a connection: stable, so that circuits which open together do not all retry at the same time.
pub fn jitter_seed(key: &ObjectKey) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Resolves a `BreakerPolicy`.
pub fn breaker_policy(spec: &BreakerPolicySpec, jitter_seed: u64) -> Result<BreakerRules, SpecError> {
    let mut policy = Policy::preset(match spec.preset {
        Preset::Api => breaker::Preset::Api,
        Preset::Data => breaker::Preset::Data,
        Preset::Bank => breaker::Preset::Bank,
    });
    policy.jitter_seed = jitter_seed;
    policy.mode = match spec.mode {
        BreakerMode::Enforce => Mode::Enforce,
        BreakerMode::Shadow => Mode::Shadow,
    };
    trip(spec, &mut policy)?;
    window(spec, &mut policy)?;
    open(spec, &mut policy)?;
    half_open(spec, &mut policy)?;
    Ok(BreakerRules { policy, failure_criteria: failure_criteria(spec)? })
}

fn trip(spec: &BreakerPolicySpec, policy: &mut Policy) -> Result<(), SpecError> {
    let Some(trip) = &spec.trip else { return Ok(()) };
    policy.consecutive_failures =
        number("trip.consecutiveFailures", trip.consecutive_failures, policy.consecutive_failures)?;
    policy.failure_percent = number("trip.failurePercent", trip.failure_percent, policy.failure_percent)?;
    policy.slow_call_percent = number("trip.slowCallPercent", trip.slow_call_percent, policy.slow_call_percent)?;
    policy.slow_call_duration =
        duration("trip.slowCallDuration", trip.slow_call_duration.as_deref(), policy.slow_call_duration)?;
    policy.minimum_calls = number("trip.minimumCalls", trip.minimum_calls, policy.minimum_calls)?;
    policy.unhealthy = match trip.unhealthy {
        None => policy.unhealthy,
        Some(UnhealthyAction::Open) => OnUnhealthy::Open,
        Some(UnhealthyAction::Ignore) => OnUnhealthy::Ignore,
    };
    Ok(())
}

fn window(spec: &BreakerPolicySpec, policy: &mut Policy) -> Result<(), SpecError> {
    let Some(window) = &spec.window else { return Ok(()) };
    if let Some(calls) = window.calls {
        policy.window = WindowSpec::Calls(number("window.calls", Some(calls), 0)?);
    } else if window.duration.is_some() {
        policy.window = WindowSpec::Time(duration("window.duration", window.duration.as_deref(), Duration::ZERO)?);
    }
    Ok(())
}

fn open(spec: &BreakerPolicySpec, policy: &mut Policy) -> Result<(), SpecError> {
    let Some(open) = &spec.open else { return Ok(()) };
    let was = policy.open;
    let factor_milli = match &open.factor {
        None => was.factor_milli,
        Some(text) => {
            let factor = parse_unsigned(text).map_err(|e| SpecError::invalid("open.factor", e))?;
            let milli = (factor * rust_decimal::Decimal::ONE_THOUSAND).trunc();
            u32::try_from(milli).map_err(|_| SpecError::invalid("open.factor", "is out of range"))?
        }
    };
    policy.open = OpenPolicy {
        base: duration("open.base", open.base.as_deref(), was.base)?,
        max: duration("open.max", open.max.as_deref(), was.max)?,
        factor_milli,
        jitter_percent: number("open.jitterPercent", open.jitter_percent, was.jitter_percent)?,
    };
    Ok(())
}

fn half_open(spec: &BreakerPolicySpec, policy: &mut Policy) -> Result<(), SpecError> {
    let Some(half_open) = &spec.half_open else { return Ok(()) };
    let was = policy.half_open;
    let trials: u8 = number("halfOpen.trials", half_open.trials, was.trials)?;
    policy.half_open = HalfOpenPolicy {
        trials,
        required_successes: number("halfOpen.requiredSuccesses", half_open.required_successes, was.required_successes)?,
        lease: duration("halfOpen.lease", half_open.lease.as_deref(), was.lease)?,
        max_dwell: duration("halfOpen.maxDwell", half_open.max_dwell.as_deref(), was.max_dwell)?,
    };
    Ok(())
}

fn failure_criteria(spec: &BreakerPolicySpec) -> Result<FailureCriteria, SpecError> {
    let mut rules = FailureCriteria::default();
    let Some(classify) = &spec.classify else { return Ok(rules) };
    let statuses = |field: &str, list: &[crate::api::v1alpha1::text::StatusMatch]| {
        list.iter()
            .map(|s| s.parse().map_err(|_| SpecError::invalid(field, "must hold statuses such as 503 or 5xx")))
            .collect::<Result<Vec<StatusPattern>, _>>()
    };
    if let Some(list) = &classify.failure_statuses {
        rules.failure_statuses = statuses("classify.failureStatuses", list)?;
    }
    if let Some(list) = &classify.ignore_statuses {
        rules.ignore_statuses = statuses("classify.ignoreStatuses", list)?;
    }
    if let Some(list) = &classify.failure_errors {
        rules.failure_errors = list
            .iter()
            .map(|e| match e {
                FailureError::Connect => ErrorClass::Connect,
                FailureError::Tls => ErrorClass::Tls,
                FailureError::Reset => ErrorClass::Reset,
                FailureError::Timeout => ErrorClass::Timeout,
                FailureError::Body => ErrorClass::Body,
            })
            .collect();
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::breaker_policy::{HalfOpen, OpenTime, Trip};

    #[test]
    fn an_empty_spec_is_the_bank_preset() {
        let rules = breaker_policy(&BreakerPolicySpec::default(), 7).unwrap();
        assert_eq!(rules, BreakerRules::preset(breaker::Preset::Bank, 7));
    }

    #[test]
    fn set_fields_override_the_preset() {
        let spec = BreakerPolicySpec {
            trip: Some(Trip { consecutive_failures: Some(2), ..Trip::default() }),
            open: Some(OpenTime { base: Some("5s".into()), factor: Some("1.5".into()), ..OpenTime::default() }),
            half_open: Some(HalfOpen { required_successes: Some(2), ..HalfOpen::default() }),
            ..BreakerPolicySpec::default()
        };
        let BreakerRules { policy, .. } = breaker_policy(&spec, 0).unwrap();
        assert_eq!(policy.consecutive_failures, 2);
        assert_eq!((policy.open.base, policy.open.factor_milli), (Duration::from_secs(5), 1500));
        assert_eq!(policy.half_open.required_successes, 2);
    }

    #[test]
    fn an_invalid_value_names_its_field() {
        let spec = BreakerPolicySpec {
            open: Some(OpenTime { base: Some("soon".into()), ..OpenTime::default() }),
            ..BreakerPolicySpec::default()
        };
        assert!(breaker_policy(&spec, 0).unwrap_err().message.contains("spec.open.base"));
    }
}
