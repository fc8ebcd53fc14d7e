//! Alias paths of the Finastra integration, for the connection of `--finastra-alias`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;

use crate::domain::key::ObjectKey;
use crate::gateway::call_request::CallParts;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{CallInput, CallTarget, invalid_path, query};
use crate::gateway::problem::Problem;
use crate::gateway::providers::{ProviderAnswer, respond};
use crate::gateway::state::Gateway;

/// Where the paths of the aliases begin.
const PREFIX: &str = "/finastra/";

/// Whether `path` is that of an alias.
pub(super) fn is_alias(path: &str) -> bool {
    path.starts_with(PREFIX)
}

fn connection(gateway: &Gateway) -> Result<ObjectKey, Problem> {
    gateway.finastra.clone().ok_or_else(|| {
        let text = "no alias connection configured; start the operator with --finastra-alias=namespace/name, or use \
                    /api/providers/{namespace}/{connection}/collaterals";
        Problem::new(ErrorCode::NotFound, text)
    })
}

/// Lists collaterals, one page at a time.
#[utoipa::path(
    get,
    path = "/finastra/b2b/collaterals",
    operation_id = "finastraCollaterals",
    tag = "aliases",
    params(
        ("top" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Maximum number of records. Unset: 50"),
        ("startingIndex" = Option<u32>, Query, minimum = 0, maximum = 1_000_000_000, description = "Number of records to skip. Unset: 0"),
    ),
    responses((status = 200, description = "The page", body = Envelope<ProviderAnswer>))
)]
pub async fn collaterals(State(gateway): State<Arc<Gateway>>, parts: CallParts) -> Result<Response, Problem> {
    call_alias(&gateway, &parts, "collaterals", BTreeMap::new()).await
}

/// Returns one collateral.
#[utoipa::path(
    get,
    path = "/finastra/b2b/collaterals/{id}",
    operation_id = "finastraCollateral",
    tag = "aliases",
    params(("id" = String, Path, description = "The ID of the collateral", min_length = 1, max_length = 128)),
    responses((status = 200, description = "The collateral", body = Envelope<ProviderAnswer>))
)]
pub async fn collateral(
    State(gateway): State<Arc<Gateway>>,
    parts: CallParts,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(id) = id.map_err(invalid_path)?;
    let parameters = BTreeMap::from([("id".to_owned(), id)]);
    call_alias(&gateway, &parts, "collateral", parameters).await
}

/// Returns the accounts; a stub behind the feature `b2c-stubs`.
#[utoipa::path(
    get,
    path = "/finastra/b2c/accounts",
    operation_id = "finastraAccounts",
    tag = "aliases",
    responses((status = 200, description = "The stub", body = Envelope<ProviderAnswer>))
)]
pub async fn accounts(State(gateway): State<Arc<Gateway>>, parts: CallParts) -> Result<Response, Problem> {
    call_alias(&gateway, &parts, "accounts", BTreeMap::new()).await
}

/// Returns the balances; a stub behind the feature `b2c-stubs`.
#[utoipa::path(
    get,
    path = "/finastra/b2c/balances",
    operation_id = "finastraBalances",
    tag = "aliases",
    responses((status = 200, description = "The stub", body = Envelope<ProviderAnswer>))
)]
pub async fn balances(State(gateway): State<Arc<Gateway>>, parts: CallParts) -> Result<Response, Problem> {
    call_alias(&gateway, &parts, "balances", BTreeMap::new()).await
}

async fn call_alias(
    gateway: &Gateway,
    parts: &CallParts,
    operation: &str,
    body: BTreeMap<String, String>,
) -> Result<Response, Problem> {
    let target = CallTarget { connection: connection(gateway)?, operation: operation.to_owned() };
    respond(gateway, parts, target, CallInput { item: None, query: query(&parts.uri)?, body, post: false }).await
}
