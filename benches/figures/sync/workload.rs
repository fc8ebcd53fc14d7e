//! Rows from a bank into a ledger: pages of a thousand over HTTP from a process of its own, the whole call path, transform,
//! validation, and one transaction for each page.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::event::EventGranularity;
use busbar::domain::key::ObjectKey;
use busbar::ledger::encryption::Keyring;
use busbar::ledger::{Ledger, RunId, RunResult, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profile, Profiles};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::sync_plan::{PlanEndpoint, RawRetention, RawStorage, ResyncPlan};
use busbar::settings::{Auth, Draft, Settings};
use busbar::sync::account_tokens::AccountTokens;
use busbar::sync::{MaskRules, Partition, RunLimits, SlaLimits, SyncPlan};
use busbar::testbed::control_plane::RunDir;
use busbar::work::pool::{PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;
use secrecy::SecretString;
use serde_json::json;

use crate::bank::SimBanks;

pub(super) const KEY: &str = "obviously-fake-mono-key";
/// Records of a page.
pub(super) const PAGE: u64 = 1_000;
/// The first run reads so many seconds.
const REACH: u64 = 2_160 * 3_600;

/// What a run does besides writing rows and cursor.
#[derive(Copy, Clone, Debug)]
pub(super) struct Extras {
    pub(super) events: EventGranularity,
    pub(super) raw: RawStorage,
}

impl Extras {
    /// One event for each page, no raw payloads.
    pub(super) const PLAIN: Self = Self { events: EventGranularity::Page, raw: RawStorage::Off };
    /// One event for each row, and the bodies encrypted.
    pub(super) const FULL: Self = Self { events: EventGranularity::Record, raw: RawStorage::Encrypted };
}

/// A bank with an account of many transactions, and the profile that reads it.
pub(super) struct Workload {
    pub(super) banks: SimBanks,
    pub(super) base_url: String,
    pub(super) rows: u64,
    pub(super) profile_file: std::path::PathBuf,
    profile: Arc<Profile>,
    keys: Keyring,
    pub(super) clock: Clock,
}

impl Workload {
    /// Starts the bank.
    pub(super) async fn start(directory: &Arc<RunDir>, rows: u64) -> Self {
        let banks = SimBanks::start(directory).await;
        let bank = json!({
            "name": "bank",
            "auth": { "apiKeyHeader": { "name": "mono-sec-key", "value": KEY } },
            "accounts": [{ "id": "acc-1", "transactions": rows, "spacingSeconds": REACH * 9 / 10 / rows }],
            "logCapacity": 1,
        });
        let base_url = banks.bank(&bank).await.http;
        let profiles = directory.path().join("profiles");
        let profile_file = large_pages(&profiles);
        let profile = Profiles::builtin().expect("profiles").add_custom(&profile_file).expect("the profile");
        let keys = directory.path().join("keys");
        std::fs::create_dir_all(&keys).expect("a folder");
        std::fs::write(keys.join("bench"), [7; 32]).expect("a key");
        let keys = Keyring::open(&keys).expect("the key");
        Self { banks, base_url, rows, profile_file, profile, keys, clock: Clock::system() }
    }

    fn plan(&self, extras: Extras, resync: Option<ResyncPlan>) -> SyncPlan {
        SyncPlan {
            job: ObjectKey::new("bench", "books"),
            connection: "bank".into(),
            provider: "mono".into(),
            environment: "Sandbox".into(),
            stream_name: "transactions".into(),
            stream: Arc::clone(&self.profile.streams["transactions"]),
            endpoint: PlanEndpoint { base_url: self.base_url.parse().expect("a URL"), secret_query: Vec::new() },
            request_id_header: self.profile.correlation.clone(),
            partitions: vec![Partition {
                name: String::new(),
                parameters: [("accountId".to_owned(), "acc-1".to_owned())].into(),
            }],
            start: None,
            lookback: None,
            commit_scope: self.profile.streams["transactions"].commit_scope,
            run_timeout: Duration::from_mins(30),
            dead_letter_budget_percent: 10,
            mask: MaskRules::default(),
            validations: Arc::default(),
            raw: RawRetention { mode: extras.raw, ttl: Duration::from_hours(24) },
            events: extras.events,
            dry_run: false,
            limits: RunLimits::default(),
            sla: SlaLimits::default(),
            resync,
            partitions_from: None,
        }
    }

    /// A run into `ledger`; returns how long it took.
    pub(super) async fn run(&self, ledger: &Arc<dyn Ledger>, extras: Extras) -> Duration {
        self.run_plan(ledger, self.plan(extras, None), RunTrigger::Manual).await
    }

    /// Reads everything again, by a resync of the whole range.
    pub(super) async fn resync(&self, ledger: &Arc<dyn Ledger>, extras: Extras) -> Duration {
        let to = self.clock.now().wall;
        let reach = jiff::SignedDuration::from_secs(i64::try_from(REACH).unwrap_or(i64::MAX));
        let from = to.checked_sub(reach).expect("an instant");
        let plan = ResyncPlan { id: "bench".into(), from, to, partitions: Vec::new() };
        self.run_plan(ledger, self.plan(extras, Some(plan)), RunTrigger::Resync).await
    }

    async fn run_plan(&self, ledger: &Arc<dyn Ledger>, plan: SyncPlan, trigger: RunTrigger) -> Duration {
        let mut draft = Draft::new(Arc::clone(&self.profile), Environment::Sandbox);
        draft.base_url = format!("{}/v2", self.base_url);
        draft.auth = Auth::Profile {
            headers: vec![("mono-sec-key".to_owned(), SecretString::from(KEY))],
            query: vec![],
            body: vec![],
        };
        let metrics = Metrics::new();
        let registry = Registry::new(self.clock, &metrics, RegistryOptions::allowing_loopback()).expect("a registry");
        let settings = Settings::resolve(draft).expect("settings");
        let connection = registry.apply(&ObjectKey::new("bench", "bank"), "uid", settings, None);
        let queue = ReconcileQueue::new();
        let options =
            PoolOptions { account_tokens: AccountTokens::new(self.keys.clone()), ..PoolOptions::new("bench") };
        let pool = SyncPool::new(Arc::clone(ledger), queue.clone(), self.clock, &metrics, options).expect("a pool");
        let mut ended = std::pin::pin!(queue.subscribe(Kind::SyncJob, None));
        let request = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger, slot: None };
        let plan = Arc::new(plan);
        let began = self.clock.mono();
        assert_eq!(pool.start(Arc::clone(&plan), connection, request), StartOutcome::Accepted);
        // The job is enqueued when the start of the run is stored, too.
        let (took, view) = loop {
            ended.next().await.expect("the run ends");
            let took = self.clock.mono().since(began);
            let view = pool.view(&plan.job, 1).await.expect("the run's record");
            if view.last[0].result.is_some() {
                break (took, view);
            }
        };
        assert_eq!(view.last[0].result, Some(RunResult::Succeeded), "{:?}", view.last_outcome);
        assert_eq!(view.last[0].counts.fetched, self.rows, "every record was read");
        took
    }
}

/// The profile of Mono with pages of [`PAGE`] records, in a file of this folder.
fn large_pages(folder: &Path) -> std::path::PathBuf {
    let text = include_str!("../../../src/profile/builtin/mono.yaml");
    let changed = text.replacen("id: mono\n", "id: mono-large\n", 1).replacen(
        "      size: 100\n",
        &format!("      size: {PAGE}\n"),
        1,
    );
    assert!(changed.contains("id: mono-large") && changed.contains(&format!("size: {PAGE}")), "the profile of Mono");
    std::fs::create_dir_all(folder).expect("a folder");
    let file = folder.join("mono-large.yaml");
    std::fs::write(&file, changed).expect("the profile");
    file
}
