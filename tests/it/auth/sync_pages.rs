//! Syncs whose credential expires, is refused or is replaced between two pages (sync.md's cases 8, 10, 11).

use std::sync::Arc;
use std::time::Duration;

use busbar::ledger::RunResult;
use busbar::provider::connection::Connection;
use busbar::provider::registry::Registry;
use busbar::settings::{Auth, Draft};
use busbar::sync::SyncPlan;
use busbar::testbed::sim::{
    AccountConfig, BankConfig, BankHandle, Behaviour, RequiredAuth, Rule, Script, ScriptStep, Sim,
};

use super::SecretStub;
use crate::kit::banks::{count_arrivals, start_bank};
use crate::kit::connections::{
    apply, client_credentials, key, profile_draft, registry, required_oauth2, required_oauth2_with, secret,
    token_client,
};
use crate::kit::sync_env::{SyncEnv, mono_plan};
use crate::kit::time::ManualTime;
use crate::kit::wait::eventually;

const ROWS: u64 = 1_000;

/// A bank with slow pages, the connection to it, and a job that reads its account into a ledger of its own.
struct SyncJobEnv {
    bank: BankHandle,
    registry: Registry,
    connection: Arc<Connection>,
    /// Empty: a refused call finds nothing new in it.
    secret: Arc<SecretStub>,
    sync: SyncEnv,
    plan: Arc<SyncPlan>,
    _sim: Sim,
    _folder: tempfile::TempDir,
}

impl SyncJobEnv {
    async fn new(required: RequiredAuth, auth: impl FnOnce(&BankHandle) -> Auth) -> Self {
        let account = AccountConfig { spacing_seconds: 60, ..AccountConfig::new("acc-1", ROWS) };
        let (sim, bank) = start_bank(BankConfig::new("bank").auth(required).accounts([account])).await;
        bank.set_script(slow_pages(Duration::from_millis(100))).await.unwrap();
        let (registry, _) = registry();
        let secret = SecretStub::install(&registry, None);
        let connection = apply(&registry, drafted(&bank, auth(&bank), "1"));
        let folder = tempfile::tempdir().unwrap();
        let sync = SyncEnv::open(&folder.path().join("ledger.db")).await;
        Self { bank, registry, connection, secret, sync, plan: mono_plan(&["acc-1"]), _sim: sim, _folder: folder }
    }

    /// A bank that issues tokens.
    async fn with_tokens(lifetime_seconds: u64) -> Self {
        Self::new(required_oauth2(lifetime_seconds), client_credentials).await
    }

    /// A bank that requires this key.
    async fn with_key(key: &str) -> Self {
        Self::new(RequiredAuth::mono(key), |_| api_key(key)).await
    }

    /// Starts a run and waits until two pages are read.
    async fn start(&self) {
        self.sync.start(&self.plan, &self.connection);
        eventually("two pages are read", async || self.pages() >= 2).await;
    }

    /// The result of the run that was started.
    async fn end(&self) -> Option<RunResult> {
        self.sync.finished(&self.plan).await.last[0].result
    }

    async fn run(&self) -> Option<RunResult> {
        self.sync.run(&self.plan, &self.connection).await.last[0].result
    }

    /// Applies another credential, as a new version of the Secret does.
    fn rotate(&self, auth: Auth) {
        apply(&self.registry, drafted(&self.bank, auth, "2"));
    }

    async fn rows(&self) -> u64 {
        self.sync.row_count().await
    }

    /// How many pages were requested.
    fn pages(&self) -> usize {
        count_arrivals(&self.bank, |arrival| arrival.path.contains("transactions"))
    }

    /// The pages that were requested, in order.
    fn page_numbers(&self) -> Vec<u32> {
        let arrivals = self.bank.arrivals().entries;
        let pages = arrivals.iter().filter(|arrival| arrival.path.contains("transactions"));
        pages.map(|arrival| arrival.query_value("page").map_or(1, |page| page.parse().unwrap())).collect()
    }

    /// How often the bank refused the credentials of a page.
    fn refused(&self) -> usize {
        count_arrivals(&self.bank, |arrival| arrival.path.contains("transactions") && arrival.status == Some(401))
    }
}

fn drafted(bank: &BankHandle, auth: Auth, revision: &str) -> Draft {
    let mut draft = profile_draft("mono", format!("{}/v2", bank.base_url()));
    draft.auth = auth;
    draft.credential_revision = format!("bank@{revision}");
    draft.retry.retries = 0;
    draft.limits.clear();
    draft
}

fn api_key(value: &str) -> Auth {
    Auth::Profile { headers: vec![("mono-sec-key".to_owned(), secret(value))], query: vec![], body: Vec::new() }
}

/// Each page takes a while, so that things happen between two.
fn slow_pages(delay: Duration) -> Script {
    Script { rules: vec![Rule::on("/v2", [ScriptStep::slow(delay)])] }
}

#[tokio::test]
async fn tokens_that_expire_between_pages_fail_no_page() {
    let time = ManualTime::start();
    let env = SyncJobEnv::with_tokens(2).await;
    // As many runs as it takes for some tokens to expire.
    for _ in 0..10 {
        assert_eq!(time.run(Duration::from_millis(100), env.run()).await, Some(RunResult::Succeeded));
        if env.bank.counters().tokens_issued >= 3 {
            break;
        }
        env.bank.set_script(slow_pages(Duration::from_millis(300))).await.unwrap();
    }
    assert!(env.bank.counters().tokens_issued >= 3);
    assert_eq!((env.rows().await, env.refused()), (ROWS, 0));
}

#[tokio::test]
async fn a_token_revoked_between_pages_costs_one_page_requested_twice() {
    let env = SyncJobEnv::with_tokens(3600).await;
    env.start().await;
    env.bank.revoke_tokens();
    assert_eq!(env.end().await, Some(RunResult::Succeeded));
    assert_eq!((env.rows().await, env.refused(), env.bank.counters().tokens_issued), (ROWS, 1, 2));
}

/// The account, four pages, and the fifth is refused once.
fn refuse_one_page() -> Script {
    let healthy = ScriptStep::from(Behaviour::Healthy);
    let steps = [healthy.clone().times(5), ScriptStep::from(Behaviour::status(401)).times(1), healthy];
    Script { rules: vec![Rule::on("/v2", steps)] }
}

#[tokio::test]
async fn a_401_on_one_page_costs_another_token() {
    let env = SyncJobEnv::with_tokens(3600).await;
    env.bank.set_script(refuse_one_page()).await.unwrap();
    assert_eq!((env.run().await, env.bank.counters().tokens_issued), (Some(RunResult::Succeeded), 2));
    assert_eq!((env.rows().await, env.refused()), (ROWS, 1));
}

#[tokio::test]
async fn a_401_on_one_page_ends_a_run_with_a_fixed_key() {
    let env = SyncJobEnv::with_key("canary-key").await;
    env.bank.set_script(refuse_one_page()).await.unwrap();
    assert_eq!(env.run().await, Some(RunResult::Failed));
    let before = env.rows().await;
    assert!(before > 0 && before < ROWS, "the pages before it are committed: {before}");
    let requested = env.pages();
    assert_eq!(env.run().await, Some(RunResult::Succeeded));
    let numbers = env.page_numbers();
    assert_eq!(numbers[..requested], [1, 2, 3, 4, 5]);
    assert_eq!(numbers[requested], 5, "at the page that was refused, because the list has its total: {numbers:?}");
    assert_eq!((env.rows().await, env.refused()), (ROWS, 1));
}

#[tokio::test]
async fn a_page_that_stays_refused_fails_the_run_after_two_tokens() {
    let env = SyncJobEnv::with_tokens(3600).await;
    let steps = [ScriptStep::from(Behaviour::Healthy).times(2), ScriptStep::from(Behaviour::status(401))];
    env.bank.set_script(Script { rules: vec![Rule::on("/v2", steps)] }).await.unwrap();
    assert_eq!(env.run().await, Some(RunResult::Failed));
    assert_eq!((env.refused(), env.bank.counters().tokens_issued), (2, 2));
    assert_eq!(env.connection.snapshot().authenticated, Some(false));
}

#[tokio::test]
async fn a_key_rotated_before_the_bank_rejects_the_old_one_fails_no_page() {
    let env = SyncJobEnv::with_key("canary-old").await;
    env.start().await;
    // Both at once, as far as any page shows: no request with the old key is in flight.
    env.bank.set_auth(&RequiredAuth::None).unwrap();
    env.rotate(api_key("canary-new"));
    let before = env.pages();
    eventually("pages are requested with the new key", async || env.pages() > before + 1).await;
    env.bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(env.end().await, Some(RunResult::Succeeded));
    assert_eq!((env.rows().await, env.refused()), (ROWS, 0));
}

#[tokio::test]
async fn a_key_rejected_before_its_rotation_fails_one_page() {
    let env = SyncJobEnv::with_key("canary-old").await;
    env.start().await;
    env.bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(env.end().await, Some(RunResult::Failed));
    assert_eq!(env.refused(), 1, "the call that revealed it");
    env.rotate(api_key("canary-new"));
    assert_eq!(env.run().await, Some(RunResult::Succeeded));
    assert_eq!((env.rows().await, env.refused()), (ROWS, 1));
}

#[tokio::test]
async fn a_key_already_in_the_secret_costs_one_page_requested_twice() {
    let env = SyncJobEnv::with_key("canary-old").await;
    env.secret.put(drafted(&env.bank, api_key("canary-new"), "2"));
    env.start().await;
    env.bank.set_auth(&RequiredAuth::mono("canary-new")).unwrap();
    assert_eq!(env.end().await, Some(RunResult::Succeeded), "without new settings of the connection");
    assert_eq!((env.rows().await, env.refused(), env.secret.reads()), (ROWS, 1, 1));
}

#[tokio::test]
async fn a_client_secret_rotated_during_a_run_fails_no_page() {
    let env = SyncJobEnv::with_tokens(3600).await;
    env.start().await;
    // A new client secret revokes the tokens of the old one, which the next page reveals: by then the new one is there.
    env.bank.set_auth(&required_oauth2_with("canary-rotated", 3600)).unwrap();
    let mut rotated = token_client(env.bank.token_url());
    rotated.client_secret = secret("canary-rotated");
    env.rotate(Auth::ClientCredentials(rotated));
    assert_eq!(env.end().await, Some(RunResult::Succeeded));
    assert_eq!(env.rows().await, ROWS);
    assert!(env.refused() <= 1, "no more than the call in flight");
    assert!(env.registry.get(&key("bank")).is_some());
}
