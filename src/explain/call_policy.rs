//! Rows of `retry`, `rateLimit` and `cache`.

use crate::api::v1alpha1::provider_connection::ProviderConnectionSpec;
use crate::explain::setting::Source;
use crate::explain::settings_table::SettingsTable;
use crate::settings::{Draft, RetryPolicy};

/// Adds the rows of `retry`, `rateLimit` and `cache`.
pub(super) fn add_rows(table: &mut SettingsTable, draft: &Draft, spec: &ProviderConnectionSpec, by_profile: &Source) {
    let RetryPolicy { retries, base, max, min_pacing, budget_percent } = draft.retry;
    table.add_or("retry.retries", retries, Source::Default);
    table.add_duration("retry.backOff.base", base, Source::Default);
    table.add_duration("retry.backOff.max", max, Source::Default);
    table.add_duration("retry.minPacing", min_pacing, Source::Default);
    table.add_or("retry.budgetPercent", budget_percent, Source::Default);
    let set = spec.rate_limit.as_ref().and_then(|rate_limit| rate_limit.limits.as_ref());
    for limit in &draft.limits {
        let from_spec = set.into_iter().flatten().any(|set| *set.name == *limit.name);
        let source = || if from_spec { Source::Spec } else { by_profile.clone() };
        let field = |name: &str| format!("rateLimit.limits[{}].{name}", limit.name);
        table.add(&field("scope"), limit.scope.as_str(), source());
        table.add(&field("requests"), limit.requests, source());
        table.add(&field("unit"), limit.unit.as_str(), source());
        table.add(&field("burst"), limit.burst.unwrap_or(limit.requests), source());
        if !limit.operations.is_empty() {
            table.add(&field("operations"), limit.operations.clone(), source());
        }
        table.mark_covered(&field("operations"));
    }
    table.add_or("rateLimit.reserve.moneyPercent", draft.money_reserve_percent, Source::Default);
    let otherwise = if draft.profile.cache.is_some() { by_profile.clone() } else { Source::Default };
    let cache = draft.cache.map(|cache| (cache.ttl, cache.max_stale)).unwrap_or_default();
    table.add_duration("cache.ttl", cache.0, otherwise.clone());
    table.add_duration("cache.maxStale", cache.1, otherwise);
}
