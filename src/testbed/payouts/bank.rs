//! A bank that can be paid twice, with books of its own: only they say how often a payout was executed.
//!
//! Pure: instants are arguments, and the caller decides how long the bank takes. It deduplicates by key for its window
//! and forgets the key then; its status is read from a replica that may lag; a cancellation races with the settlement,
//! and by reference it also stops an order that has not arrived yet.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// How a bank behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankHabits {
    /// How long it remembers an idempotency key.
    pub key_window: Duration,
    /// How far its statuses lag behind its books.
    pub lag: Duration,
    /// Whether it answers AG09 for what it does not know, in place of "not found".
    pub answers_never_received: bool,
}

impl Default for BankHabits {
    fn default() -> Self {
        Self { key_window: Duration::from_hours(24), lag: Duration::ZERO, answers_never_received: false }
    }
}

/// An order to pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentOrder {
    /// The idempotency key.
    pub key: String,
    /// The payout that it is for, by which executions are counted.
    pub payout_id: String,
    /// The end-to-end ID.
    pub reference: String,
}

/// What becomes of an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OrderFate {
    /// It settles this long after it arrived.
    Settles(Duration),
    /// It is refused this long after it arrived.
    Refused(Duration),
    /// It settles, and the money comes back, each this long after it arrived.
    Returned(Duration, Duration),
}

/// What the books say of an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Accepted, not executed yet (ACSP).
    Pending,
    /// Executed (ACSC).
    Settled,
    /// Refused (RJCT).
    Refused,
    /// Cancelled before execution (CANC).
    Cancelled,
    /// Executed, and the money came back (pacs.004).
    Returned,
}

impl OrderStatus {
    /// The ISO 20022 status.
    pub const fn iso(self) -> &'static str {
        match self {
            Self::Pending => "ACSP",
            Self::Settled => "ACSC",
            Self::Refused => "RJCT",
            Self::Cancelled => "CANC",
            // A return is a message of its own; `RTND` is what banks' own interfaces call it.
            Self::Returned => "RTND",
        }
    }
}

/// What a status inquiry is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum StatusAnswer {
    /// Known, with this status.
    Known(OrderStatus),
    /// Not found (404).
    NotFound,
    /// Never received (RJCT with AG09).
    NeverReceived,
}

/// What a cancellation is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The order was not executed and never will be. Whether the bank had received it.
    Accepted {
        /// Whether there was an order.
        received: bool,
    },
    /// The order was executed, or refused before.
    Refused,
}

/// An order in the books.
#[derive(Clone, Debug)]
struct BookedOrder {
    order: PaymentOrder,
    received: Timestamp,
    fate: OrderFate,
    cancelled: Option<Timestamp>,
}

impl BookedOrder {
    fn status(&self, now: Timestamp) -> OrderStatus {
        let has_passed = |after: Duration| later(self.received, after) <= now;
        if self.cancelled.is_some_and(|at| at <= now) {
            return OrderStatus::Cancelled;
        }
        match self.fate {
            OrderFate::Returned(_, back) if has_passed(back) => OrderStatus::Returned,
            OrderFate::Settles(after) | OrderFate::Returned(after, _) if has_passed(after) => OrderStatus::Settled,
            OrderFate::Refused(after) if has_passed(after) => OrderStatus::Refused,
            _ => OrderStatus::Pending,
        }
    }
}

/// A bank and its books.
#[derive(Clone, Debug, Default)]
pub struct PayoutBank {
    habits: BankHabits,
    orders: Vec<BookedOrder>,
    /// The last order of a key.
    by_key: HashMap<String, usize>,
    /// The last order of a reference.
    by_reference: HashMap<String, usize>,
    /// References that were cancelled before an order arrived.
    tombstones: HashMap<String, Timestamp>,
}

impl PayoutBank {
    /// A bank with empty books.
    pub fn new(habits: BankHabits) -> Self {
        Self { habits, ..Self::default() }
    }

    /// How it behaves.
    pub const fn habits(&self) -> &BankHabits {
        &self.habits
    }

    /// Receives an order. A key that it remembers is the same order again; one that it has forgotten is a new order. An
    /// order whose reference was cancelled is refused. `fate` is what becomes of it, if it is new.
    pub fn submit(&mut self, order: &PaymentOrder, fate: OrderFate, now: Timestamp) -> OrderStatus {
        if let Some(known) = self.remembered(&order.key, now) {
            return known.status(now);
        }
        if self.tombstones.contains_key(&order.reference) {
            return OrderStatus::Refused;
        }
        let place = self.orders.len();
        self.orders.push(BookedOrder { order: order.clone(), received: now, fate, cancelled: None });
        self.by_key.insert(order.key.clone(), place);
        self.by_reference.insert(order.reference.clone(), place);
        OrderStatus::Pending
    }

    fn remembered(&self, key: &str, now: Timestamp) -> Option<&BookedOrder> {
        let known = self.orders.get(*self.by_key.get(key)?)?;
        (now < later(known.received, self.habits.key_window)).then_some(known)
    }

    /// The status of an order, from a replica that lags.
    pub fn status(&self, reference: &str, now: Timestamp) -> StatusAnswer {
        let seen = now.checked_sub(self.habits.lag).unwrap_or(Timestamp::MIN);
        let known = self.by_reference.get(reference).and_then(|place| self.orders.get(*place));
        match known.filter(|order| order.received <= seen) {
            Some(order) => StatusAnswer::Known(order.status(seen)),
            None if self.habits.answers_never_received => StatusAnswer::NeverReceived,
            None => StatusAnswer::NotFound,
        }
    }

    /// The status of an order by the books themselves.
    pub fn booked(&self, reference: &str, now: Timestamp) -> Option<OrderStatus> {
        let place = self.by_reference.get(reference)?;
        self.orders.get(*place).map(|order| order.status(now))
    }

    /// How many orders it has in its books.
    pub fn order_count(&self) -> usize {
        self.orders.len()
    }

    /// Cancels an order by its reference, in the books themselves. One that arrives later is refused.
    pub fn cancel(&mut self, reference: &str, now: Timestamp) -> CancelAnswer {
        let Some(place) = self.by_reference.get(reference).copied() else {
            self.tombstones.entry(reference.to_owned()).or_insert(now);
            return CancelAnswer::Accepted { received: false };
        };
        let Some(known) = self.orders.get_mut(place) else { return CancelAnswer::Refused };
        match known.status(now) {
            OrderStatus::Pending => {
                known.cancelled = Some(now);
                self.tombstones.entry(reference.to_owned()).or_insert(now);
                CancelAnswer::Accepted { received: true }
            }
            OrderStatus::Cancelled => CancelAnswer::Accepted { received: true },
            OrderStatus::Settled | OrderStatus::Refused | OrderStatus::Returned => CancelAnswer::Refused,
        }
    }

    /// How often a payout is executed by the books at `now`, without what came back.
    pub fn executions(&self, payout_id: &str, now: Timestamp) -> usize {
        let of = self.orders.iter().filter(|booked| booked.order.payout_id == payout_id);
        of.filter(|booked| booked.status(now) == OrderStatus::Settled).count()
    }

    /// Every payout that is executed more than once by the books at `now`.
    pub fn paid_twice(&self, now: Timestamp) -> Vec<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for booked in self.orders.iter().filter(|booked| booked.status(now) == OrderStatus::Settled) {
            *counts.entry(&booked.order.payout_id).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(payout, _)| payout.to_owned()).collect()
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: OrderFate = OrderFate::Settles(Duration::from_secs(10));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn order() -> PaymentOrder {
        PaymentOrder { key: "k".to_owned(), payout_id: "p".to_owned(), reference: "r".to_owned() }
    }

    fn bank(key_window: u64, lag: u64) -> PayoutBank {
        let (key_window, lag) = (Duration::from_secs(key_window), Duration::from_secs(lag));
        PayoutBank::new(BankHabits { key_window, lag, ..BankHabits::default() })
    }

    #[test]
    fn a_key_is_one_order_within_the_window_and_a_second_one_after_it() {
        let mut bank = bank(60, 0);
        assert_eq!(bank.submit(&order(), SOON, at(0)), OrderStatus::Pending);
        assert_eq!(bank.submit(&order(), SOON, at(59)), OrderStatus::Settled);
        assert_eq!(bank.executions("p", at(59)), 1);
        bank.submit(&order(), SOON, at(60));
        assert_eq!((bank.executions("p", at(70)), bank.paid_twice(at(70))), (2, vec!["p".to_owned()]));
    }

    #[test]
    fn a_lagging_replica_does_not_know_what_is_settled() {
        let mut bank = bank(60, 300);
        bank.submit(&order(), SOON, at(0));
        assert_eq!(bank.status("r", at(299)), StatusAnswer::NotFound);
        assert_eq!(bank.status("r", at(300)), StatusAnswer::Known(OrderStatus::Pending));
        assert_eq!(bank.status("r", at(310)), StatusAnswer::Known(OrderStatus::Settled));
    }

    #[test]
    fn a_cancellation_races_with_the_settlement_and_stops_an_order_to_come() {
        let mut early = bank(60, 0);
        early.submit(&order(), SOON, at(0));
        assert_eq!(early.cancel("r", at(9)), CancelAnswer::Accepted { received: true });
        assert_eq!(early.executions("p", at(99)), 0);
        let mut late = bank(60, 0);
        late.submit(&order(), SOON, at(0));
        assert_eq!(late.cancel("r", at(10)), CancelAnswer::Refused);
        let mut before = bank(60, 0);
        assert_eq!(before.cancel("r", at(0)), CancelAnswer::Accepted { received: false });
        assert_eq!(before.submit(&order(), SOON, at(1)), OrderStatus::Refused);
        assert_eq!(before.executions("p", at(99)), 0);
    }

    #[test]
    fn money_that_came_back_is_no_execution() {
        let mut bank = bank(60, 0);
        bank.submit(&order(), OrderFate::Returned(Duration::from_secs(5), Duration::from_secs(50)), at(0));
        assert_eq!((bank.executions("p", at(49)), bank.executions("p", at(50))), (1, 0));
    }
}
