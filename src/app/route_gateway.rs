//! `busbar route explain --gateway`: the evaluation of a running operator, with what it knows of its banks.

use std::path::Path;
use std::time::Duration;

use reqwest::{Url, redirect};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::route_table::{RouteRow, RouteTable, payout_text};
use crate::cli::route::{RouteExplainArgs, RouteFormat};
use crate::domain::key::Kind;
use crate::domain::money::Currency;
use crate::domain::route::Cost;
use crate::explain::manifests::parse_kind;

/// The path of an evaluation without effects.
const PATH: &str = "/api/treasury/routing/test";
/// Identifies the question; nothing is recorded under it.
const PAYOUT_ID: &str = "busbar-route-explain";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer: a route of many candidates takes some ten kilobytes.
const MAX_ANSWER: usize = 4 << 20;

/// Why a gateway's evaluation is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatewayError {
    /// The target is no route.
    #[error("{0:?} is not broute/NAME: with --gateway, name a route that the operator serves")]
    Target(String),
    /// A bearer token would be readable on the way.
    #[error("--gateway {0}: plain HTTP is used on loopback only; use the https URL of the gateway")]
    Plain(Url),
    /// A file could not be read.
    #[error("{flag} {path}: {source}")]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The token cannot be sent.
    #[error("--token-file: the file holds no bearer token of one line")]
    Token,
    /// The authority cannot be used.
    #[error("--gateway-ca: {0}")]
    Authority(reqwest::Error),
    /// There was no answer.
    #[error("gateway not reached: {}", cause(.0))]
    Request(reqwest::Error),
    /// The gateway refused.
    #[error("gateway answered {status} {code}: {description}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code.
        code: String,
        /// What is wrong, and what to do.
        description: String,
    },
    /// The answer is no evaluation.
    #[error("gateway answered {status} with something else than an evaluation: {detail}; is --gateway its URL?")]
    Answer {
        /// The HTTP status.
        status: u16,
        /// What is missing.
        detail: String,
    },
}

/// The innermost cause: what reqwest says itself is only that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The text to print: the same table as offline, or the gateway's own JSON.
pub(super) async fn explain(args: &RouteExplainArgs, gateway: &Url) -> Result<String, GatewayError> {
    let body = question(args)?;
    let (status, answer) = ask(args, gateway, &body).await?;
    let data = evaluation(status, &answer)?;
    match args.output {
        RouteFormat::Json => Ok(format!("{data:#}\n")),
        RouteFormat::Text => table(args, status, &data).map(|table| table.text()),
    }
}

/// The body of the question.
fn question(args: &RouteExplainArgs) -> Result<Map<String, Value>, GatewayError> {
    let wrong = || GatewayError::Target(args.target.clone());
    let name = match args.target.split_once('/') {
        Some((kind, name)) if parse_kind(kind) == Some(Kind::BankRoute) => name,
        Some(_) => return Err(wrong()),
        None => args.target.as_str(),
    };
    if name.is_empty() || name == "-" || name.contains('/') {
        return Err(wrong());
    }
    let text = |value: &str| Value::String(value.to_owned());
    let fields = [
        ("namespace", args.namespace.clone()),
        ("country", args.country.clone()),
        ("rail", args.rail.clone()),
        ("merchant", args.merchant.clone()),
        ("amount", args.amount.map(|amount| amount.to_string())),
        ("currency", args.currency.map(|currency| currency.as_str().to_owned())),
    ];
    let mut body: Map<String, Value> =
        fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), Value::String(value?)))).collect();
    body.insert("route".to_owned(), text(name));
    body.insert("payout_id".to_owned(), text(PAYOUT_ID));
    Ok(body)
}

/// Sends the question; the status and the body of the answer.
async fn ask(
    args: &RouteExplainArgs,
    gateway: &Url,
    body: &Map<String, Value>,
) -> Result<(u16, Vec<u8>), GatewayError> {
    let loopback = match gateway.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse().is_ok_and(|address: std::net::Ipv4Addr| address.is_loopback()),
        None => false,
    };
    if gateway.scheme() != "https" && !(gateway.scheme() == "http" && loopback) {
        return Err(GatewayError::Plain(gateway.clone()));
    }
    // A redirect would carry the token elsewhere.
    let mut client = reqwest::Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT);
    if loopback {
        client = client.no_proxy();
    }
    if gateway.scheme() == "http" {
        client = client.tls_certs_only([]);
    } else if let Some(path) = &args.gateway.gateway_ca {
        let pem = read("--gateway-ca", path)?;
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).map_err(GatewayError::Authority)?);
    }
    let client = client.build().map_err(GatewayError::Authority)?;
    let url = format!("{}{PATH}", gateway.as_str().trim_end_matches('/'));
    let mut request = client
        .post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Value::Object(body.clone()).to_string());
    if let Some(path) = &args.gateway.token_file {
        let token = String::from_utf8(read("--token-file", path)?).map_err(|_| GatewayError::Token)?;
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GatewayError::Token);
        }
        request = request.bearer_auth(token);
    }
    let mut answer = request.send().await.map_err(GatewayError::Request)?;
    let status = answer.status().as_u16();
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(GatewayError::Request)? {
        if text.len() + chunk.len() > MAX_ANSWER {
            let detail = format!("it has more than {MAX_ANSWER} bytes");
            return Err(GatewayError::Answer { status, detail });
        }
        text.extend_from_slice(&chunk);
    }
    Ok((status, text))
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, GatewayError> {
    std::fs::read(path).map_err(|source| GatewayError::File { flag, path: path.display().to_string(), source })
}

/// The evaluation in the answer: `data`, or where no bank is available, its details.
fn evaluation(status: u16, answer: &[u8]) -> Result<Value, GatewayError> {
    let wrong = |detail: String| GatewayError::Answer { status, detail };
    let mut answer: Value = serde_json::from_slice(answer).map_err(|_| wrong("it is not JSON".to_owned()))?;
    let data = answer.get_mut("data").map(Value::take).unwrap_or_default();
    if status == 200 {
        return Ok(data);
    }
    let code = data["error"].as_str().ok_or_else(|| wrong("it has no data.error".to_owned()))?;
    if code == "no_route" && data["details"]["candidates"].is_array() {
        return Ok(data["details"].clone());
    }
    let description = answer["detail"]["status_description"].as_str().unwrap_or_default();
    Err(GatewayError::Refused { status, code: code.to_owned(), description: description.to_owned() })
}

/// A candidate as the gateway answers it.
#[derive(Deserialize)]
struct Standing {
    name: String,
    state: String,
    reason: String,
    #[serde(default)]
    cost: Option<Terms>,
}

/// The terms of a cost; decimals are texts.
#[derive(Deserialize)]
struct Terms {
    fee: Decimal,
    fx: Decimal,
    retry: Decimal,
    health: Decimal,
    delay: Decimal,
    weight: Decimal,
    total: Decimal,
}

/// An evaluation, as far as the table shows it.
#[derive(Deserialize)]
struct Answered {
    namespace: String,
    route: String,
    #[serde(default)]
    candidate: Option<String>,
    #[serde(default)]
    at: Option<String>,
    candidates: Vec<Standing>,
}

fn table(args: &RouteExplainArgs, status: u16, data: &Value) -> Result<RouteTable, GatewayError> {
    let answered =
        Answered::deserialize(data).map_err(|error| GatewayError::Answer { status, detail: error.to_string() })?;
    let rows = answered.candidates.into_iter().map(|one| RouteRow {
        name: one.name,
        state: one.state,
        reason: one.reason,
        cost: one.cost.map(|Terms { fee, fx, retry, health, delay, weight, total }| Cost {
            delay,
            fee,
            fx,
            health,
            retry,
            total,
            weight,
        }),
    });
    let amount = args.amount.unwrap_or_default();
    let currency = args.currency.as_ref().map(Currency::as_str).unwrap_or_default();
    Ok(RouteTable {
        name: format!("{}/{}", answered.namespace, answered.route),
        chosen: answered.candidate,
        payout: payout_text(
            &format!("{amount} {currency}"),
            [&args.country, &args.rail, &args.merchant].map(Option::as_deref),
        ),
        at: answered.at.unwrap_or_else(|| "the time of the answer".to_owned()),
        rows: rows.collect(),
        notes: Vec::new(),
    })
}
