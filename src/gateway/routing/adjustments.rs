//! `/api/treasury/routing/adjustments`: temporary weights and pins by operations staff, beside those of the routes' specs.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical;
use crate::domain::printable::is_hidden;
use crate::domain::route::AdjustmentScope;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::is_object_name;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{RoutingRight, actor, bank, json_text, path_id, route_field};
use crate::gateway::routing::fields::{DecimalInput, Fields, invalid};
use crate::gateway::state::Gateway;
use crate::ledger::decisions::{AdjustmentEffect, AdjustmentTarget, RouteAdjustment};
use crate::routing::AdjustmentRequest;

/// Longest reason, in characters.
const MAX_REASON: usize = 256;
/// Longest ID of a merchant in a scope.
const MAX_MERCHANT: usize = 128;
/// Bounds of a weight: those of the schema of BankRoute.
const WEIGHTS: (Decimal, Decimal) = (Decimal::from_parts(1, 0, 0, false, 1), Decimal::TEN);
/// The names of [`AdjustmentBody`].
const NAMES: &[&str] =
    &["namespace", "route", "candidate", "bank_profile_id", "scope", "weight", "pin", "expires_at", "reason"];

/// A temporary weight or pin.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentBody {
    /// Namespace of the routes. Unset: `--gateway-default-namespace`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// Name of the route. Unset: all routes of the namespace that have the bank.
    #[schema(min_length = 1, max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    pub route: Option<String>,
    /// Name of the candidate. Either this or `bank_profile_id` is required.
    #[schema(min_length = 1, max_length = 63)]
    pub candidate: Option<String>,
    /// `bankProfileID` of the candidate.
    #[schema(min_length = 1, max_length = 128)]
    pub bank_profile_id: Option<String>,
    /// The payouts that it applies to: `Global`, `Country/SN` or `Merchant/id`; also `global`, `country:SN`, `merchant:id`.
    /// Unset: all.
    #[schema(min_length = 1, max_length = 140)]
    pub scope: Option<String>,
    /// Factor on the cost of the bank, from 0.1 to 10: below 1 favors it, above 1 penalizes it. Either this or `pin` is
    /// required.
    pub weight: Option<DecimalInput>,
    /// True: the bank takes the payouts, as long as it can.
    pub pin: Option<bool>,
    /// When it ends, at most 366 days from now.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// Reason, for the audit.
    #[schema(min_length = 1, max_length = 256)]
    pub reason: Option<String>,
}

/// The namespace of a list or of an adjustment.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NamespaceQuery {
    /// Namespace of the routes. Unset: `--gateway-default-namespace`.
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
}

impl NamespaceQuery {
    /// The namespace of a query, or the default.
    pub(super) fn read(gateway: &Gateway, query: Result<Query<Self>, QueryRejection>) -> Result<String, Problem> {
        let Query(query) = query
            .map_err(|_| Problem::new(ErrorCode::InvalidRequest, "invalid query; allowed, at most once: namespace"))?;
        gateway.routing_namespace(query.namespace.as_deref())
    }
}

/// Which adjustments are listed.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdjustmentsQuery {
    /// Namespace of the routes. Unset: `--gateway-default-namespace`.
    #[param(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    pub namespace: Option<String>,
    /// Only those that count on this route: its own, and those of all routes. A right on that route is enough.
    #[param(min_length = 1, max_length = 253, pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    pub route: Option<String>,
}

/// A temporary weight or pin in effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustmentView {
    /// Its ID.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
    /// Namespace of the routes.
    pub namespace: String,
    /// Name of the route; null: all routes of the namespace that have the bank.
    pub route: Option<String>,
    /// Name of the candidate, if it was named so.
    pub candidate: Option<String>,
    /// `bankProfileID` of the candidate, if it was named so.
    pub bank_profile_id: Option<String>,
    /// The payouts that it applies to: `Global`, `Country/SN` or `Merchant/id`.
    pub scope: String,
    /// Factor on the cost of the bank; null: it is a pin.
    #[serde(with = "canonical::decimal::option")]
    #[schema(value_type = Option<String>)]
    pub weight: Option<Decimal>,
    /// Whether it is a pin.
    pub pin: bool,
    /// When it ends.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The reason that was given.
    pub reason: Option<String>,
    /// When it was made.
    #[serde(with = "canonical::instant")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// The adjustments in effect.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustmentList {
    /// Newest first.
    pub items: Vec<AdjustmentView>,
}

/// The result of a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdjustmentDeleted {
    /// The ID of the deleted adjustment.
    #[serde(with = "canonical::uuid_text")]
    #[schema(value_type = String, format = "uuid")]
    pub id: Uuid,
}

impl From<RouteAdjustment> for AdjustmentView {
    fn from(adjustment: RouteAdjustment) -> Self {
        let (candidate, bank_profile_id) = match adjustment.target {
            AdjustmentTarget::Candidate(name) => (Some(name), None),
            AdjustmentTarget::BankProfile(id) => (None, Some(id)),
        };
        let (weight, pin) = match adjustment.effect {
            AdjustmentEffect::Weight(weight) => (Some(weight), false),
            AdjustmentEffect::Pin => (None, true),
        };
        Self {
            id: adjustment.id,
            namespace: adjustment.namespace,
            route: adjustment.route,
            candidate,
            bank_profile_id,
            scope: match adjustment.scope {
                AdjustmentScope::Global => "Global".to_owned(),
                AdjustmentScope::Country(country) => format!("Country/{country}"),
                AdjustmentScope::Merchant(merchant) => format!("Merchant/{merchant}"),
            },
            weight,
            pin,
            expires_at: adjustment.expires_at,
            reason: adjustment.reason,
            created_at: adjustment.created_at,
            created_by: adjustment.created_by,
        }
    }
}

/// Lists the adjustments in effect that were made through the API. Those of the specs are in the routes.
#[utoipa::path(
    get,
    path = "/api/treasury/routing/adjustments",
    operation_id = "listAdjustments",
    tag = "routing",
    params(AdjustmentsQuery),
    responses((status = 200, description = "The adjustments", body = Envelope<AdjustmentList>))
)]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    query: Result<Query<AdjustmentsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(AdjustmentsQuery { namespace, route }) = query.map_err(|_| {
        Problem::new(ErrorCode::InvalidRequest, "invalid query; allowed, at most once each: namespace, route")
    })?;
    let namespace = gateway.routing_namespace(namespace.as_deref())?;
    if route.as_deref().is_some_and(|route| !is_object_name(route)) {
        return Err(invalid("route", "must be the name of a BankRoute: 1 to 253 of a-z, 0-9, - and ."));
    }
    let right = RoutingRight::GET_ADJUSTMENTS;
    gateway.require_routing(&subject, right, &namespace, route.as_deref().unwrap_or_default()).await?;
    let mut items = gateway.routing.adjustments(&namespace).await?;
    items.retain(|one| one.route.is_none() || route.is_none() || one.route == route);
    Ok(Envelope::ok(AdjustmentList { items: items.into_iter().map(AdjustmentView::from).collect() }).into_response())
}

/// Adds a temporary weight or pin. It is in the audit, and all decisions that start after the answer use it.
#[utoipa::path(
    post,
    path = "/api/treasury/routing/adjustments",
    operation_id = "createAdjustment",
    tag = "routing",
    request_body = AdjustmentBody,
    responses((status = 200, description = "The adjustment", body = Envelope<AdjustmentView>))
)]
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let fields = Fields::of_body(&text, NAMES)?;
    let (namespace, route) = (gateway.namespace_field(&fields)?, route_field(&fields)?);
    let right = RoutingRight::CREATE_ADJUSTMENT;
    gateway.require_routing(&subject, right, &namespace, route.as_deref().unwrap_or_default()).await?;
    let request = AdjustmentRequest {
        action: effect(&fields)?,
        bank: bank(&fields)?,
        expires_at: fields.required_instant("expires_at")?,
        reason: fields.short_text("reason", MAX_REASON)?,
        scope: scope(&fields)?,
        namespace,
        route,
    };
    drop(permit);
    let created = gateway.routing.create_adjustment(request, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(AdjustmentView::from(created)).into_response())
}

/// Ends an adjustment that was made through the API.
#[utoipa::path(
    delete,
    path = "/api/treasury/routing/adjustments/{id}",
    operation_id = "deleteAdjustment",
    tag = "routing",
    params(("id" = String, Path, description = "ID of the adjustment", format = "uuid"), NamespaceQuery),
    responses((status = 200, description = "The adjustment was ended", body = Envelope<AdjustmentDeleted>))
)]
pub async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let namespace = NamespaceQuery::read(&gateway, query)?;
    let text = "adjustment not found: it does not exist in this namespace, was deleted or has expired";
    let id = path_id(id, ErrorCode::NotFound, text);
    // A right on its route is enough; whether there is one is told only to those who may end it.
    let mut adjustments = gateway.routing.adjustments(&namespace).await?;
    adjustments.retain(|one| id.as_ref().is_ok_and(|id| one.id == *id));
    let route = adjustments.first().and_then(|one| one.route.as_deref()).unwrap_or_default();
    gateway.require_routing(&subject, RoutingRight::DELETE_ADJUSTMENT, &namespace, route).await?;
    let id = id?;
    gateway.routing.delete_adjustment(&namespace, id, &actor(&subject, request_id)).await?;
    Ok(Envelope::ok(AdjustmentDeleted { id }).into_response())
}

/// What the adjustment does: a weight, or a pin.
fn effect(fields: &Fields<'_>) -> Result<AdjustmentEffect, Problem> {
    let weight = fields.decimal("weight")?;
    match (weight, fields.flag("pin")?) {
        (Some(weight), None | Some(false)) if weight >= WEIGHTS.0 && weight <= WEIGHTS.1 => {
            Ok(AdjustmentEffect::Weight(weight))
        }
        (Some(_), None | Some(false)) => Err(fields.invalid("weight", "must be a decimal from 0.1 to 10")),
        (None, Some(true)) => Ok(AdjustmentEffect::Pin),
        (Some(_), Some(true)) => Err(fields.invalid("pin", "given beside weight; send one of the two")),
        (None, _) => Err(fields.invalid("weight", "missing; send a weight, or pin: true")),
    }
}

/// The payouts that an adjustment applies to.
fn scope(fields: &Fields<'_>) -> Result<AdjustmentScope, Problem> {
    let Some(text) = fields.text("scope")? else { return Ok(AdjustmentScope::Global) };
    parse_scope(&text).ok_or_else(|| {
        let text = "must be Global, Country/SN (an ISO 3166 code) or Merchant/id; or global, country:SN, merchant:id";
        fields.invalid("scope", text)
    })
}

/// The scope of a text: ours, or the source's.
fn parse_scope(text: &str) -> Option<AdjustmentScope> {
    if matches!(text, "Global" | "global") {
        return Some(AdjustmentScope::Global);
    }
    let after = |ours: &str, source: &str| text.strip_prefix(ours).or_else(|| text.strip_prefix(source));
    if let Some(country) = after("Country/", "country:") {
        let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        return is_code.then(|| AdjustmentScope::Country(country.to_owned()));
    }
    let merchant = after("Merchant/", "merchant:")?;
    // Each merchant that a payout may have: a decision takes any visible text.
    let is_id = (1..=MAX_MERCHANT).contains(&merchant.chars().count()) && !merchant.chars().any(is_hidden);
    is_id.then(|| AdjustmentScope::Merchant(merchant.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_accepted_in_both_spellings() {
        let country = AdjustmentScope::Country("SN".to_owned());
        let merchant = AdjustmentScope::Merchant("shop:7/a".to_owned());
        let longest = format!("Merchant/{}", "é".repeat(128));
        for (text, scope) in [
            ("Global", AdjustmentScope::Global),
            ("global", AdjustmentScope::Global),
            ("Country/SN", country.clone()),
            ("country:SN", country),
            ("Merchant/shop:7/a", merchant.clone()),
            ("merchant:shop:7/a", merchant),
            ("Merchant/Café Dakar", AdjustmentScope::Merchant("Café Dakar".to_owned())),
            ("merchant:東京 1", AdjustmentScope::Merchant("東京 1".to_owned())),
            (longest.as_str(), AdjustmentScope::Merchant("é".repeat(128))),
        ] {
            assert_eq!(parse_scope(text), Some(scope), "{text}");
        }
        let long = format!("Merchant/{}", "é".repeat(129));
        for text in [
            "",
            "GLOBAL",
            "country:sn",
            "country:SEN",
            "Country/",
            "merchant:",
            "merchant:a\u{200b}b",
            "merchant:a\nb",
            "region:EU",
            "SN",
            long.as_str(),
        ] {
            assert_eq!(parse_scope(text), None, "{text}");
        }
    }
}
