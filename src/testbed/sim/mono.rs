//! Mono's API, version 2: account details and transactions, page by page.
//!
//! Account details are `data.account.{id,name,currency,…}` with `data.meta.data_status`, as in the public documentation
//! (whose examples use both upper and lower case for the currency: it is taken from [`AccountConfig`]).
//! The `next` of a page lacks `/accounts`, as in the official example: a client that follows it unchanged gets a 404.

use jiff::civil::Date;
use jiff::fmt::strtime;
use serde::{Deserialize, Serialize};

use crate::testbed::sim::reply::{Reply, param};
use crate::testbed::sim::transactions::{Account, AccountConfig, DateRange, Transaction};

/// Details of Mono's responses that differ between its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MonoConfig {
    /// Position of the records in the body.
    pub body: PageShape,
    /// Default of `limit`.
    pub default_limit: u64,
    /// Maximum of `limit`; larger values are reduced to it.
    pub max_limit: u64,
}

impl Default for MonoConfig {
    fn default() -> Self {
        Self { body: PageShape::Flat, default_limit: 50, max_limit: 1_000 }
    }
}

/// The two page formats in Mono's documentation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PageShape {
    /// `data: […]` and `meta: {…}`.
    #[default]
    Flat,
    /// `data: {paging: {…}, transactions: […]}`: the older format, also used for real-time data.
    Nested,
}

#[derive(Serialize)]
struct MonoEnvelope<D, M> {
    status: &'static str,
    message: &'static str,
    timestamp: jiff::Timestamp,
    data: D,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<M>,
}

#[derive(Serialize)]
struct Paging {
    total: u64,
    page: u64,
    previous: Option<String>,
    next: Option<String>,
}

#[derive(Serialize)]
struct Nested {
    paging: Paging,
    transactions: Vec<Transaction>,
}

/// The parts of a request on which the response depends.
pub(crate) struct MonoRequest<'a> {
    pub(crate) query: Option<&'a str>,
    /// Scheme, host and label: the part of the request URL before `/v2`.
    pub(crate) base: &'a str,
    pub(crate) now: jiff::Timestamp,
}

/// `GET /v2/accounts/{id}`.
pub(crate) fn account(config: &AccountConfig, request: &MonoRequest<'_>) -> Reply {
    let number = config.id.bytes().fold(0u64, |n, b| (n * 31 + u64::from(b)) % 10_000_000_000);
    let data = serde_json::json!({
        "account": {
            "id": config.id,
            "name": "Simulated Account",
            "currency": config.currency,
            "type": "SAVINGS_ACCOUNT",
            "account_number": format!("{number:010}"),
            "balance": 33_306_400,
            "bvn": "0000",
            "institution": {"name": "Simulated Bank", "bank_code": "000", "type": "PERSONAL_BANKING"},
        },
        "customer": {"id": "sim-customer"},
        "meta": {
            "data_status": "AVAILABLE",
            "auth_method": "internet_banking",
            "retrieved_data": ["balance", "transactions"],
        },
    });
    successful(data, None::<Paging>, request)
}

/// `GET /v2/accounts/{id}/transactions`.
pub(crate) fn transactions(account: &Account, config: &MonoConfig, request: &MonoRequest<'_>) -> Reply {
    let number = |name: &str| param(request.query, name).map(|v| v.parse::<u64>()).transpose();
    let (Ok(page), Ok(limit)) = (number("page"), number("limit")) else {
        return Reply::failed(400, "page and limit must be integers");
    };
    let (page, mut limit) = (page.unwrap_or(1).max(1), limit.unwrap_or(config.default_limit));
    limit = limit.clamp(1, config.max_limit.max(1));
    let (Ok(start), Ok(end)) = (day(request.query, "start"), day(request.query, "end")) else {
        return Reply::failed(400, "start and end must be dates in the format DD-MM-YYYY");
    };
    let range = DateRange { start, end };
    if param(request.query, "paginate").as_deref() == Some("false") {
        let (_, rows) = account.page(range, 0, u64::MAX);
        return successful(rows, None::<Paging>, request);
    }
    let (total, rows) = account.page(range, (page - 1).saturating_mul(limit), limit);
    let link = |page: u64| format!("{}/v2/{}/transactions?page={page}", request.base, account.config.id);
    let paging = Paging {
        total,
        page,
        previous: (page > 1).then(|| link(page - 1)),
        next: (page.saturating_mul(limit) < total).then(|| link(page + 1)),
    };
    match config.body {
        PageShape::Flat => successful(rows, Some(paging), request),
        PageShape::Nested => successful(Nested { paging, transactions: rows }, None::<Paging>, request),
    }
}

/// `GET /v2/accounts`.
pub(crate) fn accounts<'a>(all: impl Iterator<Item = &'a AccountConfig>, request: &MonoRequest<'_>) -> Reply {
    let rows: Vec<_> = all.map(|a| serde_json::json!({"id": a.id, "currency": a.currency})).collect();
    let meta = Paging { total: rows.len() as u64, page: 1, previous: None, next: None };
    successful(rows, Some(meta), request)
}

fn successful<D: Serialize, M: Serialize>(data: D, meta: Option<M>, request: &MonoRequest<'_>) -> Reply {
    let message = "Data retrieved successfully";
    Reply::json(200, &MonoEnvelope { status: "successful", message, timestamp: request.now, data, meta })
}

fn day(query: Option<&str>, name: &str) -> Result<Option<Date>, jiff::Error> {
    let text = param(query, name).filter(|v| !v.is_empty());
    text.map(|text| strtime::parse("%d-%m-%Y", text)?.to_date()).transpose()
}
