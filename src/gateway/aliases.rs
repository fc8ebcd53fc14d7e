//! The Finastra integration's own paths, for the one connection that `--finastra-alias` names.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use crate::cluster::auth::Subject;
use crate::domain::key::ObjectKey;
use crate::gateway::Gateway;
use crate::gateway::envelope::Envelope;
use crate::gateway::observe::RequestId;
use crate::gateway::problem::{ErrorCode, Problem};
use crate::gateway::providers::{Given, ProviderAnswer, answer, query};

fn connection(gateway: &Gateway) -> Result<ObjectKey, Problem> {
    gateway.finastra.clone().ok_or_else(|| {
        let text = "this path is an alias for one connection, and none is named: start the operator with \
                    --finastra-alias=namespace/name, or use /api/providers/{namespace}/{connection}/collaterals";
        Problem::new(ErrorCode::NotFound, text)
    })
}

/// A page of the collaterals.
#[utoipa::path(
    get,
    path = "/finastra/b2b/collaterals",
    operation_id = "finastraCollaterals",
    tag = "aliases",
    params(
        ("top" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most records. Unset: 50"),
        ("startingIndex" = Option<u32>, Query, minimum = 0, maximum = 1_000_000_000, description = "How many to leave out. Unset: 0"),
    ),
    responses((status = 200, description = "The page", body = Envelope<ProviderAnswer>))
)]
pub async fn collaterals(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    fixed(&gateway, &subject, request, &headers, &uri, "collaterals", BTreeMap::new()).await
}

/// One collateral.
#[utoipa::path(
    get,
    path = "/finastra/b2b/collaterals/{id}",
    operation_id = "finastraCollateral",
    tag = "aliases",
    params(("id" = String, Path, description = "The collateral's id", min_length = 1, max_length = 128)),
    responses((status = 200, description = "The collateral", body = Envelope<ProviderAnswer>))
)]
pub async fn collateral(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(|_| Problem::new(ErrorCode::InvalidRequest, "the path is not UTF-8"))?;
    let given = BTreeMap::from([("id".to_owned(), id)]);
    fixed(&gateway, &subject, request, &headers, &uri, "collateral", given).await
}

/// The accounts, a stub behind the feature `b2c-stubs`.
#[utoipa::path(
    get,
    path = "/finastra/b2c/accounts",
    operation_id = "finastraAccounts",
    tag = "aliases",
    responses((status = 200, description = "The stub", body = Envelope<ProviderAnswer>))
)]
pub async fn accounts(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    fixed(&gateway, &subject, request, &headers, &uri, "accounts", BTreeMap::new()).await
}

/// The balances, a stub behind the feature `b2c-stubs`.
#[utoipa::path(
    get,
    path = "/finastra/b2c/balances",
    operation_id = "finastraBalances",
    tag = "aliases",
    responses((status = 200, description = "The stub", body = Envelope<ProviderAnswer>))
)]
pub async fn balances(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<Subject>>,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    fixed(&gateway, &subject, request, &headers, &uri, "balances", BTreeMap::new()).await
}

async fn fixed(
    gateway: &Gateway,
    subject: &Subject,
    request: RequestId,
    headers: &HeaderMap,
    uri: &Uri,
    operation: &str,
    body: BTreeMap<String, String>,
) -> Result<Response, Problem> {
    let target = (connection(gateway)?, operation.to_owned());
    answer(gateway, subject, request, target, headers, Given { item: None, query: query(uri)?, body, post: false })
        .await
}
