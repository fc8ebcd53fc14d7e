//! The control API: everything a [`BankHandle`] can do, as JSON over HTTP on a port of its own.
//!
//! It has no authentication, so it listens on loopback unless it was told otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::testbed::sim::Town;
use crate::testbed::sim::announce::BankPlace;
use crate::testbed::sim::arrivals::{Arrivals, Counts};
use crate::testbed::sim::auth::Auth;
use crate::testbed::sim::bank::BankHandle;
use crate::testbed::sim::config::BankConfig;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::otlp;
use crate::testbed::sim::script::{Script, Step};
use crate::testbed::sim::transactions::{AccountConfig, Transaction};

/// Binds the control API and serves it until the simulator ends.
pub(crate) async fn start(town: &Arc<Town>, address: SocketAddr) -> Result<SocketAddr, SimError> {
    town.check_address(address)?;
    let failed = |source| SimError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (router, stop) = (router(town.clone()), town.stop.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            ended = axum::serve(listener, router) => tracing::error!(?ended, "the control API has ended"),
        }
    });
    Ok(bound)
}

fn router(town: Arc<Town>) -> Router {
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
        .route("/banks/{bank}/arrivals", get(arrivals).delete(clear))
        .route("/banks/{bank}/counters", get(counters))
        .with_state(town)
        .merge(otlp::router(std::sync::Arc::default()))
}

type Answer<T> = Result<T, SimError>;

impl IntoResponse for SimError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchBank(_) | Self::NoSuchAccount(_) => StatusCode::NOT_FOUND,
            Self::NameTaken(_) => StatusCode::CONFLICT,
            Self::BadName(_) | Self::NotLoopback { .. } | Self::Script(_) | Self::Auth(_) => StatusCode::BAD_REQUEST,
            Self::Listen { .. } | Self::Tls(_) | Self::Write { .. } | Self::Signals(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(serde_json::json!({"error": self.to_string()}))).into_response()
    }
}

/// What the API shows of a bank.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    #[serde(flatten)]
    place: BankPlace,
    auth: &'static str,
    accounts: Vec<String>,
    counters: Counts,
}

fn shown(bank: &BankHandle) -> Shown {
    Shown { place: BankPlace::of(bank), auth: bank.auth_kind(), accounts: bank.account_ids(), counters: bank.counts() }
}

async fn ca_pem(State(town): State<Arc<Town>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], town.ca_pem.to_string())
}

async fn list(State(town): State<Arc<Town>>) -> Json<Vec<Shown>> {
    Json(town.banks().iter().map(shown).collect())
}

async fn create(State(town): State<Arc<Town>>, Json(config): Json<BankConfig>) -> Answer<(StatusCode, Json<Shown>)> {
    let bank = town.add_bank(config).await?;
    Ok((StatusCode::CREATED, Json(shown(&bank))))
}

async fn show(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<Json<Shown>> {
    Ok(Json(shown(&town.bank(&bank)?)))
}

async fn remove(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<StatusCode> {
    town.remove_bank(&bank)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_script(
    State(town): State<Arc<Town>>,
    Path(bank): Path<String>,
    Json(script): Json<Script>,
) -> Answer<StatusCode> {
    town.bank(&bank)?.set_script(script).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn fail(State(town): State<Arc<Town>>, Path(bank): Path<String>, Json(step): Json<Step>) -> Answer<StatusCode> {
    town.bank(&bank)?.fail_with(step).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn recover(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<StatusCode> {
    town.bank(&bank)?.recover().await;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<StatusCode> {
    town.bank(&bank)?.reset().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset_all(State(town): State<Arc<Town>>) -> Answer<StatusCode> {
    for bank in town.banks() {
        bank.reset().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn set_auth(
    State(town): State<Arc<Town>>,
    Path(bank): Path<String>,
    Json(auth): Json<Auth>,
) -> Answer<StatusCode> {
    town.bank(&bank)?.set_auth(&auth)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<StatusCode> {
    town.bank(&bank)?.revoke_tokens();
    Ok(StatusCode::NO_CONTENT)
}

async fn put_account(
    State(town): State<Arc<Town>>,
    Path((bank, account)): Path<(String, String)>,
    Json(config): Json<AccountConfig>,
) -> Answer<StatusCode> {
    town.bank(&bank)?.put_account(AccountConfig { id: account, ..config });
    Ok(StatusCode::NO_CONTENT)
}

async fn put_transactions(
    State(town): State<Arc<Town>>,
    Path((bank, account)): Path<(String, String)>,
    Json(transactions): Json<Vec<Transaction>>,
) -> Answer<StatusCode> {
    if town.bank(&bank)?.put_transactions(&account, transactions) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(SimError::NoSuchAccount(account))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    since: u64,
}

async fn arrivals(
    State(town): State<Arc<Town>>,
    Path(bank): Path<String>,
    Query(Since { since }): Query<Since>,
) -> Answer<Json<Arrivals>> {
    Ok(Json(town.bank(&bank)?.arrivals_since(since)))
}

async fn clear(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<StatusCode> {
    town.bank(&bank)?.clear_arrivals();
    Ok(StatusCode::NO_CONTENT)
}

async fn counters(State(town): State<Arc<Town>>, Path(bank): Path<String>) -> Answer<Json<Counts>> {
    Ok(Json(town.bank(&bank)?.counts()))
}
