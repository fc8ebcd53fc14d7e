//! A bank in memory that pages like a real one, and misbehaves on request.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::provider::call::{Answer, CallError, Meta, Request};
use crate::provider::classify::Reading;
use crate::sync::Fetch;

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) minor: i64,
    pub(crate) kind: &'static str,
    pub(crate) date: String,
    pub(crate) narration: String,
}

/// What a request may be answered with instead.
pub(crate) type Trick = Box<dyn Fn(u64, Value) -> Result<Answer, CallError> + Send + Sync>;

/// What happens at the bank while a walk is under way.
pub(crate) type Change = Box<dyn FnOnce(&mut Vec<Row>) + Send>;

#[derive(Default)]
pub(crate) struct Config {
    pub(crate) nested: bool,
    pub(crate) currency: Option<&'static str>,
    /// Given the page's number and its honest body.
    pub(crate) trick: Option<Trick>,
    /// The page of that number is not answered before it is notified.
    pub(crate) stall: Option<(u64, Arc<Notify>)>,
    /// Done before the page of that number is answered, once.
    pub(crate) meanwhile: Option<(u64, Change)>,
}

#[derive(Default)]
struct State {
    /// Newest first.
    rows: Vec<Row>,
    config: Config,
    pages: usize,
    made: i64,
}

#[derive(Default)]
pub(crate) struct Bank(Mutex<State>);

pub(crate) fn answer(status: u16, body: &str) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.to_owned().into(),
        elapsed: std::time::Duration::ZERO,
        reading: Reading::of_status(status),
        meta: Meta::default(),
    }
}

impl Bank {
    /// With `count` transactions, a few a day, up to 2026-09-10.
    pub(crate) fn with(count: usize) -> Self {
        let bank = Self::default();
        bank.add(count);
        bank
    }

    pub(crate) fn add(&self, count: usize) {
        let mut state = self.0.lock().unwrap();
        for _ in 0..count {
            let n = state.made;
            state.made += 1;
            // Later ones are of the last day: they move all others down.
            let back = if n < 1000 && state.pages == 0 { n / 4 } else { 0 };
            let date = jiff::civil::date(2026, 9, 10).checked_sub(back.days()).unwrap();
            let row = Row {
                id: format!("tx-{n:05}"),
                minor: n * 7 + 1,
                kind: if n % 3 == 0 { "credit" } else { "debit" },
                date: format!("{date}T00:00:00.000Z"),
                narration: format!("payment {n}"),
            };
            let place = state.rows.partition_point(|other| other.date > row.date);
            state.rows.insert(place, row);
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

    /// What the ledger should hold in the end.
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
        let asked = request.query.contains(&("page".to_owned(), page.to_string()));
        // Once: whoever comes after is answered.
        asked.then(|| state.config.stall = None).map(|()| notify)
    }

    fn respond(&self, request: &Request) -> Result<Answer, CallError> {
        let mut state = self.0.lock().unwrap();
        if request.path.contains("missing") {
            return Ok(answer(404, r#"{"status":"failed"}"#));
        }
        assert!(request.headers.contains_key("x-request-id"));
        if !request.path.ends_with("/transactions") {
            let currency = state.config.currency.unwrap_or("ngn");
            let account = json!({"currency": currency, "account_number": "0131883461"});
            return Ok(answer(200, &json!({"data": {"account": account}}).to_string()));
        }
        let parameter = |name: &str| request.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let number = |name: &str| parameter(name).unwrap().parse::<u64>().unwrap();
        let day = |name: &str| -> Date {
            jiff::fmt::strtime::parse("%d-%m-%Y", parameter(name).unwrap()).unwrap().to_date().unwrap()
        };
        let (page, limit, from, to) = (number("page"), number("limit"), day("start"), day("end"));
        state.pages += 1;
        if state.config.meanwhile.as_ref().is_some_and(|(at, _)| *at == page)
            && let Some((_, change)) = state.config.meanwhile.take()
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
        match &state.config.trick {
            Some(trick) => trick(page, body),
            None => Ok(answer(200, &body.to_string())),
        }
    }
}

impl Fetch for Bank {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Answer, CallError>> {
        async move {
            // A real call waits; a crash may come then, too.
            tokio::task::yield_now().await;
            if let Some(stalled) = self.stalled(&request) {
                stalled.notified().await;
            }
            self.respond(&request)
        }
        .boxed()
    }
}
