//! Walks through pages while a credential ends, is refused, or is changed under them (sync.md's cases 8, 10, 11).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::key::ObjectKey;
use busbar::ledger::record::TransactionFilter;
use busbar::ledger::sqlite::SqliteLedger;
use busbar::ledger::{Ledger as _, RunId, RunResult, RunTrigger};
use busbar::metrics::Metrics;
use busbar::profile::{Environment, Profiles};
use busbar::provider::auth::secret_source::SecretSource;
use busbar::provider::connection::Connection;
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::settings::{Auth, Draft, Settings};
use busbar::sync::SyncPlan;
use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, RequiredAuth, Rule, Script, ScriptStep, Sim,
};
use busbar::work::pool::{JobView, PoolOptions, RunRequest, StartOutcome, SyncPool};
use busbar::work::reconcile_queue::{Kind, ReconcileQueue};
use futures::StreamExt as _;

use super::rotated::Kept;
use super::{client, registry, secret};
use crate::call_path::{bank, eventually, key};
use crate::sync::plan;

const ROWS: u64 = 1_000;

struct Job {
    ledger: Arc<SqliteLedger>,
    pool: SyncPool,
    reconcile_queue: ReconcileQueue,
    plan: Arc<SyncPlan>,
}

impl Job {
    async fn at(folder: &Path) -> Self {
        let ledger = Arc::new(SqliteLedger::open(folder.join("ledger.db")).await.unwrap());
        let reconcile_queue = ReconcileQueue::new();
        let options = PoolOptions::new("the-operator");
        let pool =
            SyncPool::new(ledger.clone(), reconcile_queue.clone(), Clock::system(), &Metrics::new(), options).unwrap();
        Self { ledger, pool, reconcile_queue, plan: plan(&["acc-1"]) }
    }

    fn start(&self, live: &Arc<Connection>) {
        let order = RunRequest { run: RunId(uuid::Uuid::new_v4()), trigger: RunTrigger::Manual, slot: None };
        assert_eq!(self.pool.start(self.plan.clone(), live.clone(), order), StartOutcome::Accepted);
    }

    /// The end of the run that was started.
    async fn end(&self) -> JobView {
        let mut reconcile_queue = std::pin::pin!(self.reconcile_queue.subscribe(Kind::SyncJob, None));
        tokio::time::timeout(Duration::from_mins(2), reconcile_queue.next()).await.unwrap().unwrap();
        self.pool.view(&self.plan.job, 100).await.unwrap()
    }

    async fn run(&self, live: &Arc<Connection>) -> Option<RunResult> {
        self.start(live);
        self.end().await.last[0].result
    }

    async fn rows(&self) -> u64 {
        self.ledger.count_transactions(&TransactionFilter::default()).await.unwrap()
    }
}

fn settings(bank: &BankHandle, auth: Auth, revision: &str) -> Settings {
    Settings::resolve(drafted(bank, auth, revision)).unwrap()
}

fn drafted(bank: &BankHandle, auth: Auth, revision: &str) -> Draft {
    let profile = Profiles::builtin().unwrap().get("mono").unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.base_url = format!("{}/v2", bank.base_url());
    draft.auth = auth;
    draft.credential_revision = format!("bank@{revision}");
    draft.retry.retries = 0;
    draft.limits.clear();
    draft
}

fn put(registry: &Registry, settings: Settings) -> Arc<Connection> {
    registry.apply(&ObjectKey::new("treasury", "bank"), "uid-1", settings, None)
}

fn api_key(value: &str) -> Auth {
    Auth::Profile { headers: vec![("mono-sec-key".to_owned(), secret(value))], query: vec![] }
}

fn tokens(bank: &BankHandle) -> Auth {
    Auth::ClientCredentials(client(bank.token_url()))
}

fn issues(seconds: u64, client_secret: &str) -> RequiredAuth {
    RequiredAuth::OAuth2 {
        client_id: "canary-client".to_owned(),
        client_secret: client_secret.to_owned(),
        expires_in_seconds: seconds,
    }
}

/// A bank with one account; each page takes a while, so that things happen between two.
async fn slow_bank(wants: RequiredAuth) -> (Sim, BankHandle) {
    let account = AccountConfig { spacing_seconds: 60, ..AccountConfig::new("acc-1", ROWS) };
    let (sim, bank) = bank(BankConfig::new("bank").auth(wants).accounts([account])).await;
    bank.set_script(slowly()).await.unwrap();
    (sim, bank)
}

fn slowly() -> Script {
    Script { rules: vec![Rule::on("/v2", [ScriptStep::slow(Duration::from_millis(100))])] }
}

fn pages(bank: &BankHandle) -> usize {
    bank.arrivals().entries.iter().filter(|arrival| arrival.path.contains("transactions")).count()
}

async fn some_pages(bank: &BankHandle) {
    eventually("two pages are read", async || pages(bank) >= 2).await;
}

/// The pages that were asked for, in order.
fn walked(bank: &BankHandle) -> Vec<u32> {
    let arrivals = bank.arrivals().entries;
    let pages = arrivals.iter().filter(|arrival| arrival.path.contains("transactions"));
    pages.map(|arrival| arrival.query_value("page").map_or(1, |page| page.parse().unwrap())).collect()
}

/// How often the bank refused a page's credentials.
fn refused(bank: &BankHandle) -> usize {
    bank.arrivals().entries.iter().filter(|a| a.path.contains("transactions") && a.status == Some(401)).count()
}

#[tokio::test]
async fn tokens_that_end_between_pages_are_replaced_before_any_page_is_refused() {
    let (_sim, bank) = slow_bank(issues(2, "canary-secret")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, tokens(&bank), "1"));
    // As many walks as it takes for some tokens to end.
    for _ in 0..10 {
        assert_eq!(job.run(&live).await, Some(RunResult::Succeeded));
        if bank.counters().tokens_issued >= 3 {
            break;
        }
        bank.set_script(Script { rules: vec![Rule::on("/v2", [ScriptStep::slow(Duration::from_millis(300))])] })
            .await
            .unwrap();
    }
    assert!(bank.counters().tokens_issued >= 3);
    assert_eq!((job.rows().await, refused(&bank)), (ROWS, 0));
}

#[tokio::test]
async fn a_token_that_the_bank_ends_between_pages_costs_one_page_asked_twice() {
    let (_sim, bank) = slow_bank(issues(3600, "canary-secret")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, tokens(&bank), "1"));
    job.start(&live);
    some_pages(&bank).await;
    bank.revoke_tokens();
    assert_eq!(job.end().await.last[0].result, Some(RunResult::Succeeded));
    assert_eq!((job.rows().await, refused(&bank), bank.counters().tokens_issued), (ROWS, 1, 2));
}

#[tokio::test]
async fn a_401_on_one_page_only_is_healed_by_one_token_and_ends_a_run_with_a_fixed_key_which_goes_on_there() {
    for (wants, fixed) in [(issues(3600, "canary-secret"), false), (RequiredAuth::mono("canary-key"), true)] {
        let (_sim, bank) = slow_bank(wants).await;
        let folder = tempfile::tempdir().unwrap();
        let job = Job::at(folder.path()).await;
        let (registry, _) = registry(RegistryOptions::allowing_loopback());
        let auth = if fixed { api_key("canary-key") } else { tokens(&bank) };
        let live = put(&registry, settings(&bank, auth, "1"));
        // The account, four pages, and the fifth is refused once.
        let well = ScriptStep::from(Behaviour::Healthy);
        let steps = [well.clone().times(5), ScriptStep::from(Behaviour::status(401)).times(1), well];
        bank.set_script(Script { rules: vec![Rule::on("/v2", steps)] }).await.unwrap();
        let first = job.run(&live).await;
        if fixed {
            assert_eq!(first, Some(RunResult::Failed));
            let before = job.rows().await;
            assert!(before > 0 && before < ROWS, "pages before it are in: {before}");
            let asked = pages(&bank);
            assert_eq!(job.run(&live).await, Some(RunResult::Succeeded));
            let walked = walked(&bank);
            assert_eq!(walked[..asked], [1, 2, 3, 4, 5]);
            assert_eq!(walked[asked], 4, "one page of overlap, and not from the beginning: {walked:?}");
        } else {
            assert_eq!((first, bank.counters().tokens_issued), (Some(RunResult::Succeeded), 2));
        }
        assert_eq!((job.rows().await, refused(&bank)), (ROWS, 1));
    }
}

#[tokio::test]
async fn a_page_that_is_refused_for_good_is_asked_for_twice_with_tokens_and_the_run_fails() {
    let (_sim, bank) = slow_bank(issues(3600, "canary-secret")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, tokens(&bank), "1"));
    let steps = [ScriptStep::from(Behaviour::Healthy).times(2), ScriptStep::from(Behaviour::status(401))];
    bank.set_script(Script { rules: vec![Rule::on("/v2", steps)] }).await.unwrap();
    assert_eq!(job.run(&live).await, Some(RunResult::Failed));
    assert_eq!((refused(&bank), bank.counters().tokens_issued), (2, 2));
    assert_eq!(live.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn a_key_rotated_in_the_secret_before_the_bank_drops_the_old_one_fails_no_page() {
    let (_sim, bank) = slow_bank(RequiredAuth::mono("canary-old")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, api_key("canary-old"), "1"));
    job.start(&live);
    some_pages(&bank).await;
    // Both at once, as far as any page can see: nothing is on its way with the old one.
    bank.set_auth(&RequiredAuth::None).unwrap();
    put(&registry, settings(&bank, api_key("canary-new"), "2"));
    let before = pages(&bank);
    eventually("pages are asked for with the new key", async || pages(&bank) > before + 1).await;
    bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(job.end().await.last[0].result, Some(RunResult::Succeeded));
    assert_eq!((job.rows().await, refused(&bank)), (ROWS, 0));
}

#[tokio::test]
async fn a_key_that_the_bank_drops_first_fails_one_page_and_the_new_one_goes_on_there() {
    let (_sim, bank) = slow_bank(RequiredAuth::mono("canary-old")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, api_key("canary-old"), "1"));
    job.start(&live);
    some_pages(&bank).await;
    bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(job.end().await.last[0].result, Some(RunResult::Failed));
    assert_eq!(refused(&bank), 1, "the call that revealed it");
    put(&registry, settings(&bank, api_key("canary-new"), "2"));
    assert_eq!(job.run(&live).await, Some(RunResult::Succeeded));
    assert_eq!((job.rows().await, refused(&bank)), (ROWS, 1));
}

#[tokio::test]
async fn a_key_that_stands_in_the_secret_before_the_bank_drops_the_old_one_costs_one_page_asked_twice() {
    let (_sim, bank) = slow_bank(RequiredAuth::mono("canary-old")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let kept = Kept::with(Some(drafted(&bank, api_key("canary-new"), "2")));
    registry.set_secret_source(Arc::clone(&kept) as Arc<dyn SecretSource>);
    let live = put(&registry, settings(&bank, api_key("canary-old"), "1"));
    job.start(&live);
    some_pages(&bank).await;
    bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(job.end().await.last[0].result, Some(RunResult::Succeeded), "nobody had to change the connection");
    assert_eq!((job.rows().await, refused(&bank), kept.reads()), (ROWS, 1, 1));
}

#[tokio::test]
async fn a_client_secret_rotated_mid_run_fails_no_page() {
    let (_sim, bank) = slow_bank(issues(3600, "canary-secret")).await;
    let folder = tempfile::tempdir().unwrap();
    let job = Job::at(folder.path()).await;
    let (registry, _) = registry(RegistryOptions::allowing_loopback());
    let live = put(&registry, settings(&bank, tokens(&bank), "1"));
    job.start(&live);
    some_pages(&bank).await;
    // Whoever is given a new secret has his old tokens ended, which the next page reveals: by then the new one is here.
    bank.set_auth(&issues(3600, "canary-rotated")).unwrap();
    let Auth::ClientCredentials(mut rotated) = tokens(&bank) else { unreachable!() };
    rotated.client_secret = secret("canary-rotated");
    put(&registry, settings(&bank, Auth::ClientCredentials(rotated), "2"));
    assert_eq!(job.end().await.last[0].result, Some(RunResult::Succeeded));
    assert_eq!(job.rows().await, ROWS);
    assert!(refused(&bank) <= 1, "no more than the call that was on its way");
    assert!(registry.get(&key("bank")).is_some());
}
