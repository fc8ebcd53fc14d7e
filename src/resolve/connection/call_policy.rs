//! Resolves `retry`, `rateLimit` and `cache` of a spec. Pure.
//!
//! A set field overrides the profile, the profile overrides the defaults.

use crate::api::v1alpha1::provider_connection::{
    Limit as LimitSpec, LimitScope as ApiLimitScope, LimitUnit as ApiLimitUnit, ProviderConnectionSpec,
};
use crate::domain::quota::{Limit, LimitScope, LimitUnit};
use crate::resolve::fields::{duration, number};
use crate::resolve::spec_error::SpecError;
use crate::settings::{CachePolicy, Draft, RetryPolicy};

/// Overrides the draft's retry, limits and cache with those of the spec.
pub(super) fn apply(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    retry(spec, draft)?;
    limits(spec, draft)?;
    cache(spec, draft)
}

fn retry(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(set) = &spec.retry else { return Ok(()) };
    let was = draft.retry;
    let back_off = set.back_off.as_ref();
    let base_set = back_off.and_then(|b| b.base.as_deref());
    let max_set = back_off.and_then(|b| b.max.as_deref());
    let (base, max) =
        (duration("retry.backOff.base", base_set, was.base)?, duration("retry.backOff.max", max_set, was.max)?);
    draft.retry = RetryPolicy {
        retries: number("retry.retries", set.retries, was.retries)?,
        // If only one of the two bounds is set, the other follows it.
        base: if base_set.is_none() { base.min(max) } else { base },
        max: if max_set.is_none() { max.max(base) } else { max },
        min_pacing: duration("retry.minPacing", set.min_pacing.as_deref(), was.min_pacing)?,
        budget_percent: number("retry.budgetPercent", set.budget_percent, was.budget_percent)?,
    };
    Ok(())
}

/// Replaces the profile's limit of the same name; adds the others.
fn limits(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(set) = &spec.rate_limit else { return Ok(()) };
    for limit in set.limits.iter().flatten() {
        let limit = convert_limit(limit)?;
        match draft.limits.iter_mut().find(|old| old.name == limit.name) {
            Some(old) => *old = limit,
            None => draft.limits.push(limit),
        }
    }
    let percent = set.reserve.as_ref().and_then(|reserve| reserve.money_percent);
    draft.money_reserve_percent = number("rateLimit.reserve.moneyPercent", percent, draft.money_reserve_percent)?;
    Ok(())
}

fn convert_limit(limit: &LimitSpec) -> Result<Limit, SpecError> {
    Ok(Limit {
        name: limit.name.to_string(),
        scope: match limit.scope {
            Some(ApiLimitScope::Partition) => LimitScope::Partition,
            Some(ApiLimitScope::Connection) | None => LimitScope::Connection,
        },
        requests: number("rateLimit.limits", Some(limit.requests), 1)?,
        unit: match limit.unit {
            ApiLimitUnit::Second => LimitUnit::Second,
            ApiLimitUnit::Minute => LimitUnit::Minute,
            ApiLimitUnit::Hour => LimitUnit::Hour,
            ApiLimitUnit::Day => LimitUnit::Day,
        },
        burst: limit.burst.map(|burst| number("rateLimit.limits", Some(burst), 1)).transpose()?,
        operations: limit.operations.iter().flatten().map(ToString::to_string).collect(),
    })
}

fn cache(spec: &ProviderConnectionSpec, draft: &mut Draft) -> Result<(), SpecError> {
    let Some(set) = &spec.cache else { return Ok(()) };
    let (ttl, max_stale) = draft.cache.map(|c| (c.ttl, c.max_stale)).unwrap_or_default();
    draft.cache = Some(CachePolicy {
        ttl: duration("cache.ttl", set.ttl.as_deref(), ttl)?,
        max_stale: duration("cache.maxStale", set.max_stale.as_deref(), max_stale)?,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::profile::{Environment, Profiles};

    fn planned(provider: &str, spec: &serde_json::Value) -> Draft {
        let mut whole = serde_json::json!({ "provider": provider, "environment": "Sandbox" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let spec: ProviderConnectionSpec = serde_json::from_value(whole).unwrap();
        let mut draft = Draft::new(Profiles::builtin().unwrap().get(provider).unwrap(), Environment::Sandbox);
        apply(&spec, &mut draft).unwrap();
        draft
    }

    #[test]
    fn by_default_calls_are_retried_three_times_and_not_cached() {
        let draft = planned("generic", &serde_json::json!({}));
        assert_eq!(draft.retry, RetryPolicy::default());
        assert_eq!(
            (draft.retry.retries, draft.retry.base, draft.retry.budget_percent),
            (3, Duration::from_secs(1), 20)
        );
        assert_eq!((draft.cache, draft.limits.len()), (None, 0));
    }

    #[test]
    fn each_set_field_overrides_its_default() {
        let retry = serde_json::json!({ "retries": 1, "backOff": { "base": "2m" }, "minPacing": "0s" });
        let cache = serde_json::json!({ "ttl": "1m" });
        let draft = planned("generic", &serde_json::json!({ "retry": retry, "cache": cache }));
        let minutes = Duration::from_mins(2);
        let want = RetryPolicy {
            retries: 1,
            base: minutes,
            max: minutes,
            min_pacing: Duration::ZERO,
            ..RetryPolicy::default()
        };
        assert_eq!(draft.retry, want);
        assert_eq!(draft.cache, Some(CachePolicy { ttl: Duration::from_mins(1), max_stale: Duration::ZERO }));
    }

    #[test]
    fn a_limit_of_the_same_name_is_replaced_and_others_are_added() {
        let mut draft = planned("generic", &serde_json::json!({}));
        draft.limits.push(Limit {
            name: "minute".to_owned(),
            scope: LimitScope::Connection,
            requests: 5,
            unit: LimitUnit::Minute,
            burst: None,
            operations: Vec::new(),
        });
        let spec: ProviderConnectionSpec = serde_json::from_value(serde_json::json!({
            "provider": "generic", "environment": "Sandbox",
            "rateLimit": {
                "limits": [
                    { "name": "minute", "requests": 60, "unit": "Minute", "burst": 10 },
                    { "name": "account", "requests": 4, "unit": "Day", "scope": "Partition", "operations": ["balances"] },
                ],
                "reserve": { "moneyPercent": 20 },
            },
        }))
        .unwrap();
        apply(&spec, &mut draft).unwrap();
        let limits: Vec<_> = draft.limits.iter().map(|l| (l.name.as_str(), l.requests, l.burst, l.scope)).collect();
        let want = [("minute", 60, Some(10), LimitScope::Connection), ("account", 4, None, LimitScope::Partition)];
        assert_eq!(limits, want);
        assert_eq!((draft.money_reserve_percent, draft.limits[1].operations.join(",")), (20, "balances".to_owned()));
    }
}
