//! Ledgers that were written to without the operator: the verification names the first bad record and why.

use busbar::ledger::{self, LedgerUrl, OpenMode};
use busbar::routing::audit::verify;
use busbar::testbed::postgres::PostgresServer;

use super::env::{Engine, audit, decide_into, follow};

/// Decisions of a ledger; with the outcome and the second attempt it has two records more.
const PAYOUTS: usize = 6;

/// A change of a ledger, and what the verification says of it.
struct Tampering {
    what: &'static str,
    /// Statements; `{replace:FROM:TO}` stands for the body with a text replaced.
    sql: &'static str,
    record: u64,
    says: &'static str,
}

const fn tampering(what: &'static str, sql: &'static str, record: u64, says: &'static str) -> Tampering {
    Tampering { what, sql, record, says }
}

const TAMPERINGS: &[Tampering] = &[
    tampering(
        "another bank in a body",
        "UPDATE decision_log SET body = {replace:bank-a:bank-b} WHERE seq = 3",
        3,
        "changed: it does not match its hash",
    ),
    tampering(
        "another amount in a body",
        "UPDATE decision_log SET body = {replace:1250:1251} WHERE seq = 2",
        2,
        "changed: it does not match its hash",
    ),
    tampering(
        "another hash",
        "UPDATE decision_log SET hash = (SELECT hash FROM decision_log WHERE seq = 1) WHERE seq = 5",
        5,
        "changed: it does not match its hash",
    ),
    tampering("a row removed", "DELETE FROM decision_log WHERE seq = 4", 4, "missing: it was removed"),
    tampering("the first row removed", "DELETE FROM decision_log WHERE seq = 1", 1, "missing: the records before"),
    tampering("the last row removed", "DELETE FROM decision_log WHERE seq = 8", 8, "missing: the chain ends"),
    tampering("all rows removed", "DELETE FROM decision_log", 1, "missing: the chain ends"),
    tampering(
        "two rows swapped",
        "UPDATE decision_log SET seq = -1 WHERE seq = 2; UPDATE decision_log SET seq = 2 WHERE seq = 5;
         UPDATE decision_log SET seq = 5 WHERE seq = -1",
        2,
        "changed: it does not match its hash, or was swapped",
    ),
    tampering(
        "an outcome's class",
        "UPDATE decision_log SET body = {replace:not_sent:rejected} WHERE seq = 7",
        7,
        "changed: it does not match its hash",
    ),
    tampering(
        "the bank in a column",
        "UPDATE decision_log SET candidate = 'bank-c' WHERE seq = 6",
        6,
        "changed: its column candidate",
    ),
    tampering(
        "the payout in a column",
        "UPDATE decision_log SET payout_id = 'payout-99' WHERE seq = 4",
        4,
        "changed: its column payout_id",
    ),
    tampering(
        "the route in a column",
        "UPDATE decision_log SET route = 'other' WHERE seq = 3",
        3,
        "changed: its column route",
    ),
    tampering(
        "the decision of an outcome",
        "UPDATE decision_log SET about = (SELECT id FROM decision_log WHERE seq = 2) WHERE seq = 7",
        7,
        "changed: its column about",
    ),
    tampering(
        "a kind that does not exist",
        "UPDATE decision_log SET kind = 'decisiom' WHERE seq = 2",
        2,
        "changed: its column kind",
    ),
    tampering("an outcome made a decision", "UPDATE decision_log SET kind = 'decision' WHERE seq = 7", 7, "changed: "),
    tampering(
        "a fee in a snapshot",
        "UPDATE decision_snapshots SET body = {replace:\"0.2\":\"0.1\"}",
        1,
        "was changed: the content has another hash",
    ),
    tampering("the snapshots removed", "DELETE FROM decision_snapshots", 1, "is missing: it was removed"),
    tampering(
        "the head moved back",
        "UPDATE decision_chain SET head_seq = 7, head_hash = (SELECT hash FROM decision_log WHERE seq = 7)",
        8,
        "added: it is beyond the recorded head",
    ),
];

/// The statements in the engine's words.
fn statements(engine: Engine, sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("{replace:") {
        let (replaced, after) = after.split_once('}').unwrap();
        let (from, to) = replaced.split_once(':').unwrap();
        out.push_str(before);
        let [open, body, close] = match engine {
            Engine::Sqlite => ["CAST(replace(", "CAST(body AS TEXT)", " AS BLOB)"],
            Engine::Postgres => ["convert_to(replace(", "convert_from(body, 'UTF8')", ", 'UTF8')"],
        };
        out.extend([open, body, ", '", from, "', '", to, "')", close]);
        rest = after;
    }
    out + rest
}

/// Each change of a ledger of its own, by the library and by the command line.
async fn each_is_found(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let original = engine.create(folder.path()).await;
    decide_into(&original, PAYOUTS).await;
    let intact = audit("verify", &original).await;
    assert!(
        intact.success() && intact.stdout.starts_with("audit verified: 8 records, 7 of them decisions; "),
        "{}",
        intact.stderr
    );
    for Tampering { what, sql, record, says } in TAMPERINGS {
        let copy = copy(engine, &original, folder.path()).await;
        execute(engine, &copy, &statements(engine, sql)).await;
        let found = audit("verify", &copy).await;
        let wanted = format!("audit verification failed: record {record}: ");
        let said = &found.stderr;
        assert!(said.contains(&wanted) && said.contains(says), "{engine:?}, {what}: {said} {}", found.stdout);
        assert_eq!(found.status.code(), Some(3), "{engine:?}, {what}");

        let ledger = ledger::open(&copy.parse::<LedgerUrl>().unwrap(), OpenMode::ReadOnly).await.unwrap();
        let broken = verify(&*ledger).await.unwrap().broken.unwrap();
        assert_eq!(broken.seq, *record, "{engine:?}, {what}: {broken}");
        ledger.close().await;
        if engine == Engine::Postgres {
            PostgresServer::shared().await.unwrap().drop_database(&copy);
        }
    }
    let still_intact = audit("verify", &original).await;
    assert!(still_intact.success(), "{}", still_intact.stderr);
}

/// The name of the database in a URL of the test kit.
fn database(url: &str) -> &str {
    url.split_once("@/").and_then(|(_, rest)| rest.split('?').next()).unwrap()
}

async fn copy(engine: Engine, original: &str, folder: &std::path::Path) -> String {
    match engine {
        Engine::Sqlite => {
            let file = folder.join("copy.db");
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
            }
            std::fs::copy(original.strip_prefix("sqlite:").unwrap(), &file).unwrap();
            format!("sqlite:{}", file.display())
        }
        Engine::Postgres => {
            let server = PostgresServer::shared().await.unwrap();
            server.create_database_with(&format!("TEMPLATE {}", database(original))).await.unwrap()
        }
    }
}

async fn execute(engine: Engine, url: &str, sql: &str) {
    match engine {
        Engine::Sqlite => {
            let connection = rusqlite::Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
            connection.execute_batch(sql).unwrap();
        }
        Engine::Postgres => PostgresServer::shared().await.unwrap().execute(database(url), sql).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_removed_or_swapped_record_in_sqlite_is_named() {
    each_is_found(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_removed_or_swapped_record_in_postgresql_is_named() {
    each_is_found(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_rehashed_for_another_bank_does_not_replay() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Engine::Sqlite.create(folder.path()).await;
    decide_into(&ledger, PAYOUTS).await;
    let replayed = audit("replay", &ledger).await.ok();
    assert_eq!(replayed, "audit replayed: 7 decisions from 1 snapshots, 0 mismatches\n");
    // Consistent in itself, and still not what its snapshot and its request come to.
    let body = r#"CAST(replace(CAST(body AS TEXT), '"candidate":"bank-a"', '"candidate":"bank-b"') AS BLOB)"#;
    execute(Engine::Sqlite, &ledger, &format!("UPDATE decision_log SET body = {body} WHERE seq = 3")).await;
    let found = audit("replay", &ledger).await;
    assert_eq!(found.status.code(), Some(3), "{}", found.stderr);
    assert!(found.stderr.contains("1 of 7 decisions differ, the first is record 3 "), "{}", found.stderr);
    assert!(found.stderr.contains("recorded bank-b, replayed bank-a"), "{}", found.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_of_a_ledger_that_is_not_there_is_an_error_and_no_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite:{}", folder.path().join("missing.db").display());
    for command in ["verify", "replay"] {
        let found = audit(command, &missing).await;
        assert_eq!(found.status.code(), Some(1), "{command}: {}", found.stderr);
    }
    let empty = Engine::Sqlite.create(folder.path()).await;
    ledger::open(&empty.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap().close().await;
    assert!(audit("verify", &empty).await.ok().starts_with("audit verified: 0 records"));
    assert!(audit("replay", &empty).await.ok().starts_with("audit replayed: 0 decisions"));
}

/// The row of a followed payout, changed past the chain.
async fn a_changed_payout_is_found(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = engine.create(folder.path()).await;
    decide_into(&ledger, PAYOUTS).await;
    follow(&ledger, "payout-1").await;
    let intact = audit("verify", &ledger).await.ok();
    assert!(intact.starts_with("audit verified: 9 records, 7 of them decisions; "), "{intact}");
    for (replaced, by) in [("intent_written", "rejected"), ("inquire_then_recall", "manual_only")] {
        for (from, to, code) in [(replaced, by, 3), (by, replaced, 0)] {
            let sql = format!("UPDATE payouts SET body = {{replace:{from}:{to}}}");
            execute(engine, &ledger, &statements(engine, &sql)).await;
            let found = audit("verify", &ledger).await;
            assert_eq!(found.status.code(), Some(code), "{from}: {}", found.stderr);
            let is_named = found.stderr.contains("record 9: its payout payout-1 was changed");
            assert_eq!(is_named, code == 3, "{from}: {}", found.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_of_a_payout_in_sqlite_is_named() {
    a_changed_payout_is_found(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_of_a_payout_in_postgresql_is_named() {
    a_changed_payout_is_found(Engine::Postgres).await;
}
