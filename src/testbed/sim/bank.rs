//! One bank: its state, and the handle through which tests and the control API change it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::testbed::payouts::OrderStatus;
use crate::testbed::sim::arrivals::{ArrivalRing, Arrivals};
use crate::testbed::sim::auth::{CredentialCheck, IssuedTokens, RequiredAuth};
use crate::testbed::sim::config::BankConfig;
use crate::testbed::sim::counters::{CounterSnapshot, Counters};
use crate::testbed::sim::engine::ScriptEngine;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::oauth::TOKEN_PATH;
use crate::testbed::sim::payout_desk::{PayoutBooks, PayoutConfig, PayoutDesk};
use crate::testbed::sim::payout_notices::{self, Noticed};
use crate::testbed::sim::script::{Script, ScriptError};
use crate::testbed::sim::transactions::{Account, AccountConfig, Transaction};

/// The state of one bank, shared by its listener, its connections and its handles.
pub(crate) struct Bank {
    pub(crate) config: BankConfig,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) tls: TlsAcceptor,
    pub(crate) tokens: IssuedTokens,
    pub(crate) counters: Counters,
    pub(crate) arrivals: Mutex<ArrivalRing>,
    /// The kind of the required credentials, and the prepared check.
    credentials: RwLock<(&'static str, Arc<CredentialCheck>)>,
    pub(crate) accounts: RwLock<BTreeMap<String, Account>>,
    pub(crate) payouts: Mutex<PayoutDesk>,
    engine: Mutex<ScriptEngine>,
    /// False while the script is empty: a healthy request then takes no lock for the script.
    has_script: AtomicBool,
    /// Version of the script, incremented with each change.
    pub(crate) script_version: watch::Sender<u64>,
    /// The script version that the listener has applied.
    pub(crate) applied_version: watch::Sender<u64>,
    /// Stops the bank.
    pub(crate) stop: CancellationToken,
}

/// Takes a lock even if a holder has panicked: no state here can be left partly changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bank {
    pub(crate) fn new(
        config: BankConfig,
        clock: Clock,
        address: SocketAddr,
        tls: TlsAcceptor,
        stop: CancellationToken,
    ) -> Result<Self, SimError> {
        let now = clock.now();
        let engine = ScriptEngine::new(config.script.clone(), config.seed, now.mono)?;
        let check = CredentialCheck::try_from(&config.auth)?;
        let accounts = config.accounts.iter().map(|a| (a.id.clone(), Account::new(a.clone(), now.wall))).collect();
        Ok(Self {
            clock,
            address,
            tls,
            tokens: IssuedTokens::default(),
            counters: Counters::default(),
            arrivals: Mutex::new(ArrivalRing::new(config.log_capacity)),
            credentials: RwLock::new((config.auth.kind(), Arc::new(check))),
            accounts: RwLock::new(accounts),
            payouts: Mutex::new(PayoutDesk::new(&config.payouts)),
            has_script: AtomicBool::new(!engine.is_empty()),
            engine: Mutex::new(engine),
            script_version: watch::Sender::new(0),
            applied_version: watch::Sender::new(0),
            stop,
            config,
        })
    }

    /// The script engine, unless the script is empty.
    pub(crate) fn engine(&self) -> Option<MutexGuard<'_, ScriptEngine>> {
        self.has_script.load(Ordering::Acquire).then(|| lock(&self.engine))
    }

    pub(crate) fn credential_check(&self) -> Arc<CredentialCheck> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn start_script(&self, script: Script) -> Result<(), ScriptError> {
        let engine = ScriptEngine::new(script, self.config.seed, self.clock.mono())?;
        self.has_script.store(!engine.is_empty(), Ordering::Release);
        *lock(&self.engine) = engine;
        self.script_version.send_modify(|n| *n += 1);
        Ok(())
    }
}

/// A handle of a bank. Cheap to clone; the bank runs until `Sim::remove_bank` or until its simulator is dropped.
#[derive(Clone)]
pub struct BankHandle {
    pub(crate) bank: Arc<Bank>,
    ca_pem: Arc<str>,
}

impl std::fmt::Debug for BankHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BankHandle").field(&self.bank.config.name).field(&self.bank.address).finish()
    }
}

impl BankHandle {
    pub(crate) fn new(bank: Arc<Bank>, ca_pem: Arc<str>) -> Self {
        Self { bank, ca_pem }
    }

    /// The bank's name.
    pub fn name(&self) -> &str {
        &self.bank.config.name
    }

    /// The address on which it listens unless it is down.
    pub fn address(&self) -> SocketAddr {
        self.bank.address
    }

    /// Base URL over plain HTTP, without a trailing slash.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.bank.address)
    }

    /// Base URL over HTTPS: the same port.
    pub fn https_url(&self) -> String {
        format!("https://{}", self.bank.address)
    }

    /// Base URL with a label, for many connections that share this bank: every path also works below `/c/{label}`.
    pub fn labelled_url(&self, label: &str) -> String {
        format!("{}/c/{label}", self.base_url())
    }

    /// URL of the token endpoint over plain HTTP.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.base_url())
    }

    /// The CA certificate that clients of [`Self::https_url`] must trust, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Starts `script`; it is in force when this returns, also for open connections.
    ///
    /// [`Self::fail_with`] does the same under a name that reads better with a single behaviour or step.
    pub async fn set_script(&self, script: impl Into<Script>) -> Result<(), ScriptError> {
        self.bank.start_script(script.into())?;
        let version = *self.bank.script_version.borrow();
        let mut applied = self.bank.applied_version.subscribe();
        tokio::select! {
            _ = applied.wait_for(|n| *n >= version) => {}
            () = self.bank.stop.cancelled() => {}
        }
        Ok(())
    }

    /// Makes the bank fail: with one behaviour (permanently), a step or a whole script.
    pub async fn fail_with(&self, script: impl Into<Script>) -> Result<(), ScriptError> {
        self.set_script(script).await
    }

    /// Makes the bank healthy. Stalled requests stay stalled.
    pub async fn recover(&self) {
        // The empty script is always valid.
        let _valid = self.set_script(Script::default()).await;
    }

    /// Requires other credentials from now on and revokes the issued tokens.
    pub fn set_auth(&self, auth: &RequiredAuth) -> Result<(), SimError> {
        let check = Arc::new(CredentialCheck::try_from(auth)?);
        *self.bank.credentials.write().unwrap_or_else(PoisonError::into_inner) = (auth.kind(), check);
        self.revoke_tokens();
        self.bank.tokens.reset_refresh_token();
        Ok(())
    }

    /// The kind of credentials that it requires.
    pub fn auth_kind(&self) -> &'static str {
        self.bank.credentials.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Revokes all issued access tokens: requests with one receive 401.
    pub fn revoke_tokens(&self) {
        self.bank.tokens.revoke();
    }

    /// Adds an account, or replaces the one with the same id.
    pub fn put_account(&self, config: AccountConfig) {
        let account = Account::new(config, self.bank.clock.now().wall);
        let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.insert(account.config.id.clone(), account);
    }

    /// Adds transactions to an account; one with a known id replaces the existing one. False if there is no such
    /// account.
    pub fn put_transactions(&self, account: &str, transactions: Vec<Transaction>) -> bool {
        let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(account).map(|a| a.upsert(transactions)).is_some()
    }

    /// What the bank's own books say of payouts now.
    pub fn payout_books(&self) -> PayoutBooks {
        lock(&self.bank.payouts).books(self.bank.clock.now().wall)
    }

    /// Changes what becomes of the payouts that arrive from now on. Its memory of keys and its lag stay.
    pub fn set_payouts(&self, config: PayoutConfig) {
        lock(&self.bank.payouts).configure(config);
    }

    /// Says now, without being asked, that a payout has this ISO 20022 status, whatever is in the books; `None` says what is in
    /// them. Returns the receiver's status, or `None` without an answer or a receiver.
    pub async fn say_of_payout(&self, payout_id: &str, end_to_end_id: &str, status: Option<&str>) -> Option<u16> {
        let clock = self.bank.clock;
        let (config, booked) = {
            let desk = lock(&self.bank.payouts);
            (desk.config.notices.clone()?, desk.bank.booked(end_to_end_id, clock.now().wall))
        };
        let order = Noticed { payout_id: payout_id.to_owned(), reference: end_to_end_id.to_owned() };
        let status = status.or(booked.map(OrderStatus::iso))?;
        self.bank.stop.run_until_cancelled(payout_notices::say(&config, &order, clock, status)).await.flatten()
    }

    /// All stored arrivals.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals_since(0)
    }

    /// The stored arrivals from sequence number `since` on; pass the `next` of the previous result.
    pub fn arrivals_since(&self, since: u64) -> Arrivals {
        lock(&self.bank.arrivals).since(since)
    }

    /// Deletes all arrivals.
    pub fn clear_arrivals(&self) {
        lock(&self.bank.arrivals).clear();
    }

    /// A snapshot of the counters.
    pub fn counters(&self) -> CounterSnapshot {
        self.bank.counters.snapshot()
    }

    /// Restores the configured script, credentials, accounts and payouts, and clears arrivals, counters and tokens.
    pub async fn reset(&self) -> Result<(), SimError> {
        self.set_auth(&self.bank.config.auth)?;
        self.set_script(self.bank.config.script.clone()).await?;
        {
            let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|id, _| self.bank.config.accounts.iter().any(|a| a.id == *id));
            accounts.values_mut().for_each(Account::reset);
        }
        *lock(&self.bank.payouts) = PayoutDesk::new(&self.bank.config.payouts);
        self.clear_arrivals();
        self.bank.counters.clear();
        Ok(())
    }

    /// Ids of all accounts.
    pub fn account_ids(&self) -> Vec<String> {
        self.bank.accounts.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn stop(&self) {
        self.bank.stop.cancel();
    }
}
