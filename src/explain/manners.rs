//! The rows of `retry`, `rateLimit` and `cache`.

use crate::api::v1alpha1::provider_connection::ProviderConnectionSpec;
use crate::explain::Source;
use crate::explain::sheet::Sheet;
use crate::provider::settings::{Draft, Retry};

/// Tells how the connection calls.
pub(super) fn table(sheet: &mut Sheet, draft: &Draft, spec: &ProviderConnectionSpec, by_profile: &Source) {
    let Retry { retries, base, max, min_pacing, budget_percent } = draft.retry;
    sheet.put("retry.retries", retries, Source::Default);
    sheet.duration("retry.backOff.base", base, Source::Default);
    sheet.duration("retry.backOff.max", max, Source::Default);
    sheet.duration("retry.minPacing", min_pacing, Source::Default);
    sheet.put("retry.budgetPercent", budget_percent, Source::Default);
    let set = spec.rate_limit.as_ref().and_then(|rate_limit| rate_limit.limits.as_ref());
    for limit in &draft.limits {
        let ours = set.into_iter().flatten().any(|set| *set.name == *limit.name);
        let source = || if ours { Source::Spec } else { by_profile.clone() };
        let field = |name: &str| format!("rateLimit.limits[{}].{name}", limit.name);
        sheet.row(&field("scope"), limit.scope.as_str(), source());
        sheet.row(&field("requests"), limit.requests, source());
        sheet.row(&field("unit"), limit.unit.as_str(), source());
        sheet.row(&field("burst"), limit.burst.unwrap_or(limit.requests), source());
        if !limit.operations.is_empty() {
            sheet.row(&field("operations"), limit.operations.clone(), source());
        }
        sheet.done(&field("operations"));
    }
    sheet.put("rateLimit.reserve.moneyPercent", draft.money_reserve_percent, Source::Default);
    let otherwise = if draft.profile.cache.is_some() { by_profile.clone() } else { Source::Default };
    let cache = draft.cache.map(|cache| (cache.ttl, cache.max_stale)).unwrap_or_default();
    sheet.duration("cache.ttl", cache.0, otherwise.clone());
    sheet.duration("cache.maxStale", cache.1, otherwise);
}
