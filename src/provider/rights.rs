//! The rights layer: authorizes the caller before anything else happens.
//!
//! Probes and syncs have no caller and are never refused: they are the operator's own. All other calls are authorized
//! by the connection's licence profiles ([`crate::domain::rights`]); a connection without profiles is open to all
//! callers. Every call with a caller is written to the audit log, allowed or not, and counted against its profile's
//! daily limit, within the call's own deadline.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::tz::TimeZone;
use prometheus::IntCounter;
use tower::{Service, ServiceExt as _};

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::rights::{AccessDecision, Caller, LicenceProfile};
use crate::domain::time::Mono;
use crate::ledger::Ledger;
use crate::ledger::audit::{AuditEntry, AuditKind, UsageKey};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::access_denial::AccessDenial;
use crate::provider::audit::AuditQueue;
use crate::provider::call::{CallError, Response};
use crate::provider::call_context::{CallContext, CallFuture, CallService};
use crate::provider::usage_blocks::{Counted, UsageBlocks};
use crate::settings::Settings;

/// How long a call waits for its request to be counted, and no longer than half of what is left of its time: the rest is
/// the provider's. The ledger takes milliseconds; on a busy disk it is better to be late than uncounted.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// A call to authorize.
#[derive(Copy, Clone, Debug)]
pub(crate) struct AuthorizedCall<'a> {
    /// The caller.
    pub(crate) caller: &'a Caller,
    /// The operation.
    pub(crate) operation: &'a str,
    /// When the caller stops waiting.
    pub(crate) deadline: Mono,
}

/// Authorizes callers for all connections, writes the audit log and counts daily requests.
pub struct LicenceMeter {
    clock: Clock,
    audit: Option<AuditQueue>,
    blocks: Option<UsageBlocks<dyn Ledger>>,
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
        Ok(Self { clock, audit: Some(audit), blocks: Some(UsageBlocks::new(ledger)), failed_open: Some(failed_open) })
    }

    /// A meter that only authorizes: nothing is written and no requests are counted.
    pub fn without_ledger(clock: Clock) -> Self {
        Self { clock, audit: None, blocks: None, failed_open: None }
    }

    /// Authorizes one call, audits it and counts it, in at most half of the time until `deadline`.
    pub(crate) async fn authorize(
        &self,
        key: &ObjectKey,
        settings: &Settings,
        call: AuthorizedCall<'_>,
    ) -> Result<(), AccessDenial> {
        let AuthorizedCall { caller, operation, deadline } = call;
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
                let patience = (deadline.since(self.clock.mono()) / 2).min(COUNT_TIMEOUT);
                let exhausted = self.count(key, profile, patience).await;
                let reason = exhausted.map(|_| "requests_per_day");
                self.audit(key, settings, caller, operation, Some(&profile.name), reason);
                exhausted.map_or(Ok(()), |retry_in| Err(AccessDenial::Quota { retry_in }))
            }
        }
    }

    /// Counts a request against the profile's daily limit; the time until the next day if the limit is reached.
    async fn count(&self, key: &ObjectKey, profile: &LicenceProfile, patience: Duration) -> Option<Duration> {
        let (Some(limit), Some(blocks)) = (profile.requests_per_day, &self.blocks) else { return None };
        let now = self.clock.now().wall.to_zoned(TimeZone::UTC);
        let usage = UsageKey {
            namespace: key.namespace.to_string(),
            connection: key.name.to_string(),
            profile: profile.name.to_string(),
            day: now.date(),
        };
        match blocks.count(usage, limit, patience).await {
            Counted::Within => None,
            Counted::Exhausted => {
                let midnight = now.tomorrow().and_then(|next| next.start_of_day()).ok();
                let left = midnight.and_then(|next| Duration::try_from(next.duration_since(&now)).ok());
                Some(left.unwrap_or(Duration::from_hours(1)))
            }
            Counted::Unknown => {
                // A failing store must not stop licensed callers; a metric counts these requests.
                if let Some(series) = &self.failed_open {
                    series.inc();
                }
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
            repeats: None,
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

impl<S: CallService + Clone + Send + 'static> Service<CallContext> for RightsService<S> {
    type Response = Response;
    type Error = CallError;
    type Future = CallFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // The inner services are polled after authorization: a refused call must not wait for them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ctx: CallContext) -> CallFuture {
        let inner = self.inner.clone();
        let Some(caller) = ctx.request.caller.clone() else { return inner.oneshot(ctx).boxed() };
        let (key, settings, licence_meter) =
            (self.key.clone(), Arc::clone(&self.settings), Arc::clone(&self.licence_meter));
        async move {
            let call = AuthorizedCall { caller: &caller, operation: &ctx.request.operation, deadline: ctx.deadline };
            licence_meter.authorize(&key, &settings, call).await?;
            inner.oneshot(ctx).await
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
    use crate::provider::call::Request;
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
        path: RightsService<tower::util::BoxCloneService<CallContext, Response, CallError>>,
        sent: Arc<AtomicUsize>,
        ledger: Arc<dyn Ledger>,
        stop: CancellationToken,
        writer: tokio::task::JoinHandle<()>,
        dir: tempfile::TempDir,
    }

    async fn fixture(settings: Arc<Settings>) -> RightsFixture {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger::open(&LedgerUrl::Sqlite(dir.path().join("l.db")), OpenMode::Migrate).await.unwrap();
        let (clock, metrics, stop) =
            (Clock::starting_at("2026-11-22T23:00:00Z".parse().unwrap()), Metrics::new(), CancellationToken::new());
        let (queue, writer) = audit_channel(ledger.clone(), clock, &metrics).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let inner = tower::service_fn(move |_: CallContext| {
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
        RightsFixture { path, sent, ledger, writer: tokio::spawn(writer.run(stop.clone())), stop, dir }
    }

    impl RightsFixture {
        async fn call(&self, user: &str, operation: &str) -> Result<Response, CallError> {
            self.path.clone().oneshot(CallContext::new(request(user, operation), Mono::MAX)).await
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
        for request in [Request::probe("/"), Request::get("transactions", "/")] {
            assert!(fixture.path.clone().oneshot(CallContext::new(request, Mono::MAX)).await.is_ok());
        }
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

    #[tokio::test]
    async fn a_call_waits_for_its_count_within_its_own_deadline() {
        let fixture = fixture(licensed(Some(1))).await;
        let lock = rusqlite::Connection::open(fixture.dir.path().join("l.db")).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let clock = fixture.path.licence_meter.clock;
        let deadline = clock.mono() + Duration::from_millis(400);
        let call = fixture.path.clone().oneshot(CallContext::new(request("ann", "quote"), deadline));
        let usage = UsageKey {
            namespace: "ns".to_owned(),
            connection: "other".to_owned(),
            profile: "analysts".to_owned(),
            day: jiff::civil::date(2026, 11, 22),
        };
        tokio::select! {
            biased;
            end = call => assert!(end.is_ok(), "it is admitted uncounted: {end:?}"),
            end = fixture.ledger.take_usage(&usage, 1, 1) => panic!("it waited as long as the ledger: {end:?}"),
        }
        assert_eq!(fixture.sent.load(Ordering::Relaxed), 1);
        drop(lock);
        // What the ledger granted late is used by the next call, and nothing is granted twice.
        assert!(fixture.call("ann", "quote").await.is_ok());
        assert!(fixture.call("ann", "quote").await.is_err());
    }
}
