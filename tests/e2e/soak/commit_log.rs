//! A log of commits that the ledger keeps while a soak test runs: triggers record every commit with the lease under which it
//! was made. So nothing is sampled, and what was undone later is recorded too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, Row};

const SCHEMA: &str = "
CREATE TABLE soak_commits (id INTEGER PRIMARY KEY, stream_id INTEGER, job TEXT, version INTEGER, fence INTEGER,
    lease_fence INTEGER, holder TEXT);
CREATE TABLE soak_runs (id INTEGER PRIMARY KEY, what TEXT, run_id TEXT, job TEXT, slot_ms INTEGER, lease_fence INTEGER,
    holder TEXT);
CREATE TABLE soak_inserted (id INTEGER PRIMARY KEY, job TEXT, rows INTEGER);
CREATE TABLE soak_rows (id INTEGER PRIMARY KEY, record_key TEXT, run_id TEXT);
CREATE TRIGGER soak_commit_first AFTER INSERT ON sync_state BEGIN
    INSERT INTO soak_commits (stream_id, job, version, fence, lease_fence, holder)
    SELECT NEW.stream_id, NEW.job, NEW.state_version, NEW.fence, l.fence, l.holder
    FROM streams s LEFT JOIN leases l ON l.name = 'sync/' || s.namespace || '/' || NEW.job WHERE s.id = NEW.stream_id;
END;
CREATE TRIGGER soak_commit_next AFTER UPDATE ON sync_state BEGIN
    INSERT INTO soak_commits (stream_id, job, version, fence, lease_fence, holder)
    SELECT NEW.stream_id, NEW.job, NEW.state_version, NEW.fence, l.fence, l.holder
    FROM streams s LEFT JOIN leases l ON l.name = 'sync/' || s.namespace || '/' || NEW.job WHERE s.id = NEW.stream_id;
END;
CREATE TRIGGER soak_run_begins AFTER INSERT ON sync_runs BEGIN
    INSERT INTO soak_runs (what, run_id, job, slot_ms, lease_fence, holder)
    SELECT CASE WHEN NEW.ended_ms IS NULL THEN 'begun' ELSE 'passed' END, NEW.run_id, NEW.job, NEW.slot_ms, l.fence,
        l.holder
    FROM (SELECT 1) LEFT JOIN leases l ON l.name = 'sync/' || NEW.namespace || '/' || NEW.job;
END;
CREATE TRIGGER soak_run_ends AFTER UPDATE OF ended_ms ON sync_runs WHEN NEW.ended_ms IS NOT OLD.ended_ms BEGIN
    INSERT INTO soak_runs (what, run_id, job, slot_ms, lease_fence, holder)
    SELECT CASE WHEN OLD.ended_ms IS NULL THEN NEW.result ELSE 'ended again' END, NEW.run_id, NEW.job, NEW.slot_ms,
        l.fence, l.holder
    FROM (SELECT 1) LEFT JOIN leases l ON l.name = 'sync/' || NEW.namespace || '/' || NEW.job;
END;
CREATE TRIGGER soak_run_counts AFTER UPDATE OF inserted ON sync_runs WHEN NEW.inserted IS NOT OLD.inserted BEGIN
    INSERT INTO soak_inserted (job, rows) VALUES (NEW.job, NEW.inserted - OLD.inserted);
END;
CREATE TRIGGER soak_row_changes AFTER UPDATE ON transactions BEGIN
    INSERT INTO soak_rows (record_key, run_id) VALUES (NEW.record_key, NEW.run_id);
END;
";

fn connect(file: &Path) -> Connection {
    let connection = Connection::open(file).expect("the ledger's file");
    connection.busy_timeout(std::time::Duration::from_secs(20)).expect("a timeout");
    connection
}

/// Installs the triggers in the ledger in `file`, which an operator has created.
pub(super) fn install(file: &Path) {
    connect(file).execute_batch(SCHEMA).expect("the triggers");
}

/// All rows of a query.
fn rows<T>(conn: &Connection, sql: &str, decode: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    let mut statement = conn.prepare(sql).expect(sql);
    statement.query_map([], decode).expect(sql).collect::<Result<_, _>>().expect(sql)
}

/// How much was recorded.
#[derive(Debug, Default)]
pub(super) struct CommitTotals {
    pub(super) commits: usize,
    pub(super) runs: usize,
    pub(super) interrupted: usize,
    pub(super) holders: BTreeSet<String>,
}

/// What was recorded and must not happen, one line for each, and how much was recorded. No operator may run, and each
/// stream must be read by one job.
pub(super) fn findings(file: &Path) -> (Vec<String>, CommitTotals) {
    let conn = connect(file);
    let (mut findings, mut totals) = (Vec::new(), CommitTotals::default());
    commits(&conn, &mut findings, &mut totals);
    runs(&conn, &mut findings, &mut totals);
    let changed = rows(&conn, "SELECT record_key, run_id FROM soak_rows", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    });
    findings.extend(changed.iter().map(|(key, run)| format!("row {key} was written again, by run {run}")));
    let counts = rows(
        &conn,
        "SELECT s.job, (SELECT count(*) FROM transactions t WHERE t.stream_id = s.stream_id),
             (SELECT coalesce(sum(rows), 0) FROM soak_inserted i WHERE i.job = s.job) FROM sync_state s",
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
    );
    for (job, rows, counted) in counts {
        if rows != counted {
            findings.push(format!("{job}: its runs count {counted} inserted rows, but there are {rows}"));
        }
    }
    (findings, totals)
}

/// Pages and cursors: only by the holder of the newest fence, each version once and in order.
fn commits(conn: &Connection, findings: &mut Vec<String>, totals: &mut CommitTotals) {
    type Commit = (i64, String, i64, i64, Option<i64>, Option<String>);
    let rows: Vec<Commit> =
        rows(conn, "SELECT stream_id, job, version, fence, lease_fence, holder FROM soak_commits ORDER BY id", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        });
    totals.commits = rows.len();
    let mut last: BTreeMap<(i64, String), (i64, i64)> = BTreeMap::new();
    for (stream, job, version, fence, lease, holder) in rows {
        if lease != Some(fence) {
            findings.push(format!(
                "{job}: version {version} was committed under fence {fence}, the lease was at {lease:?}"
            ));
        }
        let before = last.insert((stream, job.clone()), (version, fence));
        let (was, under) = before.unwrap_or((0, 0));
        if version != was + 1 || fence < under {
            findings.push(format!("{job}: version {version}, fence {fence} came after version {was}, fence {under}"));
        }
        totals.holders.extend(holder);
    }
}

/// Runs: each begun once, one for a slot, each under a later fence; ended once, and interrupted only by a later holder.
fn runs(conn: &Connection, findings: &mut Vec<String>, totals: &mut CommitTotals) {
    type Run = (String, String, String, Option<i64>, Option<i64>);
    let rows: Vec<Run> =
        rows(conn, "SELECT what, run_id, job, slot_ms, lease_fence FROM soak_runs ORDER BY id", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        });
    let mut slots = BTreeSet::new();
    let mut begun: BTreeMap<String, i64> = BTreeMap::new();
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for (what, run, job, slot, fence) in rows {
        let fence = fence.unwrap_or_default();
        if matches!(what.as_str(), "begun" | "passed")
            && let Some(slot) = slot
            && !slots.insert((job.clone(), slot))
        {
            findings.push(format!("{job}: slot {slot} was run twice, the second time by run {run}"));
        }
        match what.as_str() {
            "begun" => {
                totals.runs += 1;
                if begun.insert(run.clone(), fence).is_some() {
                    findings.push(format!("{job}: run {run} was begun twice"));
                }
                if newest.insert(job.clone(), fence).is_some_and(|before| before >= fence) {
                    findings.push(format!("{job}: run {run} was begun under a fence that was used before, {fence}"));
                }
            }
            "ended again" => findings.push(format!("{job}: run {run} was ended twice")),
            "Interrupted" => {
                totals.interrupted += 1;
                if begun.get(&run).is_none_or(|under| *under >= fence) {
                    findings.push(format!("{job}: run {run} was marked as interrupted although its lease was held"));
                }
            }
            _ => {}
        }
    }
}
