//! A bank with many pages, a ledger of either engine, and the processes that sync from one to the other.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::ledger::delivery::{CreateOutcome, NewConsumer, NewKey};
use busbar::ledger::{OpenMode, open};
use busbar::testbed::postgres::PostgresServer;
use busbar::testbed::sim::{AccountConfig, BankConfig, BankHandle, Sim};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::kit::banks::start_bank;
use crate::kit::binary::busbar;
use crate::kit::objects::{job, merged, profile_auth, profile_connection};
use crate::kit::wait::PATIENCE;

const KEY: &str = "obviously-fake-mono-key";
const NAMESPACE: &str = "team";
/// Records of a page, as the profile asks for.
pub(crate) const PAGE: u64 = 100;
/// Between two looks at a process or a bank: kills are to be anywhere, not where the test looks.
const LOOK: Duration = Duration::from_millis(1);

/// The ledger of a test.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A bank, a ledger, and the objects that connect them.
pub(crate) struct KillEnv {
    _sim: Sim,
    pub(crate) bank: BankHandle,
    folder: tempfile::TempDir,
    /// The `--ledger` of the processes.
    pub(crate) ledger: String,
    pub(crate) clock: Clock,
}

impl KillEnv {
    /// With a bank of so many pages and a ledger of its own.
    pub(crate) async fn new(engine: Engine, pages: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = match engine {
            Engine::Sqlite => format!("sqlite:{}", folder.path().join("ledger.db").display()),
            Engine::Postgres => PostgresServer::shared().await.unwrap().create_database().await.unwrap(),
        };
        Self::with_ledger(folder, ledger, pages).await
    }

    /// With a ledger that the test made.
    pub(crate) async fn on(ledger: String, pages: u64) -> Self {
        Self::with_ledger(tempfile::tempdir().unwrap(), ledger, pages).await
    }

    async fn with_ledger(folder: tempfile::TempDir, ledger: String, pages: u64) -> Self {
        // A minute apart: 100 000 of them are 70 days, and the first run reads 90.
        let account = AccountConfig { spacing_seconds: 60, ..AccountConfig::new("acc-1", pages * PAGE) };
        let config = BankConfig { log_capacity: 1 << 16, ..BankConfig::mono("bank", KEY).accounts([account]) };
        let (sim, bank) = start_bank(config).await;
        let env = Self { _sim: sim, bank, folder, ledger, clock: Clock::system() };
        env.write_objects();
        env
    }

    /// Creates a consumer that gets every event from now on.
    pub(crate) async fn add_consumer(&self, name: &str) {
        let ledger = open(&self.ledger.parse().unwrap(), OpenMode::Migrate).await.unwrap();
        let consumer = NewConsumer {
            name: name.to_owned(),
            namespaces: Some(vec![NAMESPACE.to_owned()]),
            event_types: Vec::new(),
            created_by: "test".to_owned(),
            key: NewKey { key_id: name.to_owned(), hash: "$argon2id$not-a-hash".to_owned() },
            history_from: None,
            events: Vec::new(),
        };
        let created = ledger.create_consumer(&consumer, self.clock.now().wall).await.unwrap();
        assert!(matches!(created, CreateOutcome::Created(_)), "{created:?}");
        ledger.close().await;
    }

    fn write_objects(&self) {
        let base_url = format!("{}/v2", self.bank.base_url());
        let placed = |object| merged(object, json!({"metadata": {"namespace": NAMESPACE}}));
        let objects = [
            placed(profile_connection("bank", "mono", &base_url, profile_auth("bank-key"))),
            placed(job("books", "bank", "1h", json!({"events": "Record"}))),
            placed(json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bank-key"}, "stringData": {"api-key": KEY},
            })),
        ];
        let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
        std::fs::write(self.objects(), text.join("\n---\n")).unwrap();
    }

    fn objects(&self) -> PathBuf {
        self.folder.path().join("objects.yaml")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `busbar sync` as this holder.
    pub(crate) fn start(&self, identity: &str) -> Worker {
        self.start_on(identity, &self.ledger)
    }

    /// The same with another way to the ledger.
    pub(crate) fn start_on(&self, identity: &str, ledger: &str) -> Worker {
        let objects = self.objects();
        let log = self.folder.path().join(format!("{identity}.log"));
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let args = [
            "sync",
            &format!("{NAMESPACE}/books"),
            "-f",
            objects.to_str().unwrap(),
            "--ledger",
            ledger,
            "--identity",
            identity,
            "--allow-provider-addresses",
            "127.0.0.0/8",
        ];
        let child = Command::from(busbar(&args)).stdout(Stdio::null()).stderr(stderr).kill_on_drop(true).spawn();
        Worker { child: child.unwrap(), log, clock: self.clock }
    }

    /// Runs until a run succeeds; returns how many it took.
    pub(crate) async fn run_to_the_end(&self, identity: &str, attempts: usize) -> usize {
        let mut log = PathBuf::new();
        for attempt in 1..=attempts {
            let mut worker = self.start(identity);
            log.clone_from(&worker.log);
            if worker.exit().await.success() {
                return attempt;
            }
        }
        panic!("no run of {attempts} succeeded: {}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Requests for a page so far.
    pub(crate) fn page_requests(&self) -> u64 {
        let pages = self.bank.arrivals().entries.into_iter().filter(|arrival| arrival.path.ends_with("/transactions"));
        pages.count() as u64
    }

    /// Requests for a page that was requested before, in the same window.
    pub(crate) fn repeated_pages(&self) -> u64 {
        let arrivals = self.bank.arrivals().entries;
        let pages = arrivals.iter().filter(|arrival| arrival.path.ends_with("/transactions"));
        let (mut seen, mut repeated) = (HashSet::new(), 0);
        for page in pages {
            let part = |name| page.query_value(name).unwrap_or_default();
            repeated += u64::from(!seen.insert([part("start"), part("end"), part("page")]));
        }
        repeated
    }

    /// A backup of the ledger, in a file.
    pub(crate) fn backup(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let to = path.to_str().unwrap();
        crate::kit::binary::run(busbar(&["ledger", "backup", "--ledger", &self.ledger, "--to", to])).ok();
        path
    }
}

/// A process that syncs.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
    clock: Clock,
}

impl Worker {
    /// Waits until `reached`, or until the process has ended. Returns whether it still runs.
    pub(crate) async fn until(&mut self, reached: impl Fn() -> bool) -> bool {
        let deadline = self.clock.mono() + PATIENCE;
        while !reached() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(self.clock.mono() < deadline, "the process makes no progress: {}", self.stderr());
            tokio::time::sleep(LOOK).await;
        }
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(sent.success(), "kill -{name} {pid}");
    }

    /// Waits for its end.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        let waited = tokio::time::timeout(3 * PATIENCE, self.child.wait()).await;
        waited.unwrap_or_else(|_| panic!("the process does not end: {}", self.stderr())).unwrap()
    }

    /// What it and its predecessors of the same name have logged.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Whether no process is writing to the SQLite file.
pub(crate) fn is_unlocked(file: &Path) -> bool {
    let connection = rusqlite::Connection::open(file).expect("the ledger opens");
    connection.busy_timeout(Duration::ZERO).expect("a timeout");
    connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
}
