//! The payout clock beside a hundred thousand open payouts: what a look at the queue costs while nothing is due, how
//! late things are done while they fall due evenly over half an hour, and the memory of the process.
//!
//! The clock is a process of its own (this program again, with [`FLAG`]) over a SQLite ledger with `synchronous=FULL`,
//! and asks a simulated bank over a real socket. Its wall clock begins where the first payout is about to become due.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::breaker::OnUnhealthy;
use busbar::domain::canonical::sha256;
use busbar::domain::decision::{ALGORITHM, DecisionRecord, DecisionRequest, RecordKind, Usage};
use busbar::domain::money::Currency;
use busbar::domain::payout::{AttemptPlan, BankPromises, NewPayout, Payout, StuckRules, register};
use busbar::domain::route;
use busbar::ledger::decisions::{DecisionBatch, EncodedSnapshot, EntryOutcome, NewDecision, NewEntry};
use busbar::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, Registration};
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::profile::{CheckMode, Environment, Profile};
use busbar::provider::payouts::{NextAttempts, PayoutMetrics, RegistryBanks};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Draft, Settings};
use busbar::tasks::TaskGroup;
use busbar::testbed::sim::{BankConfig, Sim, SimConfig};
use busbar::work::payouts::{Follower, PayoutClock, PayoutDeps};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Figures;
use crate::machine::{cpu_seconds, memory_mib};

/// Marks a run of this program as the clock; the ledger's file and the bank's URL follow.
pub(crate) const FLAG: &str = "--payout-clock";

/// Open payouts.
const PAYOUTS: u64 = 100_000;
/// Payouts of one transaction.
const BATCH: u64 = 250;
/// Over this time all of them become due, evenly.
const SPREAD: SignedDuration = SignedDuration::from_mins(30);
/// The clock runs for so long before the first of them is due; the first seconds are not measured.
const IDLE: Duration = Duration::from_secs(35);
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED_IDLE: Duration = Duration::from_secs(25);
/// Longest time between two looks at the queue: that is how often the clock looks while nothing is due.
const LOOK: f64 = 10.0;
/// How long things are done that are due.
const BUSY: Duration = Duration::from_secs(30);
const BANK: &str = "bank-a";
const NAMESPACE: &str = "payments";

/// The wall time at which the clock begins.
fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(crate) fn run(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ledger.db");
    let output = runtime.block_on(async {
        fill(&file).await;
        let sim = Sim::start(SimConfig::default()).await.expect("a simulator");
        let bank = sim.add_bank(BankConfig::new(BANK)).await.expect("a bank");
        tokio::process::Command::new(std::env::current_exe().expect("the path of this program"))
            .args([FLAG.as_ref(), file.as_os_str(), bank.base_url().as_ref()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await
            .expect("the clock runs")
    });
    assert!(output.status.success(), "the clock failed: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<f64> = text.split_whitespace().filter_map(|value| value.parse().ok()).collect();
    let [tick_cpu_ms, due_lag_p99_s, done, rss_mib] = values[..] else { panic!("four numbers, not {text:?}") };
    println!("{PAYOUTS} open payouts; {done} of them became due and were asked about in {} s", BUSY.as_secs());
    figures.figure("payouts.tick_cpu_ms", format_args!("{tick_cpu_ms:.1}"), "ms");
    figures.figure("payouts.due_lag_p99_s", format_args!("{due_lag_p99_s:.3}"), "s");
    figures.figure("payouts.rss_mib", format_args!("{rss_mib:.0}"), "MiB");
}

/// Registers the payouts, whose first inquiries are due one after another.
async fn fill(file: &Path) {
    let ledger = open(file.to_owned()).await;
    let first_due = start() + SignedDuration::try_from(IDLE).expect("a short time");
    for batch in 0..PAYOUTS / BATCH {
        let entries: Vec<NewEntry> = (batch * BATCH..(batch + 1) * BATCH).map(|n| entry(n, first_due)).collect();
        let outcomes = ledger.commit_decisions(Arc::new(DecisionBatch { entries })).await.expect("a commit");
        let stored = |outcome: &EntryOutcome| matches!(outcome, EntryOutcome::Payout(PayoutOutcome::Stored { .. }));
        assert!(outcomes.iter().all(stored), "{outcomes:?}");
    }
    ledger.close().await;
}

async fn open(file: PathBuf) -> Arc<dyn Ledger> {
    ledger::open(&LedgerUrl::Sqlite(file), OpenMode::Migrate).await.expect("a ledger")
}

/// The registration of payout `n`.
fn entry(n: u64, first_due: Timestamp) -> NewEntry {
    let rules = StuckRules::default();
    let share = SPREAD.as_millis() * i128::from(n) / i128::from(PAYOUTS);
    let due = first_due + SignedDuration::from_millis(i64::try_from(share).expect("within the spread"));
    let send_by = due - SignedDuration::try_from(rules.after).expect("a short time");
    let at = send_by - SignedDuration::from_secs(60);
    let currency = Currency::parse("EUR").expect("a currency");
    let payout_id = format!("payout-{n}");
    let request = DecisionRequest {
        attempt_no: 1,
        namespace: NAMESPACE.to_owned(),
        payout: route::Payout { amount: Decimal::ONE_HUNDRED, country: None, currency, merchant: None, rail: None },
        payout_id: payout_id.clone(),
        rates: Vec::new(),
        route: Some("payouts".to_owned()),
    };
    let snapshot = Arc::new(EncodedSnapshot { id: sha256(b"bench"), body: b"bench".to_vec() });
    let record = DecisionRecord {
        algorithm: ALGORITHM,
        at,
        candidate: BANK.to_owned(),
        expires_at: send_by,
        id: Uuid::from_u128((1_u128 << 120) | u128::from(n)),
        kind: RecordKind::Decision,
        reason: None,
        request: request.clone(),
        request_id: None,
        reserved: None,
        snapshot: snapshot.id,
        subject: "bench".to_owned(),
        supersedes: None,
        usage: Usage::default(),
    };
    let new = NewPayout {
        amount: Decimal::ONE_HUNDRED,
        currency,
        namespace: NAMESPACE.to_owned(),
        payout_id,
        route: "payouts".to_owned(),
        rules,
    };
    let plan = AttemptPlan {
        attempt_no: 1,
        bank: BANK.to_owned(),
        candidate: BANK.to_owned(),
        decision_id: record.id,
        promises: BankPromises { inquiry: true, recall: true, ..BankPromises::default() },
        send_by,
    };
    let request_hash = request.hash();
    let registration = Registration { idempotency_key: None, request_hash };
    let payout = PayoutCommit::new(PayoutAct::Register, "bench", 0, &register(new, plan, at), at);
    let decision = NewDecision {
        body: record.encode(),
        key: request.key(),
        limit: None,
        record: Arc::new(record),
        request_hash,
        route: "payouts".to_owned(),
        snapshot,
    };
    NewEntry::Attempt { decision: Box::new(decision), payout: Box::new(payout.registering(registration)) }
}

/// Decides nothing: no payout here is proven not to have been executed.
struct NoAttempts;

impl NextAttempts for NoAttempts {
    fn decide<'a>(&'a self, _: &'a Payout, _: u32) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }
}

/// The clock itself: measures, and prints the milliseconds of CPU of a look, the lag, how many were done, and the
/// memory.
pub(crate) fn serve(file: &Path, bank: &Path) -> ExitCode {
    // As the operator's runtime is made.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (clock, metrics, tasks) = (Clock::starting_at(start()), Metrics::new(), TaskGroup::default());
        let ledger = open(file.to_owned()).await;
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).expect("a registry");
        let key = busbar::domain::key::ObjectKey::new(NAMESPACE, BANK);
        registry.apply(&key, "uid", Settings::resolve(draft(&bank.to_string_lossy())).expect("settings"), None);
        let deps = PayoutDeps {
            banks: Arc::new(RegistryBanks::new(registry, clock)),
            clock,
            counts: PayoutMetrics::new(&metrics).expect("metrics"),
            ledger: Arc::clone(&ledger),
            next: Arc::new(NoAttempts),
            tasks: tasks.clone(),
        };
        let follower = Follower::new(deps, &metrics).expect("metrics");
        let stop = CancellationToken::new();
        tasks.spawn("payout clock", PayoutClock::new(follower, "bench", tasks.clone()).run(stop.clone()));

        let pid = std::process::id();
        tokio::time::sleep(WARM_UP).await;
        let before = cpu_seconds(pid);
        tokio::time::sleep(MEASURED_IDLE).await;
        let looks = MEASURED_IDLE.as_secs_f64() / LOOK;
        let tick_cpu_ms = (cpu_seconds(pid) - before) * 1000.0 / looks;
        tokio::time::sleep(IDLE.saturating_sub(WARM_UP + MEASURED_IDLE) + BUSY).await;
        let (lag, done) = p99(&metrics.render().expect("metrics"));
        println!("{tick_cpu_ms} {lag} {done} {}", memory_mib(pid, "VmHWM"));
        stop.cancel();
        tasks.wait().await;
        ledger.close().await;
    });
    ExitCode::SUCCESS
}

fn draft(base_url: &str) -> Draft {
    let text = include_str!("../../hack/demo/profiles/payout-bank.yaml");
    let profile = Profile::parse("payout-bank.yaml", text).expect("a profile");
    let mut draft = Draft::new(Arc::new(profile), Environment::Sandbox);
    base_url.clone_into(&mut draft.base_url);
    draft.health_check.mode = CheckMode::Passive;
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft
}

/// The 99th percentile of the lag, interpolated within its bucket, and how many values there are.
fn p99(metrics: &str) -> (f64, f64) {
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let (bound, count) = line.strip_prefix("busbar_payout_due_lag_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.trim().parse().ok()?))
        })
        .collect();
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    let (mut below, mut from) = (0.0, 0.0);
    for (bound, count) in buckets {
        if count >= all * 0.99 && count > below {
            let share = (all * 0.99 - below).max(0.0) / (count - below);
            return (if bound.is_finite() { from + (bound - from) * share } else { f64::INFINITY }, all);
        }
        (below, from) = (count, bound);
    }
    (f64::NAN, all)
}
