//! An in-memory bank with pagination and scripted faults.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::profile::Classification;
use crate::provider::call::{CallError, Request, Response, ResponseMeta};
use crate::provider::memory::Reservation;
use crate::sync::Fetch;

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) minor: i64,
    pub(crate) kind: &'static str,
    pub(crate) date: String,
    pub(crate) narration: String,
}

/// Replaces the response to a page request.
pub(crate) type ResponseOverride = Box<dyn Fn(u64, Value) -> Result<Response, CallError> + Send + Sync>;

/// A change of the list during a walk.
pub(crate) type ListChange = Box<dyn FnOnce(&mut Vec<Row>) + Send>;

#[derive(Default)]
pub(crate) struct Config {
    pub(crate) nested: bool,
    pub(crate) currency: Option<&'static str>,
    /// Called with the page number and the regular body.
    pub(crate) override_response: Option<ResponseOverride>,
    /// The page with this number is answered only after the notification; applies once.
    pub(crate) stall: Option<(u64, Arc<Notify>)>,
    /// Applied once, before the page with this number is answered.
    pub(crate) change_before_page: Option<(u64, ListChange)>,
}

#[derive(Default)]
struct State {
    /// Newest first.
    rows: Vec<Row>,
    config: Config,
    pages: usize,
    created: i64,
}

#[derive(Default)]
pub(crate) struct ScriptedBank(Mutex<State>);

pub(crate) fn response(status: u16, body: &str) -> Response {
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.to_owned().into(),
        elapsed: std::time::Duration::ZERO,
        classification: Classification::of_status(status),
        meta: ResponseMeta::default(),
        memory: Reservation::default(),
    }
}

impl ScriptedBank {
    /// A bank with `count` transactions, four a day, up to 2026-09-10.
    pub(crate) fn with(count: usize) -> Self {
        let bank = Self::default();
        bank.add(count);
        bank
    }

    pub(crate) fn add(&self, count: usize) {
        let mut state = self.0.lock().unwrap();
        for _ in 0..count {
            let n = state.created;
            state.created += 1;
            // Transactions added after the first page request get the last day, so they shift all others.
            let back = if n < 1000 && state.pages == 0 { n / 4 } else { 0 };
            let date = jiff::civil::date(2026, 9, 10).checked_sub(back.days()).unwrap();
            let row = Row {
                id: format!("tx-{n:05}"),
                minor: n * 7 + 1,
                kind: if n % 3 == 0 { "credit" } else { "debit" },
                date: format!("{date}T00:00:00.000Z"),
                narration: format!("payment {n}"),
            };
            let index = state.rows.partition_point(|other| other.date > row.date);
            state.rows.insert(index, row);
        }
    }

    pub(crate) fn push(&self, id: &str, minor: i64, kind: &'static str, date: &str, narration: &str) {
        let row = Row { id: id.into(), minor, kind, date: date.into(), narration: narration.into() };
        self.0.lock().unwrap().rows.push(row);
    }

    pub(crate) fn edit(&self, edit: impl FnOnce(&mut Vec<Row>)) {
        edit(&mut self.0.lock().unwrap().rows);
    }

    pub(crate) fn configure(&self, configure: impl FnOnce(&mut Config)) {
        configure(&mut self.0.lock().unwrap().config);
    }

    pub(crate) fn pages_served(&self) -> usize {
        self.0.lock().unwrap().pages
    }

    /// The expected content of the ledger.
    pub(crate) fn table(&self) -> Vec<(String, i128)> {
        let state = self.0.lock().unwrap();
        let signed = |row: &Row| if row.kind == "credit" { i128::from(row.minor) } else { -i128::from(row.minor) };
        let mut table: Vec<_> = state.rows.iter().map(|row| (row.id.clone(), signed(row))).collect();
        table.sort();
        table
    }

    fn stalled(&self, request: &Request) -> Option<Arc<Notify>> {
        let mut state = self.0.lock().unwrap();
        let (page, notify) = state.config.stall.clone()?;
        let requested = request.query.contains(&("page".to_owned(), page.to_string()));
        // Only the first request stalls.
        requested.then(|| state.config.stall = None).map(|()| notify)
    }

    fn respond(&self, request: &Request) -> Result<Response, CallError> {
        let mut state = self.0.lock().unwrap();
        if request.path.contains("missing") {
            return Ok(response(404, r#"{"status":"failed"}"#));
        }
        assert!(request.headers.contains_key("x-request-id"));
        if !request.path.ends_with("/transactions") {
            let currency = state.config.currency.unwrap_or("ngn");
            let account = json!({"currency": currency, "account_number": "0131883461"});
            return Ok(response(200, &json!({"data": {"account": account}}).to_string()));
        }
        let parameter = |name: &str| request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let number = |name: &str| parameter(name).unwrap().parse::<u64>().unwrap();
        let day = |name: &str| -> Date {
            jiff::fmt::strtime::parse("%d-%m-%Y", parameter(name).unwrap()).unwrap().to_date().unwrap()
        };
        let (page, limit, from, to) = (number("page"), number("limit"), day("start"), day("end"));
        state.pages += 1;
        if state.config.change_before_page.as_ref().is_some_and(|(at, _)| *at == page)
            && let Some((_, change)) = state.config.change_before_page.take()
        {
            change(&mut state.rows);
        }
        let within = |row: &&Row| row.date[..10].parse::<Date>().is_ok_and(|date| (from..=to).contains(&date));
        let all: Vec<_> = state.rows.iter().filter(within).collect();
        let skip = usize::try_from((page - 1) * limit).unwrap();
        let records: Vec<Value> = all
            .iter()
            .skip(skip)
            .take(usize::try_from(limit).unwrap())
            .map(|row| {
                json!({"id": row.id, "amount": row.minor, "type": row.kind, "date": row.date,
                       "narration": row.narration, "category": null, "balance": 0})
            })
            .collect();
        let total = all.len() as u64;
        let next =
            (page * limit < total).then(|| format!("https://elsewhere.test/v2/acc/transactions?page={}", page + 1));
        let paging = json!({"total": total, "page": page, "previous": null, "next": next});
        let body = if state.config.nested {
            json!({"data": {"transactions": records, "paging": paging}})
        } else {
            json!({"data": records, "meta": paging})
        };
        match &state.config.override_response {
            Some(override_response) => override_response(page, body),
            None => Ok(response(200, &body.to_string())),
        }
    }
}

impl Fetch for ScriptedBank {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        async move {
            // A real call awaits; crash tests can stop here.
            tokio::task::yield_now().await;
            if let Some(stalled) = self.stalled(&request) {
                stalled.notified().await;
            }
            self.respond(&request)
        }
        .boxed()
    }
}
