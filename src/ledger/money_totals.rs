//! What the stored balances and collaterals are worth, by connection and currency.
//!
//! Sums are exact, and currencies are never added up. Of an account's balances one counts: the one that says most of
//! what can be spent.

use std::collections::BTreeMap;
use std::collections::HashMap;

use rust_decimal::Decimal;

/// What is added up.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MoneyMeasure {
    /// Balances of accounts.
    Balance,
    /// Values of collaterals, before claims and haircut where the provider states that.
    CollateralValue,
}

/// What one connection's records are worth in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneyTotal {
    /// What was added up.
    pub measure: MoneyMeasure,
    /// Namespace of the connection.
    pub namespace: String,
    /// Its name.
    pub connection: String,
    /// ISO 4217, upper case; `unknown` where a collateral names none.
    pub currency: String,
    /// The sum, in units of the currency.
    pub amount: Decimal,
}

/// A stored balance.
#[derive(Clone, Debug)]
pub(super) struct BalanceRow {
    /// Namespace and name of its connection.
    pub(super) owner: Owner,
    /// The stream and partition, and the account in it.
    pub(super) account: (i64, String),
    /// The provider's type.
    pub(super) kind: Option<String>,
    pub(super) currency: String,
    pub(super) amount: Decimal,
    /// When it was so, or was stored: milliseconds.
    pub(super) at: i64,
}

/// Whose records these are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) namespace: String,
    pub(super) connection: String,
}

/// Adds up rows of any order.
#[derive(Debug, Default)]
pub(super) struct MoneyTotals {
    sums: BTreeMap<(MoneyMeasure, Owner, String), Decimal>,
    /// The balance that counts, by account and currency.
    balances: HashMap<(i64, String, String), BalanceRow>,
}

impl MoneyTotals {
    /// Adds a collateral.
    pub(super) fn add_collateral(&mut self, owner: Owner, currency: String, value: Decimal) {
        self.add(MoneyMeasure::CollateralValue, owner, currency, value);
    }

    /// Adds a balance, unless another one of its account says more.
    pub(super) fn add_balance(&mut self, row: BalanceRow) {
        let key = (row.account.0, row.account.1.clone(), row.currency.clone());
        let better = |kept: &BalanceRow| (rank(row.kind.as_deref()), -row.at) < (rank(kept.kind.as_deref()), -kept.at);
        if self.balances.get(&key).is_none_or(better) {
            self.balances.insert(key, row);
        }
    }

    /// The sums.
    pub(super) fn finish(mut self) -> Vec<MoneyTotal> {
        for row in std::mem::take(&mut self.balances).into_values() {
            self.add(MoneyMeasure::Balance, row.owner, row.currency, row.amount);
        }
        let total = |((measure, owner, currency), amount): (_, Decimal)| {
            let Owner { namespace, connection } = owner;
            MoneyTotal { measure, namespace, connection, currency, amount }
        };
        self.sums.into_iter().map(total).collect()
    }

    fn add(&mut self, measure: MoneyMeasure, owner: Owner, currency: String, amount: Decimal) {
        let sum = self.sums.entry((measure, owner, currency)).or_default();
        // Beyond 28 digits a gauge has no use for the rest.
        *sum = sum.saturating_add(amount);
    }
}

/// How much a balance of this type says of what can be spent now: the less, the more. Types as ISO 20022 and open banking
/// name them (`interimAvailable`, `closingBooked`, `ITAV`, `CLBD`), whatever their case.
fn rank(kind: Option<&str>) -> u8 {
    let Some(kind) = kind.map(str::to_ascii_lowercase) else { return 1 };
    if kind.contains("previous") || kind.contains("opening") || matches!(kind.as_str(), "prcd" | "opbd" | "opav") {
        return 4;
    }
    if kind.contains("forward") || kind.contains("expected") || matches!(kind.as_str(), "fwav" | "xpcd") {
        return 3;
    }
    if kind.contains("available") || matches!(kind.as_str(), "itav" | "clav") {
        return 0;
    }
    if kind.contains("limit") || kind.contains("information") { 5 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { namespace: "treasury".into(), connection: "bank".into() }
    }

    fn balance(account: &str, kind: &str, amount: i64, at: i64) -> BalanceRow {
        BalanceRow {
            owner: owner(),
            account: (1, account.into()),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            currency: "EUR".into(),
            amount: amount.into(),
            at,
        }
    }

    #[test]
    fn one_balance_of_an_account_counts_in_any_order() {
        let rows = [
            balance("a", "closingBooked", 100, 5),
            balance("a", "interimAvailable", 90, 5),
            balance("a", "interimAvailable", 80, 4),
            balance("a", "forwardAvailable", 1_000, 9),
            balance("b", "", 7, 1),
            balance("b", "previouslyClosedBooked", 5_000, 9),
        ];
        for rotation in 0..rows.len() {
            let mut totals = MoneyTotals::default();
            for row in rows.iter().cycle().skip(rotation).take(rows.len()) {
                totals.add_balance(row.clone());
            }
            let found = totals.finish();
            assert_eq!(found.iter().map(|t| (t.currency.as_str(), t.amount)).collect::<Vec<_>>(), [("EUR", 97.into())]);
        }
    }

    #[test]
    fn currencies_and_measures_are_not_added_up() {
        let mut totals = MoneyTotals::default();
        totals.add_collateral(owner(), "EUR".into(), 5.into());
        totals.add_collateral(owner(), "EUR".into(), 6.into());
        totals.add_collateral(owner(), "USD".into(), 7.into());
        totals.add_balance(balance("a", "", 1, 1));
        let found: Vec<_> = totals.finish().into_iter().map(|t| (t.measure, t.currency, t.amount)).collect();
        let (balance, value) = (MoneyMeasure::Balance, MoneyMeasure::CollateralValue);
        let wanted = [(balance, "EUR", 1), (value, "EUR", 11), (value, "USD", 7)];
        assert_eq!(found, wanted.map(|(measure, currency, n)| (measure, currency.to_owned(), Decimal::from(n))));
    }
}
