//! How late runs start when five hundred jobs of fifty connections are due within the same minute.
//!
//! The operator, the API server and the bank are processes of their own. Each job is due at its minute plus its own
//! jitter; its run has started when the ledger has recorded the start.

use std::collections::HashMap;
use std::time::Duration;

use busbar::api::v1alpha1::SyncJob;
use busbar::domain::schedule::jitter;
use busbar::ledger::{self, LedgerUrl, OpenMode};
use futures::StreamExt as _;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::Figures;
use crate::env::{BenchEnv, NAMESPACE, numbered};
use crate::machine::Bill;
use crate::stats::Sample;

const CONNECTIONS: usize = 50;
const JOBS: usize = 500;
/// Of each job, after the first one: that one opens connections.
const RUNS: usize = 3;
const MINUTE: Duration = Duration::from_mins(1);
/// The default of `spec.jitterPercent`.
const JITTER_PERCENT: u8 = 10;
const TIMEOUT: Duration = Duration::from_mins(8);

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let env = BenchEnv::start().await;
        let canned: HashMap<_, _> =
            (0..JOBS).map(|n| (format!("/list-{n}"), format!(r#"[{{"id":"a-{n}"}},{{"id":"b-{n}"}}]"#))).collect();
        let bank = env.banks.bank(&json!({"name": "bank", "logCapacity": 1, "canned": canned})).await;
        env.make_ready(CONNECTIONS, |n| numbered(&bank.http, n, "30s")).await;
        let jobs: Api<SyncJob> = Api::namespaced(env.client.clone(), NAMESPACE);
        let create = |n: usize| {
            let jobs = jobs.clone();
            async move { jobs.create(&PostParams::default(), &job(n)).await.expect("a job") }
        };
        futures::stream::iter((0..JOBS).map(create)).buffer_unordered(16).count().await;
        let bill = Bill::now();
        let path = env.plane.run_dir().path().join("busbar.db");
        let late = lateness(&env, &jobs, &LedgerUrl::Sqlite(path)).await;
        println!("{} runs of {JOBS} jobs, ms late: {late}; {}", late.len(), bill.since());
        figures.figure("sync.start_late_p99_ms", format_args!("{:.0}", late.percentile(99)), "ms");
    });
}

fn job(n: usize) -> SyncJob {
    let object = json!({
        "apiVersion": "busbar.dev/v1alpha1",
        "kind": "SyncJob",
        "metadata": { "name": format!("job-{n:03}") },
        "spec": {
            "connectionRef": { "name": format!("bank-{:05}", n % CONNECTIONS) },
            "stream": "documents",
            "parameters": { "path": format!("list-{n}") },
            "schedule": "* * * * *",
        },
    });
    serde_json::from_value(object).expect("a job")
}

/// How late the runs of a few minutes started, in milliseconds.
async fn lateness(env: &BenchEnv, jobs: &Api<SyncJob>, url: &LedgerUrl) -> Sample {
    let began = env.clock.mono();
    let wanted = JOBS * (RUNS + 1);
    let runs = loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ledger = ledger::open(url, OpenMode::ReadOnly).await.expect("the operator's ledger");
        let runs = ledger.newest_runs(Some(NAMESPACE), None, u32::MAX).await.expect("runs");
        ledger.close().await;
        if runs.len() >= wanted {
            break runs;
        }
        assert!(env.clock.mono().since(began) < TIMEOUT, "{} of {wanted} runs", runs.len());
    };
    let listed = jobs.list(&ListParams::default()).await.expect("jobs");
    let uids: HashMap<_, _> = listed.into_iter().map(|job| (job.name_any(), job.uid().expect("a UID"))).collect();
    let slots = runs.iter().filter_map(|run| run.run.slot);
    let first = slots.min().expect("a slot");
    let late = runs.iter().filter_map(|run| {
        let slot = run.run.slot.filter(|slot| *slot > first)?;
        let due = slot + jitter(MINUTE, JITTER_PERCENT, &uids[&*run.job.name]);
        Some(run.run.started.duration_since(due).as_secs_f64() * 1e3)
    });
    Sample::new(late.collect())
}
