//! The rows of a stream as a ledger stores them, for comparison and for samples.

use std::collections::BTreeMap;

use super::error::SyncError;
use crate::domain::record::TransactionRecord;
use crate::domain::row_batch::tables;
use crate::ledger::Ledger;
use crate::ledger::record::TransactionFilter;
use crate::settings::sync_plan::SyncPlan;

/// The table whose rows are read by their days.
const TRANSACTIONS: &str = "transactions";
/// Most rows of a kind that are read.
const MAX_ROWS: u32 = 100_000;

/// What identifies a row: table, partition, account and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) table: &'static str,
    pub(super) partition: String,
    account: String,
    pub(super) key: String,
}

/// The content of a row.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Transaction(Box<TransactionRecord>),
    /// The hash of any other record.
    Record(Vec<u8>),
}

impl Content {
    /// Whether storing `self` over `other` would change nothing.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Transaction(one), Self::Transaction(other)) => one.has_content_of(other),
            (Self::Record(one), Self::Record(other)) => one == other,
            _ => false,
        }
    }
}

/// The rows of a stream.
#[derive(Default)]
pub(super) struct Rows(pub(super) BTreeMap<RowKey, Content>);

/// How the rows of one table differ from those of another ledger.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) new: u64,
    pub(super) changed: u64,
    pub(super) same: u64,
}

impl Rows {
    /// The rows of a stream. `like` bounds what is read to the days of its transactions.
    pub(super) async fn read(
        ledger: &dyn Ledger,
        filter: &TransactionFilter,
        like: Option<&Self>,
    ) -> Result<Self, SyncError> {
        let mut rows = BTreeMap::new();
        let filter = &like.map_or_else(|| filter.clone(), |like| like.within_days(filter));
        for stored in ledger.list_transactions(filter, MAX_ROWS).await? {
            let record = stored.record;
            let (account, key) = (record.account_token.clone(), record.key.clone());
            let id = RowKey { table: TRANSACTIONS, partition: stored.partition, account, key };
            rows.insert(id, Content::Transaction(Box::new(record)));
        }
        for table in tables().filter(|table| table.name != TRANSACTIONS) {
            for stored in ledger.newest_records(table, filter, MAX_ROWS).await? {
                let Some(row) = stored.record.row(0).filter(|_| stored.deleted.is_none()) else { continue };
                let (account, key) = (row.account_token().to_owned(), row.key().to_owned());
                let id = RowKey { table: table.name, partition: stored.partition.clone(), account, key };
                rows.insert(id, Content::Record(row.hash().to_vec()));
            }
        }
        Ok(Self(rows))
    }

    /// How these rows differ from `stored`, by table.
    pub(super) fn compared_to(&self, stored: &Self) -> BTreeMap<&'static str, Difference> {
        let mut tables = BTreeMap::<_, Difference>::new();
        for (key, content) in &self.0 {
            let table = tables.entry(key.table).or_default();
            match stored.0.get(key) {
                None => table.new += 1,
                Some(other) if content.is_like(other) => table.same += 1,
                Some(_) => table.changed += 1,
            }
        }
        tables
    }

    fn within_days(&self, filter: &TransactionFilter) -> TransactionFilter {
        let days = || {
            self.0.values().filter_map(|content| match content {
                Content::Transaction(record) => Some(record.booked.on),
                Content::Record(_) => None,
            })
        };
        TransactionFilter { from: days().min(), to: days().max(), ..filter.clone() }
    }
}

/// The rows of the plan's stream.
pub(super) fn filter_of(plan: &SyncPlan) -> TransactionFilter {
    TransactionFilter {
        namespace: Some(plan.job.namespace.to_string()),
        connection: Some(plan.connection.clone()),
        stream: Some(plan.stream_name.clone()),
        ..TransactionFilter::default()
    }
}
