//! The records of one kind.

use crate::app::error::AppError;
use crate::app::table::{left, right, second, table};
use crate::domain::records::{ColumnKind, TABLES};
use crate::domain::row_batch::{Cell, RowView};
use crate::ledger::Ledger;
use crate::ledger::queries::StoredRecord;
use crate::ledger::record::TransactionFilter;

/// What is printed for the records of a table.
pub(super) async fn text(
    ledger: &dyn Ledger,
    name: &str,
    filter: &TransactionFilter,
    limit: u32,
) -> Result<String, AppError> {
    let Some(table) = TABLES.iter().find(|table| table.name == name) else { return Ok(String::new()) };
    let rows = ledger.newest_records(table, filter, limit).await?;
    let total = ledger.count_records(table, filter).await?;
    let current = rows.iter().filter(|row| row.deleted.is_none()).count();
    Ok(format!("{}{current} of {total} {name}\n", lines(&rows)))
}

pub(super) fn lines(rows: &[StoredRecord]) -> String {
    let columns = [
        left("CONNECTION"),
        left("STREAM"),
        left("PARTITION"),
        left("KEY"),
        left("CHANGED"),
        right("REVISION"),
        left("WITHDRAWN"),
        left("RECORD"),
    ];
    let cells = rows.iter().filter_map(|row| {
        let record = row.record.row(0)?;
        Some([
            format!("{}/{}", row.namespace, row.connection),
            row.stream.clone(),
            row.partition.clone(),
            record.key().to_owned(),
            second(row.updated),
            row.revision.to_string(),
            row.deleted.map(second).unwrap_or_default(),
            values(record),
        ])
    });
    table(columns, cells)
}

/// The values of a record, but for what says a time in another way than its text.
fn values(record: RowView<'_>) -> String {
    let times: Vec<&str> =
        record.table().columns.iter().filter_map(|column| column.name.strip_suffix("_text")).collect();
    let is_of_time = |name: &str| {
        name == "granularity"
            || ["_on", "_ms"].iter().filter_map(|end| name.strip_suffix(end)).any(|stem| times.contains(&stem))
    };
    let shown = record.cells().filter(|(column, _)| !is_of_time(column.name)).filter_map(|(column, cell)| {
        let name = column.name.strip_suffix("_text").unwrap_or(column.name);
        match (column.kind, cell) {
            (_, Cell::Null) => None,
            (ColumnKind::Json, Cell::Text(json)) => Some(json.to_owned()),
            (_, Cell::Text(text)) => Some(format!("{name}={text}")),
            (_, Cell::Integer(number)) => Some(format!("{name}={number}")),
        }
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::record::{BookingTime, Granularity, KeyQuality};
    use crate::domain::records::{BalanceRecord, CanonicalRecord, RecordIdentity};
    use crate::domain::row_batch::RowBatch;

    #[test]
    fn a_record_is_one_line_with_every_digit_and_its_time_once() {
        let balance = CanonicalRecord::Balance(BalanceRecord {
            identity: RecordIdentity {
                account_token: "t".into(),
                key: "acc-1\u{1b}[2J".into(),
                key_quality: KeyQuality::Provider,
            },
            account: "****1234".into(),
            kind: None,
            amount: "12345678901234567.89".parse().unwrap(),
            amount_minor: 1_234_567_890_123_456_789,
            currency: "EUR".into(),
            time: Some(BookingTime {
                on: jiff::civil::date(2026, 9, 1),
                at: Some(Timestamp::UNIX_EPOCH),
                text: "2026-09-01T10:00:00Z".into(),
                granularity: Granularity::Instant,
            }),
        });
        let stored = StoredRecord {
            namespace: "team".into(),
            connection: "bank-a".into(),
            stream: "balances".into(),
            partition: String::new(),
            record: RowBatch::of_records(&[balance]).remove(0),
            revision: 3,
            raw_ref: None,
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
            deleted: Some(Timestamp::UNIX_EPOCH),
        };
        let printed = lines(&[stored]);
        assert_eq!(printed.lines().count(), 2);
        let line = printed.lines().nth(1).unwrap();
        for part in [
            "team/bank-a",
            "acc-1\\u{1b}[2J",
            "account=****1234 amount=12345678901234567.89 amount_minor=1234567890123456789 currency=EUR",
            "as_of=2026-09-01T10:00:00Z",
            "1970-01-01T00:00:00Z",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("granularity") && !line.contains("as_of_ms"), "{line}");
    }
}
