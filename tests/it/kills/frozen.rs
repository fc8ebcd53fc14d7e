//! A worker that is frozen past its lease, and wakes.

use std::path::Path;
use std::time::Duration;

use super::env::{Engine, KillEnv, is_unlocked};
use super::oracle::assert_exact;
use crate::kit::wait::PATIENCE;

const PAGES: u64 = 60;

/// The rows of every table, as text.
fn contents(file: &Path) -> String {
    let connection = rusqlite::Connection::open(file).unwrap();
    let mut text = String::new();
    for table in ["transactions", "sync_state", "dead_letters", "outbox_event", "raw_payloads", "sync_runs"] {
        let sql = format!("SELECT * FROM {table} ORDER BY 1, 2, 3");
        let mut statement = connection.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells: Vec<_> = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap())).collect();
            text.push_str(&cells.join("|"));
            text.push('\n');
        }
    }
    text
}

async fn writes_nothing_after_waking(engine: Engine) {
    let env = KillEnv::new(engine, PAGES).await;
    let mut frozen = env.start("frozen");
    assert!(frozen.until(|| env.page_requests() >= 10).await, "{}", frozen.stderr());
    loop {
        frozen.signal("STOP");
        // Not in the middle of a transaction: a file has one writer, and a frozen one would block all others.
        let Some(file) = env.ledger.strip_prefix("sqlite:") else { break };
        if is_unlocked(Path::new(file)) {
            break;
        }
        frozen.signal("CONT");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Another holder, until the lease of the frozen one has expired.
    let deadline = env.clock.mono() + 2 * PATIENCE;
    while !env.start("other").exit().await.success() {
        assert!(env.clock.mono() < deadline, "the lease of the frozen worker does not expire");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let before = contents(&env.backup("before.db"));
    frozen.signal("CONT");
    let status = frozen.exit().await;
    assert!(!status.success(), "it lost its lease: {status} {}", frozen.stderr());
    assert!(contents(&env.backup("after.db")) == before, "it wrote after it had lost its lease");
    assert_exact(&env).await;
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_writes_nothing_to_sqlite_after_waking() {
    writes_nothing_after_waking(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_writes_nothing_to_postgresql_after_waking() {
    writes_nothing_after_waking(Engine::Postgres).await;
}
