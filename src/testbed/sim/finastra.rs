//! Finastra's B2B collaterals API: a list paged by offset, and a single item by id.

use serde_json::{Value, json};

use crate::testbed::sim::random::mix;
use crate::testbed::sim::reply::{Reply, param};

/// Path of the collection.
pub(crate) const COLLATERALS: &str = "/total-lending/collaterals/b2b/v2/collaterals";

/// Finastra's maximum page size.
const MAX_PAGE_SIZE: u64 = 100;

/// `GET …/collaterals?startingIndex&pageSize`.
pub(crate) fn list(total: u64, seed: u64, query: Option<&str>) -> Reply {
    let number = |name: &str, default: u64| param(query, name).map_or(Ok(default), |v| v.parse::<u64>());
    let (Ok(offset), Ok(limit)) = (number("startingIndex", 0), number("pageSize", 50)) else {
        return problem(400, "startingIndex and pageSize must be whole numbers");
    };
    if !(1..=MAX_PAGE_SIZE).contains(&limit) {
        return problem(400, "pageSize must be 1 to 100");
    }
    let items: Vec<_> = (offset..total.min(offset.saturating_add(limit))).map(|i| item(i, seed)).collect();
    let meta = json!({"limit": limit, "offset": offset, "itemCount": items.len(), "totalCount": total});
    Reply::json(200, &json!({"items": items, "_meta": meta}))
}

/// `GET …/collaterals/{id}`.
pub(crate) fn item_by_id(total: u64, seed: u64, id: &str) -> Reply {
    let number = id.strip_prefix("COL-").and_then(|n| n.parse::<u64>().ok()).filter(|n| *n < total);
    number.map_or_else(|| problem(404, "collateral not found"), |n| Reply::json(200, &item(n, seed)))
}

fn item(number: u64, seed: u64) -> Value {
    let cents = mix(seed ^ mix(number)) % 1_000_000_000;
    // Finastra's amounts are JSON numbers. They are formatted from integers, so that no float rounds them.
    let money = |cents: u64| {
        serde_json::from_str::<serde_json::Number>(&format!("{}.{:02}", cents / 100, cents % 100))
            .map_or(Value::Null, Value::Number)
    };
    json!({
        "id": format!("COL-{number:08}"),
        "estimatedValue": money(cents),
        "netCollateralAmount": money(cents / 10 * 9),
        "discountedNetCollateralAmount": money(cents / 10 * 8),
    })
}

fn problem(status: u16, detail: &str) -> Reply {
    let mut reply =
        Reply::json(status, &json!({"type": "about:blank", "title": "Error", "status": status, "detail": detail}));
    reply.content_type = "application/problem+json";
    reply
}
