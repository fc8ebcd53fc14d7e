//! The control API: the operations of a [`BankHandle`] as JSON over HTTP on a separate port.
//!
//! It has no authentication, so it listens only on loopback unless remote addresses are allowed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::testbed::sim::arrivals::Arrivals;
use crate::testbed::sim::auth::RequiredAuth;
use crate::testbed::sim::bank::BankHandle;
use crate::testbed::sim::config::BankConfig;
use crate::testbed::sim::counters::CounterSnapshot;
use crate::testbed::sim::endpoints::BankEndpoints;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::otlp;
use crate::testbed::sim::payout_desk::{PayoutBooks, PayoutConfig};
use crate::testbed::sim::registry::BankRegistry;
use crate::testbed::sim::script::{Script, ScriptStep};
use crate::testbed::sim::transactions::{AccountConfig, Transaction};

/// Binds the control API and serves it until the simulator stops; returns its address.
pub(crate) async fn start(registry: &Arc<BankRegistry>, address: SocketAddr) -> Result<SocketAddr, SimError> {
    registry.check_address(address)?;
    let failed = |source| SimError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (router, stop) = (router(registry.clone()), registry.stop_token());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            result = axum::serve(listener, router) => tracing::error!(?result, "control API stopped"),
        }
    });
    Ok(bound)
}

fn router(registry: Arc<BankRegistry>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/ca.pem", get(ca_pem))
        .route("/reset", post(reset_all))
        .route("/banks", get(list).post(create))
        .route("/banks/{bank}", get(show).delete(remove))
        .route("/banks/{bank}/script", put(set_script))
        .route("/banks/{bank}/fail", post(fail))
        .route("/banks/{bank}/recover", post(recover))
        .route("/banks/{bank}/reset", post(reset))
        .route("/banks/{bank}/auth", put(set_auth))
        .route("/banks/{bank}/tokens", axum::routing::delete(revoke))
        .route("/banks/{bank}/accounts/{account}", put(put_account))
        .route("/banks/{bank}/accounts/{account}/transactions", post(put_transactions))
        .route("/banks/{bank}/payouts", get(payout_books).put(set_payouts))
        .route("/banks/{bank}/arrivals", get(arrivals).delete(clear))
        .route("/banks/{bank}/counters", get(counters))
        .with_state(registry)
        .merge(otlp::router(std::sync::Arc::default()))
}

type ControlResult<T> = Result<T, SimError>;

impl IntoResponse for SimError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchBank(_) | Self::NoSuchAccount(_) => StatusCode::NOT_FOUND,
            Self::NameTaken(_) => StatusCode::CONFLICT,
            Self::InvalidName(_) | Self::NotLoopback { .. } | Self::Script(_) | Self::Auth(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Listen { .. } | Self::Tls(_) | Self::Write { .. } | Self::Signals(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(serde_json::json!({"error": self.to_string()}))).into_response()
    }
}

/// A bank in a response.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BankView {
    #[serde(flatten)]
    endpoints: BankEndpoints,
    auth: &'static str,
    accounts: Vec<String>,
    counters: CounterSnapshot,
}

fn view(bank: &BankHandle) -> BankView {
    BankView {
        endpoints: BankEndpoints::of(bank),
        auth: bank.auth_kind(),
        accounts: bank.account_ids(),
        counters: bank.counters(),
    }
}

async fn ca_pem(State(registry): State<Arc<BankRegistry>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], registry.ca_pem().to_owned())
}

async fn list(State(registry): State<Arc<BankRegistry>>) -> Json<Vec<BankView>> {
    Json(registry.banks().iter().map(view).collect())
}

async fn create(
    State(registry): State<Arc<BankRegistry>>,
    Json(config): Json<BankConfig>,
) -> ControlResult<(StatusCode, Json<BankView>)> {
    let bank = registry.add_bank(config).await?;
    Ok((StatusCode::CREATED, Json(view(&bank))))
}

async fn show(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<Json<BankView>> {
    Ok(Json(view(&registry.bank(&bank)?)))
}

async fn remove(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<StatusCode> {
    registry.remove_bank(&bank)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_script(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
    Json(script): Json<Script>,
) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.set_script(script).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn fail(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
    Json(step): Json<ScriptStep>,
) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.fail_with(step).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn recover(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.recover().await;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset_all(State(registry): State<Arc<BankRegistry>>) -> ControlResult<StatusCode> {
    for bank in registry.banks() {
        bank.reset().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn set_auth(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
    Json(auth): Json<RequiredAuth>,
) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.set_auth(&auth)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.revoke_tokens();
    Ok(StatusCode::NO_CONTENT)
}

async fn put_account(
    State(registry): State<Arc<BankRegistry>>,
    Path((bank, account)): Path<(String, String)>,
    Json(config): Json<AccountConfig>,
) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.put_account(AccountConfig { id: account, ..config });
    Ok(StatusCode::NO_CONTENT)
}

async fn put_transactions(
    State(registry): State<Arc<BankRegistry>>,
    Path((bank, account)): Path<(String, String)>,
    Json(transactions): Json<Vec<Transaction>>,
) -> ControlResult<StatusCode> {
    if registry.bank(&bank)?.put_transactions(&account, transactions) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(SimError::NoSuchAccount(account))
    }
}

async fn payout_books(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
) -> ControlResult<Json<PayoutBooks>> {
    Ok(Json(registry.bank(&bank)?.payout_books()))
}

async fn set_payouts(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
    Json(config): Json<PayoutConfig>,
) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.set_payouts(config);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SinceQuery {
    #[serde(default)]
    since: u64,
}

async fn arrivals(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
    Query(SinceQuery { since }): Query<SinceQuery>,
) -> ControlResult<Json<Arrivals>> {
    Ok(Json(registry.bank(&bank)?.arrivals_since(since)))
}

async fn clear(State(registry): State<Arc<BankRegistry>>, Path(bank): Path<String>) -> ControlResult<StatusCode> {
    registry.bank(&bank)?.clear_arrivals();
    Ok(StatusCode::NO_CONTENT)
}

async fn counters(
    State(registry): State<Arc<BankRegistry>>,
    Path(bank): Path<String>,
) -> ControlResult<Json<CounterSnapshot>> {
    Ok(Json(registry.bank(&bank)?.counters()))
}
