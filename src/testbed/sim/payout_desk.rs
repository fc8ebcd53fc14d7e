//! How a simulated bank handles payouts, and its books. Only they say how often it executed a payout: it can be paid
//! twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::testbed::payouts::{BankHabits, OrderFate, OrderStatus, PaymentOrder, PayoutBank};
use crate::testbed::sim::payout_notices::NoticeConfig;

/// How a simulated bank handles payouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PayoutConfig {
    /// How long it remembers an idempotency key, in milliseconds; the same key is another order after that.
    pub key_window_ms: u64,
    /// How far the statuses that it answers lag behind its books, in milliseconds.
    pub lag_ms: u64,
    /// Whether it answers AG09 (never received) for what it does not know, in place of 404.
    pub answers_never_received: bool,
    /// What becomes of the orders that arrive from now on.
    pub fate: PayoutFate,
    /// How long that takes, in milliseconds.
    pub after_ms: u64,
    /// Whether the bank can cancel; otherwise it refuses each cancellation.
    pub cancels: bool,
    /// What it says of the orders that arrive from now on without being asked.
    pub notices: Option<NoticeConfig>,
}

impl Default for PayoutConfig {
    fn default() -> Self {
        Self {
            key_window_ms: 24 * 60 * 60 * 1000,
            lag_ms: 0,
            answers_never_received: false,
            fate: PayoutFate::Settles,
            after_ms: 0,
            cancels: true,
            notices: None,
        }
    }
}

/// What becomes of an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PayoutFate {
    /// It is executed.
    Settles,
    /// It is refused.
    Refused,
    /// It is executed at once, and the money comes back.
    Returned,
}

impl PayoutConfig {
    fn fate(&self) -> OrderFate {
        let after = Duration::from_millis(self.after_ms);
        match self.fate {
            PayoutFate::Settles => OrderFate::Settles(after),
            PayoutFate::Refused => OrderFate::Refused(after),
            PayoutFate::Returned => OrderFate::Returned(Duration::ZERO, after),
        }
    }

    fn habits(&self) -> BankHabits {
        BankHabits {
            answers_never_received: self.answers_never_received,
            key_window: Duration::from_millis(self.key_window_ms),
            lag: Duration::from_millis(self.lag_ms),
        }
    }
}

/// What the books of a bank say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayoutBooks {
    /// How often each payout was executed, without what came back; payouts that were never ordered are not there.
    pub executions: BTreeMap<String, usize>,
    /// The payouts that were executed more than once.
    pub paid_twice: Vec<String>,
}

/// The bank behind the port.
pub(crate) struct PayoutDesk {
    pub(super) bank: PayoutBank,
    pub(super) config: PayoutConfig,
    ordered: BTreeSet<String>,
}

impl PayoutDesk {
    pub(crate) fn new(config: &PayoutConfig) -> Self {
        Self { bank: PayoutBank::new(config.habits()), config: config.clone(), ordered: BTreeSet::new() }
    }

    /// Changes what becomes of the orders that arrive from now on. Its memory of keys and its lag stay.
    pub(crate) fn configure(&mut self, config: PayoutConfig) {
        self.config = config;
    }

    /// What the books say at `now`.
    pub(crate) fn books(&self, now: Timestamp) -> PayoutBooks {
        let count = |payout: &String| (payout.clone(), self.bank.executions(payout, now));
        PayoutBooks { executions: self.ordered.iter().map(count).collect(), paid_twice: self.bank.paid_twice(now) }
    }

    /// The status of the order, and what is said of it if it is a new one.
    pub(super) fn submit(&mut self, order: &PaymentOrder, now: Timestamp) -> (OrderStatus, Option<NoticeConfig>) {
        self.ordered.insert(order.payout_id.clone());
        let before = self.bank.order_count();
        let status = self.bank.submit(order, self.config.fate(), now);
        let is_new = self.bank.order_count() > before;
        (status, self.config.notices.clone().filter(|_| is_new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(config: &PayoutConfig) -> PayoutDesk {
        PayoutDesk::new(config)
    }

    fn order(key: &str) -> PaymentOrder {
        PaymentOrder { key: key.to_owned(), payout_id: "p1".to_owned(), reference: "BB1".to_owned() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn the_books_count_what_was_executed_and_name_what_was_paid_twice() {
        let mut desk = desk(&PayoutConfig { key_window_ms: 60_000, ..PayoutConfig::default() });
        desk.submit(&order("k"), at(0));
        desk.submit(&order("k"), at(59));
        assert_eq!(desk.books(at(59)).executions["p1"], 1, "the same key within the window");
        desk.submit(&order("k"), at(60));
        let books = desk.books(at(60));
        assert_eq!((books.executions["p1"], books.paid_twice), (2, vec!["p1".to_owned()]));
    }

    #[test]
    fn an_order_that_is_refused_or_returned_is_no_execution() {
        for fate in [PayoutFate::Refused, PayoutFate::Returned] {
            let mut desk = desk(&PayoutConfig { fate, ..PayoutConfig::default() });
            desk.submit(&order("k"), at(0));
            assert_eq!(desk.books(at(1)).executions["p1"], 0, "{fate:?}");
        }
    }
}
