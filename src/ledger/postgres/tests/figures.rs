//! What a page costs the server.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::store::PostgresStore;
use crate::ledger::contract::{OpenLedger as _, at, commit, row, state, take};
use crate::ledger::page::PageCounts;
use crate::testbed::postgres::PostgresServer;

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    let sql = AssertSqlSafe(format!("SELECT ({sql})::bigint"));
    sqlx::raw_sql(sql).fetch_one(connection).await.unwrap().get(0)
}

#[tokio::test]
async fn unchanged_pages_write_no_row_and_at_most_a_twentieth_of_the_wal() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::start().await.unwrap());
    drop(store);
    let url = server.create_database().await.unwrap();
    let ledger = super::store::open_url(&url, crate::ledger::store::OpenMode::Migrate).await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    let mut watch = server.connect(super::store::database(&url)).await.unwrap();
    let wal = "pg_current_wal_insert_lsn() - '0/0'";
    // Without the first changes of a page after a checkpoint, which are written whole.
    let pages: Vec<Vec<_>> =
        (0..10).map(|page| (0..1_000).map(|n| row(&format!("k{page}-{n}"), n)).collect()).collect();
    let mut lsn = number(&mut watch, wal).await;
    let mut spent = Vec::new();
    for round in 0..2_i64 {
        for (page, rows) in (0..).zip(&pages) {
            let counts = commit(&*ledger, &held, &state(round * 10 + page, "2"), rows).await.unwrap().counts;
            let unchanged = if round == 0 { 0 } else { 1_000 };
            assert_eq!(counts, PageCounts { inserted: 1_000 - unchanged, updated: 0, unchanged });
        }
        let now = number(&mut watch, wal).await;
        spent.push(now - lsn);
        lsn = now;
    }
    assert!(spent[1] * 20 <= spent[0], "bytes of WAL: {spent:?}");
    assert_eq!(number(&mut watch, "SELECT count(*) FROM transactions WHERE xmax <> 0").await, 0, "no row is locked");
    assert_eq!(number(&mut watch, "SELECT count(*) FROM transactions WHERE revision <> 1").await, 0);
}

/// What an index of `transactions` was used for, once the sessions that used it have ended.
async fn index_use(watch: &mut PgConnection, index: &str, what: &str) -> i64 {
    number(watch, &format!("SELECT sum({what}) FROM pg_stat_user_indexes WHERE indexrelname LIKE '{index}'")).await
}

#[tokio::test]
async fn a_page_of_a_first_load_reads_nothing_of_the_pages_before_it() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    // Nothing analyzes the table meanwhile: the planner knows it as it was created.
    server.execute(store.database(), "ALTER TABLE transactions SET (autovacuum_enabled = off)").await.unwrap();
    let pages = 12_i64;
    for page in 0..pages {
        let rows: Vec<_> = (0..100).map(|n| row(&format!("k{page:03}-{n:03}"), n)).collect();
        assert_eq!(commit(&*ledger, &held, &state(page, "2"), &rows).await.unwrap().counts.inserted, 100);
    }
    ledger.close().await;
    let mut watch = server.connect(store.database()).await.unwrap();
    // A session reports its use of indexes with its end, or after ten idle seconds.
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    number(&mut watch, others).await;
    let unique = "transactions_stream_id_account_token%";
    let mut looks = 0;
    for _ in 0..200 {
        looks = index_use(&mut watch, unique, "idx_scan").await;
        if looks >= pages {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(looks >= pages, "a look for each page: {looks}");
    let read = index_use(&mut watch, "transactions%", "idx_tup_read").await;
    assert!(read <= pages, "entries of indexes that were read: {read}");
}
