//! A record of any of these kinds.

use super::account::AccountRecord;
use super::article::ArticleRecord;
use super::balance::BalanceRecord;
use super::collateral::CollateralRecord;
use super::observation::ObservationRecord;
use super::quote::QuoteRecord;
use super::shape::{CellValue, Column, RecordIdentity, RowShape};

/// A record of any of these kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanonicalRecord {
    /// An account.
    Account(AccountRecord),
    /// A balance of an account.
    Balance(BalanceRecord),
    /// A collateral of a loan.
    Collateral(CollateralRecord),
    /// The price of a security.
    Quote(QuoteRecord),
    /// The value of a series on a day.
    Observation(ObservationRecord),
    /// A news article.
    Article(ArticleRecord),
}

/// A table of canonical records.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its own columns, in the order of [`CanonicalRecord::values`].
    pub columns: &'static [Column],
}

/// All tables.
pub static TABLES: [Table; 6] = [
    Table { name: AccountRecord::TABLE, columns: AccountRecord::COLUMNS },
    Table { name: BalanceRecord::TABLE, columns: BalanceRecord::COLUMNS },
    Table { name: CollateralRecord::TABLE, columns: CollateralRecord::COLUMNS },
    Table { name: QuoteRecord::TABLE, columns: QuoteRecord::COLUMNS },
    Table { name: ObservationRecord::TABLE, columns: ObservationRecord::COLUMNS },
    Table { name: ArticleRecord::TABLE, columns: ArticleRecord::COLUMNS },
];

/// Calls a method of whichever record it is.
macro_rules! each {
    ($record:expr, $one:ident => $call:expr) => {
        match $record {
            CanonicalRecord::Account($one) => $call,
            CanonicalRecord::Balance($one) => $call,
            CanonicalRecord::Collateral($one) => $call,
            CanonicalRecord::Quote($one) => $call,
            CanonicalRecord::Observation($one) => $call,
            CanonicalRecord::Article($one) => $call,
        }
    };
}

impl CanonicalRecord {
    /// The index of its table in [`TABLES`].
    pub const fn table_index(&self) -> usize {
        match self {
            Self::Account(_) => 0,
            Self::Balance(_) => 1,
            Self::Collateral(_) => 2,
            Self::Quote(_) => 3,
            Self::Observation(_) => 4,
            Self::Article(_) => 5,
        }
    }

    /// Its table.
    pub fn table(&self) -> &'static Table {
        &TABLES[self.table_index()]
    }

    /// What identifies it.
    pub fn identity(&self) -> &RecordIdentity {
        each!(self, record => record.identity())
    }

    /// What identifies it, to derive a key.
    pub fn identity_mut(&mut self) -> &mut RecordIdentity {
        each!(self, record => record.identity_mut())
    }

    /// The values, one per column of its table.
    pub fn values(&self) -> Vec<CellValue> {
        each!(self, record => record.values())
    }

    /// Hash of everything except identity.
    pub fn content_hash(&self) -> [u8; 32] {
        each!(self, record => record.content_hash())
    }
}

/// A record that the provider withdrew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemovedKey {
    /// Token of its account; `None` where the provider names none: the key is then that of any account.
    pub account_token: Option<String>,
    /// Its key.
    pub key: String,
}

/// The pending transactions of an account, from a provider that lists all of them each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSnapshot {
    /// Token of the account.
    pub account_token: String,
    /// The keys of all of them: any other that is stored was booked or cancelled since.
    pub keys: Vec<String>,
}
