//! Turns stored webhooks into runs: one for each job of the connection, however many webhooks came.
//!
//! Only the leader does, under a lease of the ledger. A job has at most one request of webhooks that waits or runs: what comes
//! meanwhile stays in the inbox, and becomes the next one when that has ended. The ID of a request is derived from the
//! webhooks that it stands for, so a crash between the request and the closing repeats nothing.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::delivery::{ClosedWebhook, OpenWebhook};
use crate::ledger::requests::{NewRunRequest, RequestOutcome, RequestedRun, WEBHOOK_SUBJECT};
use crate::ledger::{Lease, LeaseHolder, LeaseOptions, LeaseStore, Ledger, LedgerError, RunId, TakeOutcome};
use crate::metrics::{Metrics, MetricsError};
use crate::tasks::TaskGroup;

/// The lease of the worker.
const LEASE: &str = "webhooks";
/// Validity of the lease without renewal.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// Time between two tries to take the lease.
const TAKE_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two looks at the inbox: those of other replicas are not notified here.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Connections per look.
const BATCH: u32 = 500;
/// The namespace of the IDs of requests (UUID version 5).
const REQUEST_IDS: Uuid = Uuid::from_u128(0x3c9e_11d7_60b4_5a2f_a7c5_2e90_84f1_6b3d);

/// The sync jobs of this process.
pub trait WebhookJobs: Send + Sync {
    /// The jobs of a connection.
    fn jobs_of(&self, connection: &ObjectKey) -> Vec<ObjectKey>;

    /// Notes that a request for the job was stored.
    fn notify(&self, job: &ObjectKey);
}

/// What the worker needs.
pub struct WebhookDeps {
    /// Source of time.
    pub clock: Clock,
    /// The jobs.
    pub jobs: Arc<dyn WebhookJobs>,
    /// The inbox, and the requests.
    pub ledger: Arc<dyn Ledger>,
    /// Notified when webhooks were stored.
    pub stored: Arc<Notify>,
    /// The group of its tasks.
    pub tasks: TaskGroup,
}

/// Acts on webhooks while it holds its lease.
pub struct WebhookWorker {
    deps: WebhookDeps,
    holder: String,
    waiting: IntGauge,
    runs: IntCounter,
    failures: IntCounter,
}

impl WebhookWorker {
    /// A worker that holds its lease as `holder`.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(deps: WebhookDeps, holder: &str, metrics: &Metrics) -> Result<Self, MetricsError> {
        let counter = |name, help| metrics.counter(name, help, &[]).map(|all| all.with_label_values::<&str>(&[]));
        let help =
            "Time of the oldest webhook that is not acted on. 0 without one, and on replicas that do not act on them.";
        let waiting =
            metrics.int_gauge("busbar_webhooks_oldest_timestamp_seconds", help, &[])?.with_label_values::<&str>(&[]);
        let runs = counter("busbar_webhook_runs_total", "Runs that webhooks asked for.")?;
        let help = "Failures of the ledger that delayed acting on webhooks.";
        let failures = counter("busbar_webhook_ledger_failures_total", help)?;
        Ok(Self { deps, holder: holder.to_owned(), waiting, runs, failures })
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let WebhookDeps { clock, ledger, tasks, .. } = &self.deps;
        let (name, holder) = (LEASE.to_owned(), self.holder.clone());
        let options = LeaseOptions { name, holder, ttl: LEASE_TTL, tasks: tasks.clone() };
        let mut holder = LeaseHolder::new(Arc::clone(ledger) as Arc<dyn LeaseStore>, *clock, options);
        while !stop.is_cancelled() {
            match holder.take().await {
                Ok(TakeOutcome::Taken(held)) => {
                    tokio::select! {
                        () = held.lost() => {}
                        () = self.run_leased(held.lease(), &stop) => {}
                    }
                    self.waiting.set(0);
                    held.release().await;
                }
                Ok(TakeOutcome::HeldByOther { .. }) => {}
                Err(error) => {
                    self.failures.inc();
                    tracing::warn!(%error, "taking the lease of webhooks failed; their syncs are delayed");
                }
            }
            let next = clock.mono() + TAKE_INTERVAL;
            if stop.run_until_cancelled(clock.sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Acts on webhooks under the lease, until `stop` or until its fence is refused.
    async fn run_leased(&self, lease: &Lease, stop: &CancellationToken) {
        let clock = self.deps.clock;
        loop {
            match self.round(lease).await {
                Ok(()) => {}
                Err(LedgerError::Fenced { .. }) => return,
                Err(error) => {
                    self.failures.inc();
                    tracing::warn!(%error, "acting on webhooks failed; retrying");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.deps.stored.notified() => {}
                () = clock.sleep_until(clock.mono() + POLL_INTERVAL) => {}
            }
        }
    }

    async fn round(&self, lease: &Lease) -> Result<(), LedgerError> {
        let open = self.deps.ledger.open_webhooks(BATCH).await?;
        let oldest = open.iter().map(|open| open.first.as_second()).min();
        self.waiting.set(oldest.unwrap_or(0));
        let mut closed = Vec::new();
        for webhook in open {
            if self.request_runs(&webhook).await? {
                closed.push(ClosedWebhook { connection: webhook.connection, through: webhook.through });
            }
        }
        if !closed.is_empty() {
            self.deps.ledger.close_webhooks(lease, &closed).await?;
        }
        Ok(())
    }

    /// Asks for a run of each job of the connection that has no earlier request of webhooks; whether all jobs are asked.
    async fn request_runs(&self, webhook: &OpenWebhook) -> Result<bool, LedgerError> {
        let mut asked_all = true;
        for job in self.deps.jobs.jobs_of(&webhook.connection) {
            let id = request_id(webhook, &job);
            let open = self.deps.ledger.open_requests(Some(&job)).await?;
            let earlier = |subject: &str, open: Uuid| subject == WEBHOOK_SUBJECT && open != id;
            if open.iter().any(|stored| earlier(&stored.request.subject, stored.request.id)) {
                asked_all = false;
                continue;
            }
            self.request_run(webhook, job, id).await?;
        }
        Ok(asked_all)
    }

    async fn request_run(&self, webhook: &OpenWebhook, job: ObjectKey, id: Uuid) -> Result<(), LedgerError> {
        let at = self.deps.clock.now().wall;
        let audit = AuditEntry {
            at,
            kind: AuditKind::Sync,
            action: "webhook".to_owned(),
            subject: WEBHOOK_SUBJECT.to_owned(),
            rights_profile: None,
            allowed: true,
            namespace: webhook.connection.namespace.to_string(),
            connection: webhook.connection.name.to_string(),
            provider: None,
            purpose: None,
            reason: None,
            request_id: Some(webhook.correlation_id),
            repeats: None,
        };
        let request = NewRunRequest {
            id,
            job,
            requested: RequestedRun::Run,
            run: RunId(webhook.correlation_id),
            subject: WEBHOOK_SUBJECT.to_owned(),
            reason: None,
            at,
        };
        if let RequestOutcome::Stored(run) = self.deps.ledger.request_run(&request, &audit).await? {
            self.runs.inc();
            tracing::info!(
                request_id = %run, namespace = %request.job.namespace, name = %request.job.name,
                webhooks = webhook.unhandled, "run requested by webhooks"
            );
            self.deps.jobs.notify(&request.job);
        }
        Ok(())
    }
}

/// The ID of a request: the same for the same job and webhooks.
fn request_id(webhook: &OpenWebhook, job: &ObjectKey) -> Uuid {
    let through = webhook.through.to_string();
    let first = webhook.first.to_string();
    let connection = &webhook.connection;
    let parts = [&*job.namespace, &*job.name, &*connection.name, first.as_str(), through.as_str()];
    Uuid::new_v5(&REQUEST_IDS, parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ledger::delivery::NewWebhook;
    use crate::ledger::requests::RequestState;
    use crate::ledger::{LedgerUrl, OpenMode, open};

    struct Jobs {
        names: Vec<&'static str>,
        notified: Mutex<Vec<String>>,
    }

    impl WebhookJobs for Jobs {
        fn jobs_of(&self, connection: &ObjectKey) -> Vec<ObjectKey> {
            self.names.iter().map(|name| ObjectKey::new(&*connection.namespace, *name)).collect()
        }

        fn notify(&self, job: &ObjectKey) {
            self.notified.lock().unwrap().push(job.name.to_string());
        }
    }

    struct Fixture {
        worker: WebhookWorker,
        ledger: Arc<dyn Ledger>,
        jobs: Arc<Jobs>,
        lease: Lease,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        async fn new(names: &[&'static str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let ledger = open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
            let (clock, tasks) = (Clock::system(), TaskGroup::default());
            let jobs = Arc::new(Jobs { names: names.to_vec(), notified: Mutex::default() });
            let (name, holder) = (LEASE.to_owned(), "a".to_owned());
            let options = LeaseOptions { name, holder, ttl: LEASE_TTL, tasks: tasks.clone() };
            let mut holder = LeaseHolder::new(Arc::clone(&ledger) as Arc<dyn LeaseStore>, clock, options);
            let TakeOutcome::Taken(held) = holder.take().await.unwrap() else { panic!("free") };
            let deps = WebhookDeps {
                clock,
                jobs: Arc::clone(&jobs) as Arc<dyn WebhookJobs>,
                ledger: Arc::clone(&ledger),
                stored: Arc::new(Notify::new()),
                tasks,
            };
            let worker = WebhookWorker::new(deps, "a", &Metrics::new()).unwrap();
            Self { worker, ledger, jobs, lease: held.into_lease(), _dir: dir }
        }

        async fn receive(&self, count: u128) {
            let connection = ObjectKey::new("team", "mono");
            let one =
                |n| NewWebhook { connection: connection.clone(), correlation_id: Uuid::from_u128(n), replay: None };
            let webhooks: Vec<NewWebhook> = (1..=count).map(one).collect();
            self.ledger.accept_webhooks(&webhooks, self.worker.deps.clock.now().wall).await.unwrap();
        }

        async fn round(&self) -> usize {
            self.worker.round(&self.lease).await.unwrap();
            self.ledger.open_requests(None).await.unwrap().len()
        }

        async fn finish_all(&self) {
            let now = self.worker.deps.clock.now().wall;
            for stored in self.ledger.open_requests(None).await.unwrap() {
                assert!(
                    self.ledger.close_request(stored.request.id, RequestState::Done, "Succeeded", now).await.unwrap()
                );
            }
        }
    }

    #[tokio::test]
    async fn any_number_of_webhooks_is_one_run_of_each_job() {
        let fixture = Fixture::new(&["books", "loans"]).await;
        fixture.receive(1_000).await;
        assert_eq!(fixture.round().await, 2);
        assert_eq!(fixture.round().await, 2, "acted on once");
        assert_eq!(*fixture.jobs.notified.lock().unwrap(), ["books", "loans"]);
        assert!(fixture.ledger.open_webhooks(9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn webhooks_that_come_during_the_run_are_the_next_one() {
        let fixture = Fixture::new(&["books"]).await;
        fixture.receive(1).await;
        assert_eq!(fixture.round().await, 1);
        for _ in 0..5 {
            fixture.receive(10).await;
            assert_eq!(fixture.round().await, 1, "one request waits or runs");
        }
        fixture.finish_all().await;
        assert_eq!(fixture.round().await, 1, "what came meanwhile");
        fixture.finish_all().await;
        assert_eq!(fixture.round().await, 0, "and no more");
    }

    #[tokio::test]
    async fn a_crash_between_request_and_closing_repeats_nothing() {
        let fixture = Fixture::new(&["books"]).await;
        fixture.receive(3).await;
        let open = fixture.ledger.open_webhooks(9).await.unwrap();
        assert!(fixture.worker.request_runs(&open[0]).await.unwrap());
        assert_eq!(fixture.round().await, 1, "the same request");
        fixture.finish_all().await;
        assert_eq!(fixture.round().await, 0);
    }

    #[tokio::test]
    async fn webhooks_of_a_connection_without_jobs_are_done_at_once() {
        let fixture = Fixture::new(&[]).await;
        fixture.receive(3).await;
        assert_eq!(fixture.round().await, 0);
        assert!(fixture.ledger.open_webhooks(9).await.unwrap().is_empty());
    }
}
