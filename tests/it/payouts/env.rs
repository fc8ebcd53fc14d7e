//! A route of two banks that take payouts, a ledger, and those who follow payouts through them.

use std::path::Path;
use std::sync::Arc;

use busbar::clock::Clock;
use busbar::domain::breaker::OnUnhealthy;
use busbar::domain::decision::RequestDraft;
use busbar::domain::payout::{Attempt, BankReport, Evidence, EvidenceSource, Payout, PayoutInput, PayoutState, apply};
use busbar::ledger::decisions::EntryOutcome;
use busbar::ledger::payouts::{PayoutAct, PayoutCommit, PayoutOutcome, StoredPayout};
use busbar::ledger::{self, Ledger, LedgerUrl, OpenMode};
use busbar::metrics::Metrics;
use busbar::profile::{CheckMode, Environment, Profile};
use busbar::provider::payouts::{NextAttempts, PayoutBanks, PayoutFollower as _, PayoutMetrics, RegistryBanks};
use busbar::provider::registry::{Registry, RegistryOptions};
use busbar::routing::{Actor, DecisionService, RoutingDeps};
use busbar::settings::Draft;
use busbar::tasks::TaskGroup;
use busbar::testbed::sim::{BankConfig, BankHandle, PayoutConfig, Sim};
use busbar::work::payouts::{Follower, PayoutClock, PayoutDeps};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kit::banks::simulator;
use crate::kit::decision_server::{NAMESPACE, ROUTE, Routes, connect};
use crate::kit::http::client;
use crate::kit::wait::eventually;

/// The first choice of the route.
pub(crate) const BANK_A: &str = "bank-a";
/// The second.
pub(crate) const BANK_B: &str = "bank-b";

/// The profile of the simulated banks.
pub(crate) fn payout_profile() -> Arc<Profile> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/demo/profiles/payout-bank.yaml");
    Arc::new(Profile::parse("payout-bank.yaml", &std::fs::read_to_string(path).unwrap()).unwrap())
}

/// A connection to a simulated bank that takes payouts.
pub(crate) fn payout_draft(base_url: &str) -> Draft {
    let mut draft = Draft::new(payout_profile(), Environment::Sandbox);
    base_url.clone_into(&mut draft.base_url);
    draft.health_check.mode = CheckMode::Passive;
    draft.retry.retries = 0;
    draft.breaker.consecutive_failures = 0;
    draft.breaker.unhealthy = OnUnhealthy::Ignore;
    draft
}

/// Two banks, the first of them cheaper. A payout is late a second after it was sent, and its inquiries are as much
/// closer together.
fn route_spec() -> Value {
    let candidate = |name: &str, fee: &str| {
        let fees = json!([{"name": "all", "fixed": fee}]);
        json!({"name": name, "connectionRef": {"name": name}, "fees": fees})
    };
    json!({
        "referenceCurrency": "EUR",
        "candidates": [candidate(BANK_A, "1"), candidate(BANK_B, "2")],
        "stuck": {"after": "1s", "maxRerouteCostBasisPoints": "10000"},
    })
}

/// Two simulated banks.
pub(crate) struct Banks {
    _sim: Sim,
    pub(crate) a: BankHandle,
    pub(crate) b: BankHandle,
}

impl Banks {
    /// The first handles payouts as `config` says; the second executes them at once.
    pub(crate) async fn new(config: PayoutConfig) -> Self {
        let sim = simulator().await;
        let bank = async |name: &str, payouts: PayoutConfig| {
            sim.add_bank(BankConfig { payouts, ..BankConfig::new(name) }).await.unwrap()
        };
        let (a, b) = (bank(BANK_A, config).await, bank(BANK_B, PayoutConfig::default()).await);
        Self { _sim: sim, a, b }
    }

    /// How often both banks executed a payout, by their books.
    pub(crate) fn executions(&self, payout_id: &str) -> usize {
        let of = |bank: &BankHandle| bank.payout_books().executions.get(payout_id).copied().unwrap_or_default();
        of(&self.a) + of(&self.b)
    }
}

/// Those that the clock calls.
pub(crate) struct Links {
    pub(crate) banks: Arc<dyn PayoutBanks>,
    pub(crate) next: Arc<dyn NextAttempts>,
}

/// A process that decides on payouts and follows them.
pub(crate) struct PayoutProcess {
    pub(crate) clock: Clock,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) registry: Registry,
    pub(crate) service: Arc<DecisionService>,
    pub(crate) follower: Follower,
    stop: CancellationToken,
    tasks: TaskGroup,
}

impl PayoutProcess {
    /// One with connections to these two banks.
    pub(crate) async fn start(ledger_url: &str, [a, b]: [&str; 2]) -> Self {
        Self::start_with(ledger_url, [a, b], |links| links).await
    }

    /// The same, with something between it and those that it calls.
    pub(crate) async fn start_with(ledger_url: &str, [a, b]: [&str; 2], between: impl FnOnce(Links) -> Links) -> Self {
        let ledger = ledger::open(&ledger_url.parse::<LedgerUrl>().unwrap(), OpenMode::Migrate).await.unwrap();
        let (clock, metrics, tasks) = (Clock::system(), Metrics::new(), TaskGroup::default());
        let registry = Registry::new(clock, &metrics, RegistryOptions::allowing_loopback()).unwrap();
        for (name, url) in [(BANK_A, a), (BANK_B, b)] {
            connect(&registry, name, name, payout_draft(url));
        }
        let routes = Arc::new(Routes::new(registry.clone(), &route_spec()));
        let deps = RoutingDeps { clock, ledger: Arc::clone(&ledger), routes, tasks: tasks.clone() };
        let (service, running) = DecisionService::new(deps, &metrics).unwrap();
        let stop = CancellationToken::new();
        tasks.spawn("committer", running.committer.run(stop.clone()));
        let banks = Arc::new(RegistryBanks::new(registry.clone(), clock));
        let Links { banks, next } = between(Links { banks, next: Arc::clone(&service) as Arc<dyn NextAttempts> });
        let deps = PayoutDeps {
            banks,
            clock,
            counts: PayoutMetrics::new(&Metrics::new()).unwrap(),
            ledger: Arc::clone(&ledger),
            next,
            tasks: tasks.clone(),
        };
        let follower = Follower::new(deps, &metrics).unwrap();
        Self { clock, ledger, registry, service, follower, stop, tasks }
    }

    /// Runs the payout clock until [`Self::end`].
    pub(crate) fn run_clock(&self, holder: &str) {
        let clock = PayoutClock::new(self.follower.clone(), holder, self.tasks.clone());
        self.tasks.spawn("payout clock", clock.run(self.stop.clone()));
    }

    /// Ends the process well.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.ledger.close().await;
    }

    /// Registers a payout; it is to be sent to the first bank.
    pub(crate) async fn register(&self, payout_id: &str) -> Payout {
        self.register_at(payout_id, BANK_A).await
    }

    /// Registers a payout, which the route sends to this bank.
    pub(crate) async fn register_at(&self, payout_id: &str, bank: &str) -> Payout {
        let draft = RequestDraft {
            amount: "100".to_owned(),
            attempt_no: None,
            country: None,
            currency: "EUR".to_owned(),
            merchant: None,
            namespace: NAMESPACE.to_owned(),
            payout_id: payout_id.to_owned(),
            rail: None,
            rates: Vec::new(),
            route: Some(ROUTE.to_owned()),
        };
        let request = draft.validate(self.clock.now().wall).unwrap();
        let actor = Actor { request_id: None, subject: "processing".to_owned() };
        let payout = self.service.register(request, None, &actor).await.unwrap().payout.payout;
        assert_eq!(payout.attempts[0].plan.bank, bank);
        payout
    }

    /// Stores what the submitter reports of the last attempt, and has it followed.
    pub(crate) async fn report(&self, payout_id: &str, report: BankReport) -> StoredPayout {
        let attempt_no = self.stored(payout_id).await.payout.next_attempt_no() - 1;
        self.report_of(payout_id, attempt_no, report, EvidenceSource::Submitter).await
    }

    /// Stores what is said of an attempt, and has it followed.
    pub(crate) async fn report_of(
        &self,
        payout_id: &str,
        attempt_no: u32,
        report: BankReport,
        source: EvidenceSource,
    ) -> StoredPayout {
        for _ in 0..100 {
            let stored = self.stored(payout_id).await;
            let now = self.clock.now().wall;
            let evidence = Evidence::new(source, now).by("processing");
            let applied = apply(&stored.payout, &PayoutInput::Report { attempt_no, report, evidence }, now);
            assert_eq!(applied.refused, None);
            let commit = PayoutCommit::new(PayoutAct::Report, "processing", stored.version, &applied, now);
            match self.ledger.commit_payout(commit).await.unwrap() {
                EntryOutcome::Payout(PayoutOutcome::Stored { .. }) => {
                    self.follower.follow(&applied.payout, &applied.effects);
                    return self.stored(payout_id).await;
                }
                EntryOutcome::Payout(PayoutOutcome::Changed(_)) => {}
                outcome => panic!("{outcome:?}"),
            }
        }
        panic!("other acts came first a hundred times");
    }

    /// The payout as stored.
    pub(crate) async fn stored(&self, payout_id: &str) -> StoredPayout {
        self.ledger.payout(NAMESPACE, payout_id).await.unwrap().expect("registered")
    }

    /// Waits until the payout is in this state.
    pub(crate) async fn until(&self, payout_id: &str, state: PayoutState) -> Payout {
        eventually(format!("{payout_id} is {state}"), async || {
            let payout = self.stored(payout_id).await.payout;
            if payout.state() == state { Ok(payout) } else { Err(payout) }
        })
        .await
    }
}

/// Submits an attempt to its bank, as the system that processes payouts does; the status, or `None` without an answer.
pub(crate) async fn submit(bank: &BankHandle, payout_id: &str, attempt: &Attempt) -> Option<u16> {
    let body = json!({"payoutId": payout_id, "endToEndId": attempt.end_to_end_id()});
    let request = client().post(format!("{}/payouts", bank.base_url())).body(body.to_string());
    let request =
        request.header("content-type", "application/json").header("idempotency-key", attempt.idempotency_key());
    let response = request.send().await.ok()?;
    let status = response.status().as_u16();
    response.bytes().await.ok().map(|_| status)
}

/// The `--ledger` of a new ledger in `folder`.
pub(crate) fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("ledger.db").display())
}
