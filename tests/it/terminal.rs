//! What commands print: to a terminal, to a pipe that is closed, and to a device that is full.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use busbar::domain::document::{DocumentKind, DocumentRecord};
use busbar::domain::key::ObjectKey;
use busbar::domain::printable::{data, is_hidden};
use busbar::domain::record::{DeadLetter, KeyQuality};
use busbar::domain::rejection_reason::RejectionReason;
use busbar::domain::run_failure::RunFailure;
use busbar::domain::run_reason::RunReason;
use busbar::ledger::audit::{AuditEntry, AuditKind};
use busbar::ledger::dead_requests::{DeadRequestLimits, NewDeadRequest};
use busbar::ledger::runs::RunCounts;
use busbar::ledger::{
    self, CursorKey, CursorState, Ledger, LedgerUrl, OpenMode, PageCommit, ProbeResult, RunEnd, RunId, RunResult,
    RunStart, RunTrigger, StreamKey,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::kit::binary::{Finished, busbar, run};

/// Clears a screen, starts a line, and shows what follows in another order; in C0, C1 and Unicode.
const HOSTILE: &str = "a\u{1b}[2Jb\nROOT\u{9b}31m\u{202e}0001\u{2066}\u{200b}\u{7f}";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_796_000_000 + seconds).unwrap()
}

/// A ledger with a row of each kind, whose texts are hostile.
async fn ledger_in(folder: &Path) -> PathBuf {
    let file = folder.join("ledger.db");
    let ledger = ledger::open(&LedgerUrl::Sqlite(file.clone()), OpenMode::Migrate).await.unwrap();
    fill(&*ledger).await;
    ledger.close().await;
    file
}

#[expect(clippy::too_many_lines, reason = "a list of what is stored")]
async fn fill(ledger: &dyn Ledger) {
    let ttl = std::time::Duration::from_mins(1);
    let lease = ledger.acquire_lease("sync/team/books", "me", ttl, at(0), None).await.unwrap().acquired().unwrap();
    let (id, job) = (RunId(Uuid::from_u128(7)), ObjectKey::new("team", "books"));
    let start = RunStart {
        id,
        job: job.clone(),
        trigger: RunTrigger::Schedule,
        slot: None,
        dry_run: false,
        events: Vec::new(),
        at: at(0),
    };
    assert!(ledger.start_run(&start, &lease).await.unwrap());
    let stream = StreamKey {
        namespace: "team".into(),
        connection: "bank".into(),
        provider: "generic".into(),
        environment: "Sandbox".into(),
        stream: "rows".into(),
        partition: HOSTILE.into(),
    };
    let cursor = CursorKey { stream, job: "books".into() };
    let documents: Vec<_> = (0..300)
        .map(|n| DocumentRecord {
            kind: DocumentKind::Document,
            key: format!("{n}-{HOSTILE}"),
            key_quality: KeyQuality::Provider,
            body: serde_json::json!({ "text": HOSTILE, "date": "2026-11-29", "pad": "x".repeat(150) }).to_string(),
        })
        .collect();
    let letters = [DeadLetter {
        reason: RejectionReason::TimeMissing,
        path: format!("/date{HOSTILE}"),
        sample: "{id: string, amount: number}".into(),
        fingerprint: "f".into(),
        index: 0,
        page_no: 1,
    }];
    let state = CursorState::default();
    let page = PageCommit {
        cursor: &cursor,
        lease: &lease,
        run: id,
        state: &state,
        rows: &[],
        documents: &documents,
        records: &[],
        removed: &[],
        pending: None,
        scope: busbar::ledger::page::CommitScope::Page,
        dead_letters: &letters,
        raw: None,
        events: None,
        replayed: None,
        fetched: 301,
        conflicting: 0,
        pages: 1,
        now: at(1),
    };
    ledger.commit_page(page).await.unwrap();
    let failure = RunFailure { http_status: Some(200), detail: Some(HOSTILE.into()), ..RunFailure::default() };
    let (result, reason) = (RunResult::Failed, Some(RunReason::BodyUnreadable));
    let counts = RunCounts { fetched: 301, ..RunCounts::default() };
    let end = RunEnd {
        id,
        job,
        result,
        reason,
        failure,
        counts,
        partitions: Vec::new(),
        resync: None,
        events: Vec::new(),
        at: at(2),
    };
    ledger.finish_run(&end).await.unwrap();

    let connection = ObjectKey::new("team", "bank");
    let entry = |connection: &str| AuditEntry {
        at: at(3),
        kind: AuditKind::Call,
        action: HOSTILE.into(),
        subject: "ann".into(),
        rights_profile: None,
        allowed: true,
        namespace: "team".into(),
        connection: connection.into(),
        provider: None,
        purpose: Some(HOSTILE.into()),
        reason: None,
        request_id: None,
        repeats: None,
    };
    ledger.append_audit(&[entry("bank"), entry("other")]).await.unwrap();
    let request = NewDeadRequest {
        id: Uuid::from_u128(8),
        connection: connection.clone(),
        uid: "u".into(),
        provider: "generic".into(),
        operation: "rows".into(),
        parameters: br#"{"account":"0131883461"}"#.to_vec(),
        encrypted: false,
        fingerprint: "f".into(),
        caller: "{}".into(),
        subject: HOSTILE.into(),
        reason: "timeout".into(),
        status: Some(504),
        request_id: None,
        at: at(4),
        next: at(64),
    };
    let limits = DeadRequestLimits { total: 10, connection: 10 };
    ledger.add_dead_request(&request, limits).await.unwrap().unwrap();
    let probe = ProbeResult {
        connection,
        at: at(5),
        elapsed: std::time::Duration::from_millis(3),
        success: false,
        slow: false,
        status: Some(503),
        error: None,
    };
    ledger.record_probes(&[probe]).await.unwrap();
}

fn ledger_command(file: &Path, args: &[&str]) -> std::process::Command {
    let flag = format!("--ledger=sqlite:{}", file.display());
    busbar(&[&["ledger"], args, &[&flag]].concat())
}

#[track_caller]
fn assert_plain(text: &str) {
    let hidden: Vec<_> = text.chars().filter(|c| *c != '\n' && is_hidden(*c)).collect();
    assert!(hidden.is_empty(), "{hidden:?} in {text:?}");
    assert!(!text.lines().any(|line| line.trim_start().starts_with("ROOT")), "a line of its own: {text}");
}

#[tokio::test]
async fn the_ledger_is_shown_and_nothing_in_it_controls_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let file = ledger_in(dir.path()).await;
    for (command, object, parts) in [
        ("documents", "bank", &["team/bank", "rows", "2026-11-29", "20 documents, the newest"] as &[&str]),
        ("dead-letters", "bank", &["/date", "TimeMissing", "{id: string, amount: number}", "1 of 1 dead letters"]),
        ("runs", "books", &["team/books", "Failed", "BodyUnreadable", "200", "301", "1 run\n"]),
        ("dead-requests", "bank", &["team/bank", "timeout", "504", "pending", "1 dead request\n"]),
        ("audit", "bank", &["call", "ann", "yes", "1 entry\n"]),
        ("probes", "bank", &["503", "failed", "0 of the last 1 checks of team/bank succeeded"]),
        ("transactions", "bank", &["CONNECTION", "0 of 0 transactions"]),
    ] {
        let qualified = format!("team/{object}");
        let [one, other] = [&[command, &qualified] as &[&str], &[command, object, "-n", "team"]]
            .map(|args| run(ledger_command(&file, args)).ok());
        assert_eq!(one, other, "{command}: both forms name the same object");
        assert_plain(&one);
        for part in parts {
            assert!(one.contains(part), "{command} has no {part:?}: {one}");
        }
        assert!(!one.contains("0131883461"), "{command}: {one}");
        if command != "probes" {
            let elsewhere = run(ledger_command(&file, &[command, "-n", "nowhere"])).ok();
            assert!(elsewhere.lines().count() == 2 && elsewhere.contains("\n0 "), "{command}: {elsewhere}");
        }
    }
    let contradiction = run(ledger_command(&file, &["runs", "team/books", "-n", "other"]));
    assert!(!contradiction.success() && contradiction.stderr.contains("set one of them"), "{}", contradiction.stderr);
    let unnamed = run(ledger_command(&file, &["probes", "bank"]));
    assert!(!unnamed.success() && unnamed.stderr.contains("NAME with --namespace"), "{}", unnamed.stderr);
}

/// Commands that print, one of each kind.
fn printing(file: &Path) -> Vec<std::process::Command> {
    let mut all: Vec<_> = [&["documents", "--limit=300"] as &[&str], &["runs"], &["transactions"], &["audit"]]
        .map(|args| ledger_command(file, args))
        .into();
    let profile = format!("{}/tests/it/data/none.yaml", env!("CARGO_MANIFEST_DIR"));
    for args in [
        &["explain", "config/samples"] as &[&str],
        &["explain", "config/samples", "-o", "json"],
        &["check", "profile", &profile],
        &["check", "live", "--skip"],
        &["--help"],
        &["ledger", "runs", "--help"],
        &["--version"],
    ] {
        let mut command = busbar(args);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        all.push(command);
    }
    all
}

#[tokio::test]
async fn a_reader_that_closes_the_pipe_ends_a_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let file = ledger_in(dir.path()).await;
    for mut command in printing(&file) {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!stderr.contains("panicked") && !stderr.contains("roken pipe"), "{command:?}: {stderr}");
        // Only the missing profile is an error.
        assert!(output.status.success() || stderr.contains("profiles"), "{command:?}: {} {stderr}", output.status);
    }
}

#[tokio::test]
async fn a_full_or_closed_output_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = ledger_in(dir.path()).await;
    for mut command in printing(&file) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !stderr.contains("panicked"), "{command:?}: {} {stderr}", output.status);
        assert!(stderr.contains("writing standard output: No space left"), "{command:?}: {stderr}");

        // Nor may the output of errors fail loudly.
        let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = command.stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{command:?}");

        let (program, args) = (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned));
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", "exec \"$@\" >&-", "sh"]).arg(program).args(args.collect::<Vec<_>>());
        let output = shell.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().output().unwrap();
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{command:?}");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command:?}: {}", output.status);
    }
}

#[test]
fn manifests_profiles_and_arguments_do_not_control_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = dir.path().join("bank.yaml");
    let object = serde_json::json!({
        "apiVersion": "busbar.dev/v1alpha1",
        "kind": "ProviderConnection",
        "metadata": {"name": "bank", "namespace": "team"},
        "spec": {
            "provider": "generic",
            "environment": "Sandbox",
            "endpoint": {"baseURL": format!("https://bank.example/{HOSTILE}"), "parameters": {"x": HOSTILE}},
            "breakerPolicyRef": {"name": HOSTILE},
            HOSTILE: 1,
        },
    });
    // YAML has control characters as escapes only.
    std::fs::write(&manifest, data(&object.to_string())).unwrap();
    let profile = dir.path().join("evil\u{1b}[2J.yaml");
    std::fs::write(&profile, format!("id: x\ntitle: \"{}\"\n{}: 1\n", "\\e[2J", "'a\u{202e}b'")).unwrap();
    let (manifest, profile) = (manifest.to_str().unwrap(), profile.to_str().unwrap());
    let outputs: Vec<Finished> = [
        &["explain", manifest] as &[&str],
        &["explain", manifest, "-o", "yaml"],
        &["explain", HOSTILE],
        &["explain", "pconn/\u{1b}[2J"],
        &["check", "profile", profile],
        &["check", "live", "--provider", HOSTILE],
        &["ledger", "runs", "--limit", HOSTILE],
        &["ledger", "runs", HOSTILE, "--ledger=sqlite:/nowhere/\u{1b}[2J.db"],
        &["\u{1b}[2J"],
    ]
    .map(|args| {
        let mut command = busbar(args);
        command.env("BUSBAR_KUBECONFIG", "/nowhere");
        run(command)
    })
    .into();
    for output in &outputs {
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty());
        assert_plain(&output.stdout);
        assert_plain(&output.stderr);
    }
    assert!(outputs[0].stdout.contains("\\u{202e}"), "shown as an escape: {}", outputs[0].stdout);
    let json = run(busbar(&["explain", manifest, "-o", "json"])).ok();
    assert_plain(&json);
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let values = parsed[0]["settings"].as_array().unwrap().iter();
    assert!(values.clone().any(|row| row["value"] == HOSTILE), "the value is unchanged for a program: {json}");
}
