//! Rows into PostgreSQL, beside COPY of the same rows into the same table, with the server as shipped.

use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::testbed::postgres::PostgresServer;
use sqlx::{PgConnection, Row as _};

use super::workload::{Extras, Workload};
use super::{per_second, rate};
use crate::Figures;
use crate::machine::Bill;
use crate::stats::{Sample, float};

const RUNS: usize = 3;
/// Sent at a time, as `psql` does.
const COPY_CHUNK: usize = 64 * 1024;
/// Tables of records: what an unchanged resync must not write.
const RECORD_TABLES: [&str; 8] =
    ["transactions", "documents", "accounts", "balances", "collaterals", "quotes", "observations", "articles"];

/// Measures, prints, and returns the median rate, for the comparison with `dlt`.
pub(super) async fn run(figures: &mut Figures, work: &Workload) -> f64 {
    let server = PostgresServer::shared().await.expect("a server");
    let (mut loads, mut copies, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut resyncs, mut wal_ratios, mut events, mut tuples) = (Vec::new(), Vec::new(), 0, 0);
    let bill = Bill::now();
    for _ in 0..RUNS {
        let database = Database::create(server, work).await;
        let before = database.wal().await;
        let load = database.run(work, Extras::PLAIN).await;
        let loaded = database.wal().await;
        let copy = copy_rows(server, &database).await;
        loads.push(per_second(work.rows, load));
        copies.push(per_second(work.rows, copy));
        ratios.push(copy.as_secs_f64() / load.as_secs_f64());
        let (events_before, tuples_before) = (database.events().await, database.tuples_written().await);
        let start = database.wal().await;
        let resync = database.resync(work).await;
        wal_ratios.push((database.wal().await - start) / (loaded - before));
        resyncs.push(load.as_secs_f64() / resync.as_secs_f64());
        events += database.events().await - events_before;
        tuples += database.tuples_written().await - tuples_before;
    }
    let (loads, copies) = (Sample::new(loads), Sample::new(copies));
    println!("PostgreSQL rows per second: {loads}; COPY: {copies}; {}", bill.since());
    figures.figure("sync.postgres_rows_per_s", rate(&loads), "rows/s");
    figures.figure("sync.copy_rows_per_s", rate(&copies), "rows/s");
    figures.figure("sync.copy_ratio", format_args!("{:.2}", Sample::new(ratios).median()), "ratio");
    figures.figure("sync.resync_ratio", format_args!("{:.2}", Sample::new(resyncs).median()), "ratio");
    figures.figure("sync.resync_events", events, "events");
    figures.figure("sync.resync_tuples", tuples, "tuples");
    figures.figure("sync.resync_wal_ratio", format_args!("{:.3}", Sample::new(wal_ratios).median()), "ratio");

    let mut full = Vec::new();
    for _ in 0..RUNS {
        let database = Database::create(server, work).await;
        full.push(per_second(work.rows, database.run(work, Extras::FULL).await));
        assert_eq!(database.events().await, i64::try_from(work.rows).unwrap_or(i64::MAX), "an event for each row");
    }
    let full = Sample::new(full);
    println!("with an event for each row and encrypted bodies: {full}");
    figures.figure("sync.postgres_record_events_rows_per_s", rate(&full), "rows/s");
    loads.median()
}

/// A database with the ledger's schema.
struct Database {
    server: &'static PostgresServer,
    url: String,
}

impl Database {
    async fn create(server: &'static PostgresServer, work: &Workload) -> Self {
        let database = Self { server, url: server.create_database().await.expect("a database") };
        // Its schema and the plan of the bank's first response: neither belongs to a load.
        database.open().await.close().await;
        assert!(work.rows > 0);
        database
    }

    async fn open(&self) -> Arc<dyn Ledger> {
        let url: LedgerUrl = self.url.parse().expect("a URL");
        ledger::open(&url, OpenMode::Migrate).await.expect("a ledger")
    }

    async fn connect(&self) -> PgConnection {
        // The driver does not read a URL without a host, as that of a socket is.
        let name = self.url.split_once("@/").and_then(|(_, rest)| rest.split('?').next()).expect("a name");
        self.server.connect(name).await.expect("a connection")
    }

    async fn run(&self, work: &Workload, extras: Extras) -> Duration {
        let ledger = self.open().await;
        let took = work.run(&ledger, extras).await;
        ledger.close().await;
        took
    }

    async fn resync(&self, work: &Workload) -> Duration {
        let ledger = self.open().await;
        let took = work.resync(&ledger, Extras::PLAIN).await;
        ledger.close().await;
        took
    }

    /// Bytes of WAL that the server has written so far.
    async fn wal(&self) -> f64 {
        self.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8").await
    }

    /// Events about records.
    async fn events(&self) -> i64 {
        let sql = "SELECT count(*) FROM outbox_event WHERE type LIKE '%transactions.ingested'";
        let row = sqlx::query(sql).fetch_one(&mut self.connect().await).await.expect("a count");
        row.get(0)
    }

    /// Tuples inserted, updated or deleted in the tables of records, as the server counted them.
    async fn tuples_written(&self) -> i64 {
        let tables: Vec<String> = RECORD_TABLES.iter().map(|table| (*table).to_owned()).collect();
        let sql = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables
                   WHERE relname = ANY($1)";
        let (mut connection, mut last) = (self.connect().await, -1);
        // A process reports its counts a second after it has ended its transactions.
        for _ in 0..20 {
            let row = sqlx::query(sql).bind(&tables).fetch_one(&mut connection).await.expect("statistics");
            let now: i64 = row.get(0);
            if now == last && now > 0 {
                return now;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
            sqlx::query("SELECT pg_stat_clear_snapshot()").execute(&mut connection).await.expect("statistics");
        }
        last
    }

    async fn number(&self, sql: &'static str) -> f64 {
        sqlx::query(sql).fetch_one(&mut self.connect().await).await.expect("a number").get(0)
    }
}

/// How long COPY takes for the rows of `from`, into the same table with the same indexes in a database of its own.
async fn copy_rows(server: &'static PostgresServer, from: &Database) -> Duration {
    let target = Database { server, url: server.create_database().await.expect("a database") };
    target.open().await.close().await;
    let (mut source, mut sink) = (from.connect().await, target.connect().await);
    let streams = copy_out(&mut source, "COPY streams TO STDOUT").await;
    copy_in(&mut sink, "COPY streams FROM STDIN", &streams).await;
    let rows = copy_out(&mut source, "COPY transactions TO STDOUT").await;
    let clock = busbar::clock::Clock::system();
    let began = clock.mono();
    copy_in(&mut sink, "COPY transactions FROM STDIN", &rows).await;
    clock.mono().since(began)
}

async fn copy_out(connection: &mut PgConnection, sql: &str) -> Vec<u8> {
    use futures::TryStreamExt as _;
    let stream = connection.copy_out_raw(sql).await.expect("COPY TO");
    stream
        .try_fold(Vec::new(), async |mut all, part| {
            all.extend_from_slice(&part);
            Ok(all)
        })
        .await
        .expect("COPY TO")
}

async fn copy_in(connection: &mut PgConnection, sql: &str, rows: &[u8]) {
    let mut copy = connection.copy_in_raw(sql).await.expect("COPY FROM");
    for chunk in rows.chunks(COPY_CHUNK) {
        copy.send(chunk).await.expect("COPY FROM");
    }
    let copied = copy.finish().await.expect("COPY FROM");
    assert!(float(usize::try_from(copied).unwrap_or(0)) > 0.0, "nothing was copied");
}
