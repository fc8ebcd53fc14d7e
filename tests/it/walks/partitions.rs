//! Partitions that the records of another job name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use busbar::sync::{Partition, PartitionsFromPlan, SyncPlan};
use serde_json::json;

use super::documents;
use crate::kit::connections::key;
use crate::kit::walk_bank::{Answer, BASE, Seen, WalkBank, page, record, status};

/// A bank with accounts and a list for each of them: a job reads the accounts, another one the lists.
struct Bank {
    server: WalkBank,
    accounts: SyncPlan,
    lists: SyncPlan,
}

async fn bank(
    fields: &str,
    accounts: impl Fn() -> Vec<String> + Send + Sync + 'static,
    list: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> Bank {
    let text = format!(
        "parameters: {{what: {{summary: The list, required: true}}, account: {{summary: The account, default: none, maxLength: 64}}}}, query: {{what: '{{what}}', account: '{{account}}'}}, {fields}"
    );
    let mut bank = WalkBank::start(&text, move |seen| {
        assert!(seen.path.starts_with(BASE));
        match seen.query("what") {
            "accounts" => page(json!({"data": accounts().iter().map(|id| json!({"id": id})).collect::<Vec<_>>()})),
            _ => list(seen),
        }
    })
    .await;
    bank.plan.partitions[0].parameters =
        [("what", "accounts"), ("account", "none")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let accounts = SyncPlan { job: key("accounts"), ..bank.plan.clone() };
    let from = PartitionsFromPlan {
        job: "accounts".into(),
        connection: accounts.connection.clone(),
        stream: accounts.stream_name.clone(),
        field: "id".into(),
        given: [("what".to_owned(), "list".to_owned())].into(),
        endpoint: std::collections::BTreeMap::new(),
    };
    let mut stream = (*accounts.stream).clone();
    // The values are for the only parameter that is required and not set.
    stream.parameters.get_mut("account").unwrap().required = true;
    stream.parameters.get_mut("account").unwrap().default = None;
    let lists = SyncPlan {
        job: key("lists"),
        partitions: Vec::new(),
        partitions_from: Some(from),
        stream: Arc::new(stream),
        ..bank.plan.clone()
    };
    Bank { server: bank, accounts, lists }
}

fn of_account(seen: &Seen) -> Answer {
    let account = seen.query("account");
    page(json!({"data": [{"id": format!("{account}-1")}, {"id": format!("{account}-2")}]}))
}

#[tokio::test]
async fn each_stored_account_is_a_partition_and_a_new_one_is_read_in_the_next_run() {
    let count = Arc::new(AtomicU64::new(2));
    let ids = Arc::clone(&count);
    let test = bank(
        &documents("{kind: none}"),
        move || (0..ids.load(Ordering::Relaxed)).map(|n| format!("acc-{n}")).collect(),
        of_account,
    )
    .await;
    test.server.record_of(&test.accounts).await;
    test.server.forget();
    let run = test.server.record_of(&test.lists).await;
    assert_eq!((run.result, run.counts.inserted), (Some(RunResult::Succeeded), 4));
    assert_eq!(test.server.requested("account"), ["acc-0", "acc-1"]);
    count.store(3, Ordering::Relaxed);
    test.server.record_of(&test.accounts).await;
    let run = test.server.record_of(&test.lists).await;
    assert_eq!((run.counts.inserted, run.counts.unchanged), (2, 4));
}

#[tokio::test]
async fn an_account_that_the_job_lists_itself_is_read_once_under_the_listed_name() {
    let accounts = || ["acc-0", "acc-1", "acc-2"].map(str::to_owned).into();
    let mut test = bank(&documents("{kind: none}"), accounts, of_account).await;
    let listed = |name: &str, account: &str| Partition {
        name: name.to_owned(),
        parameters: [("what", "list"), ("account", account)].map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
    };
    // By its name, under another name, and one that no record names.
    test.lists.partitions = vec![listed("acc-0", "acc-0"), listed("main", "acc-1"), listed("own", "acc-9")];
    test.server.record_of(&test.accounts).await;
    for stored in [0, 8] {
        test.server.forget();
        let run = test.server.record_of(&test.lists).await;
        assert_eq!(
            (run.result, run.counts.inserted, run.counts.unchanged),
            (Some(RunResult::Succeeded), 8 - stored, stored)
        );
        assert_eq!(test.server.requested("account"), ["acc-0", "acc-1", "acc-9", "acc-2"]);
    }
}

#[tokio::test]
async fn slow_partitions_are_counted_in_the_record_of_their_run() {
    let accounts = || ["a", "b", "c"].map(str::to_owned).into();
    let mut test = bank(&documents("{kind: none}"), accounts, of_account).await;
    test.server.record_of(&test.accounts).await;
    for (limit, slow) in [(Duration::ZERO, 3), (Duration::from_hours(1), 0)] {
        test.lists.sla.fetch_duration = limit;
        let run = test.server.record_of(&test.lists).await;
        assert_eq!((run.result, run.failure.slow), (Some(RunResult::Succeeded), slow), "{limit:?}");
    }
    let gone = bank(&documents("{kind: none}"), accounts, |_| status(410, json!({}))).await;
    gone.server.record_of(&gone.accounts).await;
    let mut lists = gone.lists.clone();
    lists.sla.fetch_duration = Duration::ZERO;
    let run = gone.server.record_of(&lists).await;
    assert_eq!((run.result, run.failure.slow), (Some(RunResult::Failed), 3), "failed partitions can be slow");
}

#[tokio::test]
async fn a_partition_that_vanished_fails_by_itself() {
    for gone in [410, 404, 403] {
        let test = bank(
            &documents("{kind: none}"),
            || ["a", "b", "c"].map(str::to_owned).into(),
            move |seen| if seen.query("account") == "b" { status(gone, json!({})) } else { of_account(seen) },
        )
        .await;
        test.server.record_of(&test.accounts).await;
        let run = test.server.record_of(&test.lists).await;
        let reason = match gone {
            410 => RunReason::ItemGone,
            404 => RunReason::NotFound,
            _ => RunReason::AccessDenied,
        };
        assert_eq!((run.result, run.reason, run.counts.inserted), (Some(RunResult::Failed), Some(reason), 4), "{gone}");
        assert_eq!(run.failure.failing, 1);
    }
}

#[tokio::test]
async fn no_accounts_are_a_success_that_says_so() {
    let test = bank(&documents("{kind: none}"), Vec::new, of_account).await;
    for before in [false, true] {
        if before {
            test.server.record_of(&test.accounts).await;
        }
        test.server.forget();
        let run = test.server.record_of(&test.lists).await;
        assert_eq!((run.result, run.counts.fetched), (Some(RunResult::Succeeded), 0));
        let note = run.failure.detail.unwrap();
        assert!(note.contains("no partitions") && note.contains("accounts"), "{note}");
        assert!(test.server.requests().is_empty());
    }
}

#[tokio::test]
async fn an_account_that_is_no_parameter_fails_alone() {
    let long = "x".repeat(100);
    let test = bank(&documents("{kind: none}"), move || vec!["good".to_owned(), long.clone()], of_account).await;
    test.server.record_of(&test.accounts).await;
    let run = test.server.record_of(&test.lists).await;
    assert_eq!((run.reason, run.counts.inserted), (Some(RunReason::ParameterInvalid), 2));
}

/// Partitions of the test below; a soak test sets as many as a job may have.
#[expect(clippy::disallowed_methods, reason = "the number of a soak test is set by an environment variable")]
fn partition_count() -> usize {
    std::env::var("PARTITIONS").map_or(1_000, |text| text.parse().expect("PARTITIONS is a number"))
}

#[tokio::test]
async fn as_many_partitions_as_a_job_may_have_are_read_one_after_the_other() {
    let count = partition_count();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let accounts = move || (0..count).map(|n| format!("acc-{n:05}")).collect();
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let mut test = bank(&documents("{kind: none}"), accounts, move |seen| {
        peak.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let answer = page(json!({"data": [{"id": seen.query("account")}]}));
        now.fetch_sub(1, Ordering::Relaxed);
        answer
    })
    .await;
    test.server.record_of(&test.accounts).await;
    // A limit that ends the run in its middle would be Incomplete; the next run starts at another partition.
    test.lists.run_timeout = Duration::from_hours(1);
    let run = test.server.record_of(&test.lists).await;
    assert_eq!((run.result, run.reason, run.counts.inserted), (Some(RunResult::Succeeded), None, count as u64));
    assert_eq!(most.load(Ordering::Relaxed), 1);
    assert_eq!(record(0)["n"], 0);
}
