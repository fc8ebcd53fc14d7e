//! One bank: its state, and the handle by which a test or the control API moves it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::testbed::sim::arrivals::{Arrivals, Counters, Counts, Ring};
use crate::testbed::sim::auth::{Auth, Guard, Tokens};
use crate::testbed::sim::config::BankConfig;
use crate::testbed::sim::engine::Engine;
use crate::testbed::sim::error::SimError;
use crate::testbed::sim::oauth::TOKEN_PATH;
use crate::testbed::sim::script::{Script, ScriptError};
use crate::testbed::sim::transactions::{Account, AccountConfig, Transaction};

/// The state of one bank, shared by its listener, its connections and its handles.
pub(crate) struct Bank {
    pub(crate) config: BankConfig,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
    pub(crate) tls: TlsAcceptor,
    pub(crate) tokens: Tokens,
    pub(crate) counters: Counters,
    pub(crate) ring: Mutex<Ring>,
    /// The kind's name, and the check made ready.
    guard: RwLock<(&'static str, Arc<Guard>)>,
    pub(crate) accounts: RwLock<BTreeMap<String, Account>>,
    engine: Mutex<Engine>,
    /// False while there is nothing to play: the healthy path then takes no lock for the script.
    scripted: AtomicBool,
    /// Counts changes of the script; the listener follows it…
    pub(crate) wished: watch::Sender<u64>,
    /// …and says here how far it has come.
    pub(crate) in_force: watch::Sender<u64>,
    /// Ends the bank.
    pub(crate) stop: CancellationToken,
}

/// Takes a lock whose holder may have panicked: no state here can be left half changed.
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
        let engine = Engine::new(config.script.clone(), config.seed, now.mono)?;
        let guard = Guard::try_from(&config.auth)?;
        let accounts = config.accounts.iter().map(|a| (a.id.clone(), Account::new(a.clone(), now.wall))).collect();
        Ok(Self {
            clock,
            address,
            tls,
            tokens: Tokens::default(),
            counters: Counters::default(),
            ring: Mutex::new(Ring::new(config.log_capacity)),
            guard: RwLock::new((config.auth.kind(), Arc::new(guard))),
            accounts: RwLock::new(accounts),
            scripted: AtomicBool::new(!engine.is_empty()),
            engine: Mutex::new(engine),
            wished: watch::Sender::new(0),
            in_force: watch::Sender::new(0),
            stop,
            config,
        })
    }

    /// The script's state, if there is any script.
    pub(crate) fn playing(&self) -> Option<MutexGuard<'_, Engine>> {
        self.scripted.load(Ordering::Acquire).then(|| lock(&self.engine))
    }

    pub(crate) fn guard(&self) -> Arc<Guard> {
        self.guard.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn play(&self, script: Script) -> Result<(), ScriptError> {
        let engine = Engine::new(script, self.config.seed, self.clock.mono())?;
        self.scripted.store(!engine.is_empty(), Ordering::Release);
        *lock(&self.engine) = engine;
        self.wished.send_modify(|n| *n += 1);
        Ok(())
    }
}

/// A bank from outside. Cheap to clone; the bank lives until `Sim::remove_bank` or the end of its simulator.
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

    /// Where it listens, or would if it were not down.
    pub fn address(&self) -> SocketAddr {
        self.bank.address
    }

    /// Base URL over plain HTTP, without a slash at its end.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.bank.address)
    }

    /// Base URL over HTTPS: the same port.
    pub fn https_url(&self) -> String {
        format!("https://{}", self.bank.address)
    }

    /// Base URL of one of many connections to this bank: every path works below `/c/{label}` as well.
    pub fn labelled_url(&self, label: &str) -> String {
        format!("{}/c/{label}", self.base_url())
    }

    /// The token endpoint over plain HTTP.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.base_url())
    }

    /// What a client must trust to use [`Self::https_url`].
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Plays `script` from its start; in force when this returns, also for connections that are open.
    ///
    /// The same as [`Self::fail_with`], named for scripts of several rules.
    pub async fn set_script(&self, script: impl Into<Script>) -> Result<(), ScriptError> {
        self.bank.play(script.into())?;
        let wished = *self.bank.wished.borrow();
        let mut in_force = self.bank.in_force.subscribe();
        tokio::select! {
            _ = in_force.wait_for(|n| *n >= wished) => {}
            () = self.bank.stop.cancelled() => {}
        }
        Ok(())
    }

    /// From now on the bank behaves so: a behaviour (permanent), a step or a whole script.
    pub async fn fail_with(&self, script: impl Into<Script>) -> Result<(), ScriptError> {
        self.set_script(script).await
    }

    /// Healthy again. Requests that are stalled stay so.
    pub async fn recover(&self) {
        // The empty script is always valid.
        let _valid = self.set_script(Script::default()).await;
    }

    /// Wants other credentials from now on; tokens issued so far are forgotten.
    pub fn set_auth(&self, auth: &Auth) -> Result<(), SimError> {
        let guard = Arc::new(Guard::try_from(auth)?);
        *self.bank.guard.write().unwrap_or_else(PoisonError::into_inner) = (auth.kind(), guard);
        self.revoke_tokens();
        self.bank.tokens.forget_rotated();
        Ok(())
    }

    /// The kind of credentials wanted now.
    pub fn auth_kind(&self) -> &'static str {
        self.bank.guard.read().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Forgets every token issued: their holders get 401.
    pub fn revoke_tokens(&self) {
        self.bank.tokens.revoke();
    }

    /// Adds an account, or replaces the one with its id.
    pub fn put_account(&self, config: AccountConfig) {
        let account = Account::new(config, self.bank.clock.now().wall);
        let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.insert(account.config.id.clone(), account);
    }

    /// Adds transactions to an account; one with a known id takes the old one's place. False: no such account.
    pub fn put_transactions(&self, account: &str, transactions: Vec<Transaction>) -> bool {
        let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.get_mut(account).map(|a| a.put(transactions)).is_some()
    }

    /// Everything that has arrived and is still kept.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals_since(0)
    }

    /// What has arrived from number `since` on: pass the `next` of the last reading.
    pub fn arrivals_since(&self, since: u64) -> Arrivals {
        lock(&self.bank.ring).since(since)
    }

    /// Forgets the arrivals so far.
    pub fn clear_arrivals(&self) {
        lock(&self.bank.ring).clear();
    }

    /// The bank's counters.
    pub fn counts(&self) -> Counts {
        self.bank.counters.read()
    }

    /// Back to how it was made: script, credentials, accounts; arrivals, counters and tokens are forgotten.
    pub async fn reset(&self) -> Result<(), SimError> {
        self.set_auth(&self.bank.config.auth)?;
        self.set_script(self.bank.config.script.clone()).await?;
        {
            let mut accounts = self.bank.accounts.write().unwrap_or_else(PoisonError::into_inner);
            accounts.retain(|id, _| self.bank.config.accounts.iter().any(|a| a.id == *id));
            accounts.values_mut().for_each(Account::reset);
        }
        self.clear_arrivals();
        self.bank.counters.clear();
        Ok(())
    }

    /// Ids of the accounts.
    pub fn account_ids(&self) -> Vec<String> {
        self.bank.accounts.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) fn stop(&self) {
        self.bank.stop.cancel();
    }
}
