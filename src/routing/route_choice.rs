//! Which route decides on a payout: the named one, else the best of those that apply to it.

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::canonical::to_millis;
use crate::domain::decision::DecisionRequest;
use crate::domain::key::ObjectKey;
use crate::routing::error::RoutingError;
use crate::routing::source::{LiveRoute, RouteSource};

/// The route for `request`: the one that it names, else of the routes of the namespace that apply to the payout the one of
/// the highest priority, then the oldest, then by name. Amounts are converted by the rates that the decision is made with:
/// those of the request before those of the route. A named route need not apply: its candidates' own limits do. A route
/// whose spec is invalid applies to nothing.
pub(crate) fn choose_route(
    source: &dyn RouteSource,
    request: &DecisionRequest,
    now: Timestamp,
) -> Result<Arc<LiveRoute>, RoutingError> {
    let (namespace, route) = (request.namespace.as_str(), request.route.as_deref());
    let found = match route {
        Some(name) => source.route(&ObjectKey::new(namespace, name)),
        None => source
            .routes(namespace)
            .into_iter()
            .filter_map(|route| {
                let resolved = route.resolved.as_ref().ok()?;
                let rates = request.rates_over(&resolved.rules.rates, to_millis(now));
                let priority = resolved.match_.applies(&request.payout, &rates).then_some(resolved.priority)?;
                Some((Reverse(priority), route))
            })
            .min_by(|(mine, a), (theirs, b)| {
                mine.cmp(theirs).then_with(|| a.created.cmp(&b.created)).then_with(|| a.key.name.cmp(&b.key.name))
            })
            .map(|(_, route)| route),
    };
    found
        .ok_or_else(|| RoutingError::RouteNotFound { namespace: namespace.to_owned(), route: route.map(str::to_owned) })
}
