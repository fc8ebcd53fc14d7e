//! The rights layer: authorizes the caller before anything else happens.
//!
//! Probes and syncs have no caller and are never refused: they are the operator's own. All other calls are authorized
//! by the connection's licence profiles ([`crate::domain::rights`]); a connection without profiles is open to all
//! callers. Every call with a caller is written to the audit log, allowed or not, and counted against its profile's
//! daily limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::tz::TimeZone;
use prometheus::IntCounter;
use tower::{Service, ServiceExt as _};

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::rights::{AccessDecision, Caller, LicenceProfile};
use crate::ledger::Ledger;
use crate::ledger::audit::{AuditEntry, AuditKind, UsageKey};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::access_denial::AccessDenial;
use crate::provider::audit::AuditQueue;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::call_context::CallFuture;
use crate::settings::Settings;

/// Daily requests are taken from the ledger in blocks of one percent, at least one and at most this many: a process
/// that dies loses the rest of its block, so the limit may be reached a little early, never late.
const MAX_BLOCK: u64 = 100;

/// Authorizes callers for all connections, writes the audit log and counts daily requests.
pub struct LicenceMeter {
    clock: Clock,
    audit: Option<AuditQueue>,
    ledger: Option<Arc<dyn Ledger>>,
    /// What is left of the taken blocks. Entries of former days are dropped.
    blocks: Mutex<HashMap<UsageKey, u64>>,
    failed_open: Option<IntCounter>,
}

impl LicenceMeter {
    /// A meter that writes to `audit` and counts in `ledger`.
    pub fn new(
        clock: Clock,
        ledger: Arc<dyn Ledger>,
        audit: AuditQueue,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let failed_open = metrics
            .counter(
                "busbar_ratelimit_fail_open_total",
                "Requests admitted although their count could not be stored.",
                &[],
            )?
            .with_label_values::<&str>(&[]);
        Ok(Self {
            clock,
            audit: Some(audit),
            ledger: Some(ledger),
            blocks: Mutex::default(),
            failed_open: Some(failed_open),
        })
    }

    /// A meter that only authorizes: nothing is written and no requests are counted.
    pub fn without_ledger(clock: Clock) -> Self {
        Self { clock, audit: None, ledger: None, blocks: Mutex::default(), failed_open: None }
    }

    /// Authorizes one call, audits it and counts it.
    pub(crate) async fn authorize(
        &self,
        key: &ObjectKey,
        settings: &Settings,
        caller: &Caller,
        operation: &str,
    ) -> Result<(), AccessDenial> {
        let Some(rights) = settings.rights() else {
            self.audit(key, settings, caller, operation, None, None);
            return Ok(());
        };
        match rights.authorize(caller, operation) {
            AccessDecision::Denied { profile, action, reason: why } => {
                self.audit(key, settings, caller, &action, profile.as_deref(), Some(why.as_str()));
                Err(AccessDenial::Rights { action: action.into(), why })
            }
            AccessDecision::Allowed(profile) => {
                let exhausted = self.count(key, profile).await;
                let reason = exhausted.map(|_| "requests_per_day");
                self.audit(key, settings, caller, operation, Some(&profile.name), reason);
                exhausted.map_or(Ok(()), |retry_in| Err(AccessDenial::Quota { retry_in }))
            }
        }
    }

    /// Counts a request against the profile's daily limit; the time until the next day if the limit is reached.
    async fn count(&self, key: &ObjectKey, profile: &LicenceProfile) -> Option<Duration> {
        let (Some(limit), Some(ledger)) = (profile.requests_per_day, &self.ledger) else { return None };
        let now = self.clock.now().wall.to_zoned(TimeZone::UTC);
        let usage = UsageKey {
            namespace: key.namespace.to_string(),
            connection: key.name.to_string(),
            profile: profile.name.to_string(),
            day: now.date(),
        };
        {
            let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = blocks.get_mut(&usage).filter(|left| **left > 0) {
                *left -= 1;
                return None;
            }
        }
        let block = (limit / 100).clamp(1, MAX_BLOCK);
        match ledger.take_usage(&usage, block, limit).await {
            Ok(0) => {
                let midnight = now.tomorrow().and_then(|next| next.start_of_day()).ok();
                let left = midnight.and_then(|next| Duration::try_from(next.duration_since(&now)).ok());
                Some(left.unwrap_or(Duration::from_hours(1)))
            }
            Ok(granted) => {
                let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
                blocks.retain(|key, _| key.day == usage.day);
                *blocks.entry(usage).or_default() += granted - 1;
                None
            }
            Err(error) => {
                // A failing store must not stop licensed callers; a metric counts these requests.
                if let Some(series) = &self.failed_open {
                    series.inc();
                }
                tracing::warn!(%error, "licence usage could not be counted; the request is admitted");
                None
            }
        }
    }

    fn audit(
        &self,
        key: &ObjectKey,
        settings: &Settings,
        caller: &Caller,
        action: &str,
        profile: Option<&str>,
        refused: Option<&str>,
    ) {
        let Some(audit) = &self.audit else { return };
        audit.enqueue(AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::Call,
            action: action.to_owned(),
            subject: caller.user.clone(),
            rights_profile: profile.map(str::to_owned),
            allowed: refused.is_none(),
            namespace: key.namespace.to_string(),
            connection: key.name.to_string(),
            provider: Some(settings.provider().to_owned()),
            purpose: caller.purpose.clone(),
            reason: refused.map(str::to_owned),
            request_id: caller.request_id,
        });
    }
}

/// Admits only calls whose caller is authorized.
#[derive(Clone)]
pub struct RightsService<S> {
    inner: S,
    key: ObjectKey,
    settings: Arc<Settings>,
    licence_meter: Arc<LicenceMeter>,
}

impl<S> RightsService<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, key: ObjectKey, settings: Arc<Settings>, licence_meter: Arc<LicenceMeter>) -> Self {
        Self { inner, key, settings, licence_meter }
    }
}

impl<S> Service<Request> for RightsService<S>
where
    S: Service<Request, Response = Response, Error = CallError, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // The inner services are polled after authorization: a refused call must not wait for them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> CallFuture {
        let inner = self.inner.clone();
        let Some(caller) = request.caller.clone() else { return inner.oneshot(request).boxed() };
        let (key, settings, licence_meter) =
            (self.key.clone(), Arc::clone(&self.settings), Arc::clone(&self.licence_meter));
        async move {
            licence_meter.authorize(&key, &settings, &caller, &request.operation).await?;
            inner.oneshot(request).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::rights::{self, Denial, LicenceSubject};
    use crate::ledger::{self, LedgerUrl, OpenMode};
    use crate::provider::audit::audit_channel;
    use crate::provider::testkit::{response, settings};

    fn licensed(requests_per_day: Option<u64>) -> Arc<Settings> {
        settings(|draft| {
            draft.rights = Some(Arc::new(rights::Rights {
                profiles: vec![LicenceProfile {
                    name: "analysts".into(),
                    subjects: vec![LicenceSubject::User("ann".into())],
                    actions: BTreeSet::from(["quote".to_owned()]),
                    requests_per_day,
                }],
            }));
        })
    }

    fn request(user: &str, operation: &str) -> Request {
        let caller = Caller { user: user.into(), groups: vec![], profile: None, purpose: None, request_id: None };
        Request { caller: Some(Arc::new(caller)), ..Request::get(operation, "/") }
    }

    struct RightsFixture {
        path: RightsService<tower::util::BoxCloneService<Request, Response, CallError>>,
        sent: Arc<AtomicUsize>,
        ledger: Arc<dyn Ledger>,
        stop: CancellationToken,
        writer: tokio::task::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    async fn fixture(settings: Arc<Settings>) -> RightsFixture {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (clock, metrics, stop) =
            (Clock::starting_at("2026-11-22T23:00:00Z".parse().unwrap()), Metrics::new(), CancellationToken::new());
        let retention = Duration::from_hours(24);
        let (queue, writer) = audit_channel(ledger.clone(), clock, retention, &metrics).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let inner = tower::service_fn(move |_: Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(response(200)) }
        });
        let licence_meter = Arc::new(LicenceMeter::new(clock, ledger.clone(), queue, &metrics).unwrap());
        let path = RightsService::new(
            tower::util::BoxCloneService::new(inner),
            ObjectKey::new("ns", "fmp"),
            settings,
            licence_meter,
        );
        RightsFixture { path, sent, ledger, writer: tokio::spawn(writer.run(stop.clone())), stop, _dir: dir }
    }

    impl RightsFixture {
        async fn call(&self, user: &str, operation: &str) -> Result<Response, CallError> {
            self.path.clone().oneshot(request(user, operation)).await
        }

        /// The audit entries of all calls, oldest first.
        async fn audit(self) -> Vec<(String, Option<String>, bool, Option<String>)> {
            self.stop.cancel();
            self.writer.await.unwrap();
            let all = self.ledger.list_audit(None, None, 100).await.unwrap();
            let fields = |e: AuditEntry| (e.action, e.rights_profile, e.allowed, e.reason);
            all.into_iter().rev().map(|stored| fields(stored.entry)).collect()
        }
    }

    #[tokio::test]
    async fn an_unauthorized_call_is_refused_unsent_and_audited() {
        let fixture = fixture(licensed(None)).await;
        assert!(fixture.call("ann", "quote").await.is_ok());
        let refused = fixture.call("ann", "earnings").await.unwrap_err();
        assert_eq!(refused, AccessDenial::Rights { action: "earnings".into(), why: Denial::Action }.into());
        let refused = fixture.call("bob", "quote").await.unwrap_err();
        assert_eq!(refused, AccessDenial::Rights { action: "quote".into(), why: Denial::NoProfile }.into());
        assert_eq!(fixture.sent.load(Ordering::Relaxed), 1);
        let analysts = || Some("analysts".to_owned());
        assert_eq!(
            fixture.audit().await,
            [
                ("quote".into(), analysts(), true, None),
                ("earnings".into(), analysts(), false, Some("action_not_allowed".into())),
                ("quote".into(), None, false, Some("no_profile".into())),
            ]
        );
    }

    #[tokio::test]
    async fn probes_and_syncs_are_never_refused_or_audited() {
        let fixture = fixture(licensed(None)).await;
        assert!(fixture.path.clone().oneshot(Request::probe("/")).await.is_ok());
        assert!(fixture.path.clone().oneshot(Request::get("transactions", "/")).await.is_ok());
        assert!(fixture.audit().await.is_empty());
    }

    #[tokio::test]
    async fn a_connection_without_profiles_is_open_and_its_calls_audited() {
        let fixture = fixture(settings(|_| ())).await;
        assert!(fixture.call("bob", "quote").await.is_ok());
        assert_eq!(fixture.audit().await, [("quote".into(), None, true, None)]);
    }

    #[tokio::test]
    async fn daily_requests_are_limited_until_midnight() {
        let fixture = fixture(licensed(Some(3))).await;
        for _ in 0..3 {
            assert!(fixture.call("ann", "quote").await.is_ok());
        }
        let Err(CallError::Denied(AccessDenial::Quota { retry_in })) = fixture.call("ann", "quote").await else {
            panic!("one too many")
        };
        assert_eq!(retry_in.as_secs() / 60, 59, "{retry_in:?}: it is 23:00");
        assert_eq!(fixture.sent.load(Ordering::Relaxed), 3);
        assert_eq!(fixture.audit().await[3].3.as_deref(), Some("requests_per_day"));
    }
}
