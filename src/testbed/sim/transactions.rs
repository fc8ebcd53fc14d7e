//! The transactions of an account: any number, generated from a seed on request, not stored.
//!
//! Number 0 is the oldest; each is one spacing later than the one before. Lists are newest first, as at Mono. Added and
//! changed transactions are stored separately and merged in, so the cost of a page depends on its size and on what was
//! added, not on the size of the account.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp, Unit, Zoned, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::testbed::sim::random::mix;

/// Configuration of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccountConfig {
    /// Id in the path.
    pub id: String,
    /// Currency in the account details; Mono's transactions have none.
    pub currency: String,
    /// Number of generated transactions.
    pub transactions: u64,
    /// Seconds between two generated transactions.
    pub spacing_seconds: u32,
    /// Date of the newest generated transaction; defaults to the creation of the account.
    pub newest: Option<Timestamp>,
    /// Seed of the generated data.
    pub seed: u64,
}

impl Default for AccountConfig {
    fn default() -> Self {
        Self {
            id: "acc-1".to_owned(),
            currency: "ngn".to_owned(),
            transactions: 120,
            spacing_seconds: 3_600,
            newest: None,
            seed: 1,
        }
    }
}

impl AccountConfig {
    /// An account with this id and this number of transactions.
    pub fn new(id: impl Into<String>, transactions: u64) -> Self {
        Self { id: id.into(), transactions, ..Self::default() }
    }
}

/// Direction of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Money out.
    Debit,
    /// Money in.
    Credit,
}

/// One transaction in Mono's format: the amount is in minor units and unsigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Unique id; 24 hex digits for generated ones.
    pub id: String,
    /// Free text.
    pub narration: String,
    /// Minor units (kobo, pesewa, cents), never negative.
    pub amount: i64,
    /// The direction, which gives the sign.
    #[serde(rename = "type")]
    pub direction: Direction,
    /// Balance after the transaction, minor units. Generated ones are not consistent with the amounts.
    pub balance: i64,
    /// Booking date.
    pub date: Timestamp,
    /// The provider's category, often empty.
    #[serde(default)]
    pub category: Option<String>,
}

/// An account and its transactions.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) config: AccountConfig,
    newest: Timestamp,
    /// Added ones, newest first.
    added: Vec<Transaction>,
    /// Replacements of generated ones, by number.
    changed: HashMap<u64, Transaction>,
}

/// A range of whole UTC days, inclusive.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct DateRange {
    pub(crate) start: Option<Date>,
    pub(crate) end: Option<Date>,
}

impl Account {
    pub(crate) fn new(config: AccountConfig, now: Timestamp) -> Self {
        let newest = config.newest.unwrap_or(now);
        // Whole seconds: providers print milliseconds at most, and the fraction of the current time would be noise in
        // every row.
        let newest = newest.round(Unit::Second).unwrap_or(newest);
        Self { config, newest, added: Vec::new(), changed: HashMap::new() }
    }

    /// Adds transactions; one with the id of an existing one replaces it (a generated one keeps its date).
    pub(crate) fn upsert(&mut self, transactions: Vec<Transaction>) {
        for t in transactions {
            if let Some(number) = self.number_of(&t.id) {
                self.changed.insert(number, Transaction { date: self.date(number), ..t });
                continue;
            }
            self.added.retain(|old| old.id != t.id);
            let index = self.added.partition_point(|old| old.date > t.date);
            self.added.insert(index, t);
        }
    }

    /// Discards added and changed transactions.
    pub(crate) fn reset(&mut self) {
        self.added.clear();
        self.changed.clear();
    }

    /// The number of transactions in `range`, and those after the first `skip`, newest first, at most `take`.
    pub(crate) fn page(&self, range: DateRange, skip: u64, take: u64) -> (u64, Vec<Transaction>) {
        let (from, to) = range.instants();
        // Generated ones in the range have the numbers low..high.
        let (low, high) = (self.first_at_or_after(from), self.first_at_or_after(to));
        let generated = high.saturating_sub(low);
        let first = self.added.partition_point(|t| t.date >= to);
        let last = self.added.partition_point(|t| t.date >= from);
        let added = self.added.get(first..last).unwrap_or_default();
        let total = generated + added.len() as u64;
        // Rank of each added one in the merged list: the added ones before it and the generated ones newer than it.
        let ranks: Vec<u64> =
            (0u64..).zip(added).map(|(i, t)| i + high - self.first_at_or_after(t.date).clamp(low, high)).collect();
        let rows = (skip..total.min(skip.saturating_add(take))).filter_map(|rank| match ranks.binary_search(&rank) {
            Ok(i) => added.get(i).cloned(),
            Err(before) => Some(self.generated((high + before as u64).checked_sub(rank + 1)?)),
        });
        (total, rows.collect())
    }

    fn generated(&self, number: u64) -> Transaction {
        if let Some(changed) = self.changed.get(&number) {
            return changed.clone();
        }
        let draw = mix(self.config.seed ^ mix(number));
        let amount = |word: u64, upto: u64| i64::try_from(word % upto).unwrap_or(0);
        let (narration, category) = match draw % 5 {
            0 => ("POS PURCHASE MARKET", Some("groceries")),
            1 => ("TRANSFER TO SAVINGS", Some("transfer")),
            2 => ("SALARY", Some("income")),
            3 => ("AIRTIME", None),
            _ => ("BANK CHARGES", Some("bank_charges")),
        };
        Transaction {
            id: format!("{}{number:016x}", self.prefix()),
            narration: format!("{narration} {number}"),
            amount: amount(draw >> 8, 50_000_000) + 1,
            direction: if draw % 5 == 2 { Direction::Credit } else { Direction::Debit },
            balance: amount(mix(draw), 1_000_000_000),
            date: self.date(number),
            category: category.map(str::to_owned),
        }
    }

    fn prefix(&self) -> String {
        let hash = self.config.id.bytes().fold(self.config.seed, |h, b| mix(h ^ u64::from(b)));
        format!("{:08x}", hash >> 32)
    }

    fn number_of(&self, id: &str) -> Option<u64> {
        let digits = id.strip_prefix(&self.prefix()).filter(|d| d.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().filter(|n| *n < self.config.transactions)
    }

    fn spacing(&self) -> i64 {
        i64::from(self.config.spacing_seconds.max(1))
    }

    fn oldest(&self) -> i64 {
        let steps = i64::try_from(self.config.transactions.saturating_sub(1)).unwrap_or(i64::MAX);
        self.newest.as_second().saturating_sub(steps.saturating_mul(self.spacing()))
    }

    fn date(&self, number: u64) -> Timestamp {
        let seconds = i64::try_from(number).unwrap_or(i64::MAX).saturating_mul(self.spacing());
        Timestamp::from_second(self.oldest().saturating_add(seconds)).unwrap_or(Timestamp::MIN)
    }

    /// The lowest number whose date is not before `at`; the number of transactions if there is none.
    fn first_at_or_after(&self, at: Timestamp) -> u64 {
        // A fraction of a second rounds up: whole-second dates before it are before it.
        let second = at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0));
        let distance = second.saturating_sub(self.oldest());
        let steps = distance.div_euclid(self.spacing()) + i64::from(distance.rem_euclid(self.spacing()) > 0);
        u64::try_from(steps).unwrap_or(0).min(self.config.transactions)
    }
}

impl DateRange {
    /// From the start of the first day to the start of the day after the last.
    fn instants(self) -> (Timestamp, Timestamp) {
        let midnight = |d: Date| d.to_zoned(TimeZone::UTC).ok().as_ref().map(Zoned::timestamp);
        let from = self.start.and_then(midnight).unwrap_or(Timestamp::MIN);
        let day = SignedDuration::from_hours(24);
        let to = self.end.and_then(midnight).and_then(|t| t.checked_add(day).ok()).unwrap_or(Timestamp::MAX);
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(transactions: u64) -> Account {
        let config = AccountConfig {
            transactions,
            newest: Some("2026-03-10T12:00:00Z".parse().unwrap()),
            ..AccountConfig::new("acc-1", transactions)
        };
        Account::new(config, Timestamp::UNIX_EPOCH)
    }

    fn added(id: &str, date: &str) -> Transaction {
        Transaction {
            id: id.to_owned(),
            narration: "added".to_owned(),
            amount: 1,
            direction: Direction::Credit,
            balance: 0,
            date: date.parse().unwrap(),
            category: None,
        }
    }

    fn all(account: &Account) -> Vec<Transaction> {
        account.page(DateRange::default(), 0, u64::MAX).1
    }

    #[test]
    fn pages_concatenate_to_the_whole_list() {
        let mut account = account(1_000);
        account.upsert(vec![
            added("mid", "2026-03-01T00:30:00Z"),
            added("new", "2026-03-11T00:00:00Z"),
            added("old", "2020-01-01T00:00:00Z"),
            added("same", "2026-03-10T11:00:00Z"),
        ]);
        let whole = all(&account);
        assert_eq!(whole.len(), 1_004);
        assert!(whole.windows(2).all(|w| w[0].date >= w[1].date));
        assert_eq!((whole[0].id.as_str(), whole[1_003].id.as_str()), ("new", "old"));
        let pages: Vec<_> = (0..)
            .map(|p| account.page(DateRange::default(), p * 7, 7).1)
            .take_while(|p| !p.is_empty())
            .flatten()
            .collect();
        assert_eq!(pages, whole);
        let ids: std::collections::HashSet<_> = whole.iter().map(|t| &t.id).collect();
        assert_eq!(ids.len(), 1_004);
    }

    #[test]
    fn a_date_range_is_whole_days_and_inclusive() {
        let mut account = account(200);
        account.upsert(vec![added("edge", "2026-03-08T23:59:59.5Z"), added("out", "2026-03-09T00:00:00Z")]);
        let day = |d| Some(jiff::civil::date(2026, 3, d));
        let (total, rows) = account.page(DateRange { start: day(7), end: day(8) }, 0, 100);
        assert_eq!(total, 49);
        assert_eq!(rows.len(), 49);
        assert_eq!(rows[0].id, "edge");
        assert_eq!(rows[1].date.to_string(), "2026-03-08T23:00:00Z");
        assert_eq!(rows[48].date.to_string(), "2026-03-07T00:00:00Z");
    }

    #[test]
    fn one_seed_gives_the_same_data_and_a_change_keeps_its_place() {
        let mut account = account(50);
        let before = all(&account);
        assert_eq!(before, all(&self::account(50)));
        let changed = Transaction { amount: 77, date: Timestamp::UNIX_EPOCH, ..before[10].clone() };
        account.upsert(vec![changed]);
        let after = all(&account);
        assert_eq!((after[10].amount, after[10].date), (77, before[10].date));
        account.reset();
        assert_eq!(all(&account), before);
    }

    #[test]
    fn a_page_of_a_million_transactions_is_cheap() {
        let account = account(1_000_000);
        let (total, rows) = account.page(DateRange::default(), 999_990, 50);
        assert_eq!((total, rows.len()), (1_000_000, 10));
        assert!(account.page(DateRange::default(), 2_000_000, 50).1.is_empty());
    }
}
