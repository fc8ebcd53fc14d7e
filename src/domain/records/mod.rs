//! Canonical records other than transactions: accounts, balances, collaterals, quotes, observations and articles.
//!
//! Each is a table of its own, described by [`RowShape`]: an engine builds its SQL from that description and names no
//! kind. Masked before they reach the ledger; decimals are exact; a day is never an instant.

mod account;
mod article;
mod balance;
mod canonical;
mod collateral;
mod observation;
mod quote;
mod shape;

pub use account::AccountRecord;
pub use article::ArticleRecord;
pub use balance::BalanceRecord;
pub use canonical::{CanonicalRecord, PendingSnapshot, RemovedKey, TABLES, Table};
pub use collateral::CollateralRecord;
pub use observation::ObservationRecord;
pub use quote::QuoteRecord;
pub use shape::{CellValue, Column, ColumnKind, RecordIdentity, RowShape};
