//! Payouts of a simulated bank over HTTP.
//!
//! `POST /payouts` with `Idempotency-Key` and `{"payoutId", "endToEndId"}` submits, `GET /payouts/{endToEndId}` answers
//! the ISO 20022 status, and `POST /payouts/{endToEndId}/cancel` asks to cancel. A script of faults comes on top: a reply
//! that is reset or truncated after the head belongs to a request that the bank accepted.

use std::sync::Arc;

use http::{HeaderMap, Method};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::testbed::payouts::{CancelAnswer, PaymentOrder, StatusAnswer};
use crate::testbed::sim::bank::{Bank, lock};
use crate::testbed::sim::payout_notices::{NoticeConfig, Noticed, announce};
use crate::testbed::sim::reply::Reply;

/// The path of payouts.
const PAYOUTS: &str = "/payouts";
/// Most bytes of an order.
const MAX_ORDER: usize = 64 * 1024;

/// An order, as it is submitted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderBody {
    payout_id: String,
    end_to_end_id: String,
}

/// An answer about an order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderView<'a> {
    end_to_end_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
}

impl<'a> OrderView<'a> {
    const fn of(end_to_end_id: &'a str) -> Self {
        Self { end_to_end_id, status: None, reason: None, result: None }
    }
}

/// What follows the path of payouts in `path`, if it is below it.
pub(crate) fn below(path: &str) -> Option<&str> {
    path.strip_prefix(PAYOUTS).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Responds to a request below the path of payouts; `rest` is what follows it in the path.
pub(crate) async fn respond(
    bank: &Arc<Bank>,
    method: &Method,
    headers: &HeaderMap,
    rest: &str,
    body: Incoming,
) -> Reply {
    let now = bank.clock.now().wall;
    match (method, rest.trim_start_matches('/').split_once('/')) {
        (&Method::POST, None) if rest.trim_matches('/').is_empty() => submit(bank, headers, body, now).await,
        (&Method::GET, None) => status(bank, rest.trim_matches('/'), now),
        (&Method::POST, Some((reference, "cancel"))) => cancel(bank, reference, now),
        _ => Reply::failed(404, "not found"),
    }
}

async fn submit(bank: &Arc<Bank>, headers: &HeaderMap, body: Incoming, now: Timestamp) -> Reply {
    let Ok(body) = axum::body::to_bytes(axum::body::Body::new(body), MAX_ORDER).await else {
        return Reply::failed(400, "the body could not be read");
    };
    let Ok(OrderBody { payout_id, end_to_end_id }) = serde_json::from_slice(&body) else {
        return Reply::failed(400, "payoutId and endToEndId are required");
    };
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return Reply::failed(400, "the header Idempotency-Key is required");
    };
    let order = PaymentOrder { key: key.to_owned(), payout_id, reference: end_to_end_id };
    let (status, notices) = lock(&bank.payouts).submit(&order, now);
    if let Some(notices) = notices {
        let about = Noticed { payout_id: order.payout_id, reference: order.reference.clone() };
        announce_all(bank, notices, about);
    }
    Reply::json(202, &OrderView { status: Some(status.iso()), ..OrderView::of(&order.reference) })
}

/// Says what is configured of an order, until the bank is stopped.
fn announce_all(bank: &Arc<Bank>, notices: NoticeConfig, order: Noticed) {
    let (bank, reference) = (Arc::clone(bank), order.reference.clone());
    tokio::spawn(async move {
        let booked = || lock(&bank.payouts).bank.booked(&reference, bank.clock.now().wall);
        let _stopped = bank.stop.run_until_cancelled(announce(notices, order, bank.clock, booked)).await;
    });
}

fn status(bank: &Bank, reference: &str, now: Timestamp) -> Reply {
    match lock(&bank.payouts).bank.status(reference, now) {
        StatusAnswer::Known(status) => {
            Reply::json(200, &OrderView { status: Some(status.iso()), ..OrderView::of(reference) })
        }
        StatusAnswer::NeverReceived => {
            let view = OrderView { status: Some("RJCT"), reason: Some("AG09"), ..OrderView::of(reference) };
            Reply::json(200, &view)
        }
        StatusAnswer::NotFound => Reply::failed(404, "payout not found"),
    }
}

fn cancel(bank: &Bank, reference: &str, now: Timestamp) -> Reply {
    let mut desk = lock(&bank.payouts);
    let refused = OrderView { result: Some("RJCR"), ..OrderView::of(reference) };
    if !desk.config.cancels {
        return Reply::json(409, &refused);
    }
    match desk.bank.cancel(reference, now) {
        CancelAnswer::Accepted { .. } => {
            Reply::json(200, &OrderView { result: Some("CNCL"), ..OrderView::of(reference) })
        }
        CancelAnswer::Refused => Reply::json(409, &refused),
    }
}
