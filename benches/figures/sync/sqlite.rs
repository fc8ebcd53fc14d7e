//! Rows into an SQLite file, beside a bare loop that writes the same rows with the same keys, indexes and durability.

use std::path::Path;
use std::time::Duration;

use busbar::ledger::{self, LedgerUrl, OpenMode};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::workload::{Extras, PAGE, Workload};
use super::{per_second, rate};
use crate::Figures;
use crate::machine::{self, Bill};
use crate::stats::{Sample, float};

const RUNS: usize = 3;

/// Measures, prints, and returns the median rate, for the comparison with `dlt`.
pub(super) async fn run(figures: &mut Figures, work: &Workload, folder: &Path) -> f64 {
    let (mut rates, mut floors, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (bill, bank_cpu) = (Bill::now(), machine::cpu_seconds(work.banks.pid()));
    for n in 0..RUNS {
        let file = folder.join(format!("ledger-{n}.db"));
        let ledger = ledger::open(&LedgerUrl::Sqlite(file.clone()), OpenMode::Migrate).await.expect("a ledger");
        let took = work.run(&ledger, Extras::PLAIN).await;
        ledger.close().await;
        let floor = bare_loop(&file, &folder.join(format!("floor-{n}.db"))).await;
        rates.push(per_second(work.rows, took));
        floors.push(per_second(work.rows, floor));
        ratios.push(floor.as_secs_f64() / took.as_secs_f64());
    }
    let (rates, floors) = (Sample::new(rates), Sample::new(floors));
    let bank_cpu = (machine::cpu_seconds(work.banks.pid()) - bank_cpu) / float(RUNS);
    println!(
        "SQLite rows per second: {rates} runs of {} rows; a bare loop: {floors}; the bank used {bank_cpu:.2} CPU seconds \
         per run; {}",
        work.rows,
        bill.since()
    );
    figures.figure("sync.sqlite_rows_per_s", rate(&rates), "rows/s");
    figures.figure("sync.sqlite_floor_rows_per_s", rate(&floors), "rows/s");
    figures.figure("sync.sqlite_floor_ratio", format_args!("{:.2}", Sample::new(ratios).median()), "ratio");
    rates.median()
}

/// How long rusqlite alone takes to insert the transactions of `from` into a new ledger, a transaction for each page.
async fn bare_loop(from: &Path, to: &Path) -> Duration {
    ledger::open(&LedgerUrl::Sqlite(to.to_owned()), OpenMode::Migrate).await.expect("a ledger").close().await;
    let source = Connection::open(from).expect("the ledger");
    // In the order in which they were written.
    let rows = all(&source, "SELECT * FROM transactions ORDER BY id");
    let streams = all(&source, "SELECT * FROM streams");
    let mut sink = Connection::open(to).expect("the new ledger");
    sink.execute_batch("PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")
        .expect("settings");
    insert(&sink, "streams", &streams);
    let clock = busbar::clock::Clock::system();
    let began = clock.mono();
    for page in rows.chunks(usize::try_from(PAGE).unwrap_or(usize::MAX)) {
        let transaction = sink.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("BEGIN");
        insert(&transaction, "transactions", page);
        transaction.commit().expect("COMMIT");
    }
    clock.mono().since(began)
}

fn all(connection: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = connection.prepare(sql).expect(sql);
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>();
    statement.query_map([], row).expect(sql).collect::<Result<_, _>>().expect(sql)
}

fn insert(connection: &Connection, table: &str, rows: &[Vec<Value>]) {
    let Some(first) = rows.first() else { return };
    let marks = vec!["?"; first.len()].join(", ");
    let mut statement = connection.prepare_cached(&format!("INSERT INTO {table} VALUES ({marks})")).expect("INSERT");
    for row in rows {
        statement.execute(params_from_iter(row)).expect("INSERT");
    }
}
