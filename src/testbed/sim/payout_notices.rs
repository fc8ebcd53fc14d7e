//! What a simulated bank says of a payout without being asked: soon or late, once or again, and not always what is in its
//! books. Each notice is posted to a receiver, such as the confirmations of a payout at the operator's gateway.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::clock::Clock;
use crate::testbed::payouts::OrderStatus;

/// The part of a receiver's URL that is replaced by the payout's ID.
const PAYOUT_ID: &str = "{payoutId}";
/// How long a notice is posted until it is accepted.
const LONGEST: Duration = Duration::from_mins(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Until an unanswered try has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the bank says of the orders that arrive from now on, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoticeConfig {
    /// Where notices are posted; `{payoutId}` in it is replaced by the payout's ID.
    pub url: String,
    /// Bearer token of the receiver.
    pub bearer_token: String,
    /// What is said of each order, one after the other.
    #[serde(default)]
    pub says: Vec<Notice>,
}

/// One notice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Notice {
    /// How long after the notice before it, or after the order arrived, in milliseconds.
    pub after_ms: u64,
    /// The ISO 20022 status that it states; unset, what is in the books then.
    pub status: Option<String>,
}

/// The order that a notice is about.
#[derive(Clone, Debug)]
pub(super) struct Noticed {
    pub(super) payout_id: String,
    pub(super) reference: String,
}

/// Says what is configured of an order that has arrived, one notice after the other; `booked` is its status in the books.
pub(super) async fn announce(
    config: NoticeConfig,
    order: Noticed,
    clock: Clock,
    booked: impl Fn() -> Option<OrderStatus> + Send,
) {
    for notice in &config.says {
        clock.sleep_until(clock.mono() + Duration::from_millis(notice.after_ms)).await;
        let status = notice.status.clone().or_else(|| booked().map(|status| status.iso().to_owned()));
        if let Some(status) = status {
            say(&config, &order, clock, &status).await;
        }
    }
}

/// Posts one notice until it is accepted, as banks do; the last status, if there was an answer.
pub(super) async fn say(config: &NoticeConfig, order: &Noticed, clock: Clock, status: &str) -> Option<u16> {
    // A message that is posted again is the same message.
    let message = json!({
        "end_to_end_id": order.reference, "status": status, "reference": Uuid::new_v4().to_string(),
        "confirmed_at": clock.now().wall,
    });
    let url = config.url.replace(PAYOUT_ID, &order.payout_id);
    // The receiver's certificate is of no authority in tests.
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).timeout(PATIENCE);
    let client = client.build().ok()?;
    let (mut answered, until) = (None, clock.mono() + LONGEST);
    while clock.mono() < until {
        let request = client.post(&url).header(CONTENT_TYPE, "application/json").bearer_auth(&config.bearer_token);
        answered = request.body(message.to_string()).send().await.ok().map(|response| response.status().as_u16());
        if answered.is_some_and(|status| (200..300).contains(&status)) {
            break;
        }
        clock.sleep_until(clock.mono() + PAUSE).await;
    }
    answered
}
