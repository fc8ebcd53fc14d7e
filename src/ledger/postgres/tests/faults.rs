//! A server that restarts, is away, refuses or undoes: no fault outlives its cause, and each has its name.

use sqlx::Row as _;

use super::store::{PostgresStore, database, open_url};
use crate::domain::write_fault::WriteFault;
use crate::ledger::contract::{OpenLedger as _, at, commit, count, cursor_key, payout_fixtures, row, state, take};
use crate::ledger::error::LedgerError;
use crate::ledger::health::LedgerHealth;
use crate::ledger::store::OpenMode;
use crate::testbed::postgres::PostgresServer;

#[tokio::test]
async fn a_restart_of_the_server_is_survived_without_a_restart_of_the_process() {
    let server = PostgresServer::start().await.unwrap();
    let url = server.create_database().await.unwrap();
    let ledger = open_url(&url, OpenMode::Migrate).await.unwrap();
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    // All connections are old ones afterwards; the next transaction uses new ones.
    server.restart().await.unwrap();
    commit(&*ledger, &held, &state(1, "3"), &[row("b", 2)]).await.unwrap();
    assert!(ledger.renew_lease(&held, crate::ledger::contract::TTL, at(1)).await.unwrap());

    server.crash().unwrap();
    let error = ledger.ping().await.unwrap_err();
    assert!(error.is_transient() && error.write_fault() == Some(WriteFault::Unreachable), "{error}");
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Unwritable(WriteFault::Unreachable));
    assert!(error.to_string().contains("check the database server of --ledger"), "{error}");
    // A page waits for the server.
    let (state, rows) = (state(2, "4"), [row("c", 3)]);
    let (committed, started) = tokio::join!(commit(&*ledger, &held, &state, &rows), server.start_again());
    started.unwrap();
    assert_eq!(committed.unwrap().version, 3);
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Writable);
    let cursor = ledger.load_cursor(&cursor_key("books", "")).await.unwrap().unwrap();
    assert_eq!((count(&*ledger).await, cursor.version), (3, 3));
}

#[tokio::test]
async fn a_transaction_that_the_server_undid_for_another_is_repeated() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for (version, code) in [(0, "40001"), (1, "40P01")] {
        // A sequence is not undone: the third attempt succeeds.
        let trigger = format!(
            "CREATE SEQUENCE attempts;
             CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('attempts') < 3 THEN RAISE EXCEPTION 'undone' USING ERRCODE = '{code}'; END IF; RETURN NEW;
             END $$;
             CREATE TRIGGER undo BEFORE INSERT OR UPDATE ON sync_state FOR EACH ROW EXECUTE FUNCTION undo();"
        );
        server.execute(store.database(), &trigger).await.unwrap();
        let key = format!("k{version}");
        commit(&*ledger, &held, &state(version, "2"), &[row(&key, 1)]).await.unwrap();
        let drop = "DROP TRIGGER undo ON sync_state; DROP FUNCTION undo; DROP SEQUENCE attempts;";
        server.execute(store.database(), drop).await.unwrap();
    }
    assert_eq!(count(&*ledger).await, 2);
}

#[tokio::test]
async fn a_transaction_that_is_always_undone_is_an_error_that_may_pass() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let trigger = "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END $$;
         CREATE TRIGGER undo BEFORE UPDATE ON write_checks FOR EACH ROW EXECUTE FUNCTION undo();";
    server.execute(store.database(), trigger).await.unwrap();
    let error = ledger.ping().await.unwrap_err();
    assert!(matches!(error, LedgerError::Busy { .. }) && error.is_transient(), "{error}");
    server.execute(store.database(), "DROP TRIGGER undo ON write_checks").await.unwrap();
    ledger.ping().await.unwrap();
}

#[tokio::test]
async fn a_read_only_server_is_named_and_its_rows_are_read() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap();
    let name = store.database();
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    server.execute("postgres", &read_only).await.unwrap();
    let ledger = store.writer().await;
    let error = commit(&*ledger, &held, &state(1, "3"), &[row("b", 1)]).await.unwrap_err();
    assert_eq!(error.write_fault(), Some(WriteFault::ServerReadOnly), "{error}");
    assert_eq!(*ledger.health().borrow(), LedgerHealth::Unwritable(WriteFault::ServerReadOnly));
    assert_eq!(count(&*ledger).await, 1);
}

#[tokio::test]
async fn an_error_quotes_no_data_of_a_row() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let held = take(&*ledger, "me", at(0)).await;
    for constraint in ["CHECK (narration <> 'POS')", "CHECK (length(account) > 99)", "EXCLUDE (currency WITH =)"] {
        let add = format!("ALTER TABLE transactions ADD CONSTRAINT refused {constraint}");
        server.execute(store.database(), &add).await.unwrap();
        let error = commit(&*ledger, &held, &state(0, "2"), &[row("a", 1), row("b", 2)]).await.unwrap_err().to_string();
        assert!(error.contains("SQLSTATE 23"), "{error}");
        for data in ["POS", "****1234", "NGN"] {
            assert!(!error.contains(data), "{error}");
        }
        let drop = "ALTER TABLE transactions DROP CONSTRAINT refused";
        server.execute(store.database(), drop).await.unwrap();
    }
}

/// A transaction under a lease, of a process that was frozen in it, until the server ends it.
#[tokio::test]
async fn a_lease_is_not_taken_in_the_middle_of_a_transaction_under_it() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    let held = take(&*ledger, "one", at(0)).await;
    let mut frozen = server.connect(database(&store.url)).await.unwrap();
    let lock = "BEGIN; SELECT 1 FROM leases WHERE name = 'job' FOR SHARE;";
    sqlx::raw_sql(lock).execute(&mut frozen).await.unwrap();
    let pid = sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(&mut frozen).await.unwrap().get::<i32, _>(0);
    let taking = take(&*ledger, "two", at(20));
    let mut taking = std::pin::pin!(taking);
    let waits = format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
    let mut watch = server.connect("postgres").await.unwrap();
    for _ in 0..10_000 {
        let waiting = async {
            let waiting = sqlx::raw_sql(sqlx::AssertSqlSafe(waits.clone())).fetch_one(&mut watch).await.unwrap();
            waiting.get::<i64, _>(0) > 0
        };
        tokio::select! {
            _ = &mut taking => panic!("taken in the middle of a transaction"),
            is_waiting = waiting => if is_waiting { break },
        }
    }
    // What the server does after `idle_in_transaction_session_timeout`.
    server.execute("postgres", &format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
    let newer = taking.await;
    assert!(newer.fence > held.fence);
    let error = commit(&*ledger, &held, &state(0, "2"), &[row("a", 1)]).await.unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    let mut settings = server.connect(database(&store.url)).await.unwrap();
    assert!(sqlx::raw_sql("SHOW idle_in_transaction_session_timeout").fetch_one(&mut settings).await.is_ok());
}

#[tokio::test]
async fn an_attempt_beside_an_open_one_is_refused_by_the_schema() {
    let (store, server) = (PostgresStore::create().await, PostgresServer::shared().await.unwrap());
    let ledger = store.writer().await;
    payout_fixtures::registered(&*ledger, "p1", 1).await;
    let second = payout_fixtures::SECOND_ATTEMPT;
    for state in ["unknown", "submitted", "manual_review", "confirmed", "recalling"] {
        let change = format!("UPDATE payout_attempts SET state = '{state}'; {second}");
        assert!(server.execute(store.database(), &change).await.is_err(), "{state}");
    }
    let frozen = format!("UPDATE payout_attempts SET state = 'rejected'; UPDATE payouts SET frozen = TRUE; {second}");
    assert!(server.execute(store.database(), &frozen).await.is_err(), "frozen");
    // The risk that people accept is that of an attempt whose fate is unknown, never that of one that was executed.
    let executed = format!("UPDATE payout_attempts SET state = 'confirmed', accepted_for = 2; {second}");
    assert!(server.execute(store.database(), &executed).await.is_err(), "executed");
    for proof in ["state = 'rejected'", "state = 'recalled'", "state = 'unknown', accepted_for = 2"] {
        let allowed =
            format!("UPDATE payout_attempts SET {proof}; {second}; DELETE FROM payout_attempts WHERE attempt_no = 2");
        server.execute(store.database(), &allowed).await.unwrap();
    }
    let rewritten = server.execute(store.database(), "UPDATE payout_timeline SET subject = 'eve'").await;
    assert!(rewritten.is_err(), "append-only");
}
