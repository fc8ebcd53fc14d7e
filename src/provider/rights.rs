//! The outermost layer: whether this caller may make this call, before anything else happens.
//!
//! Probes and syncs have no caller and are never refused: they are the operator's own. For everybody else the licence
//! profiles of the connection decide ([`crate::domain::rights`]); a connection without any is open to whoever may call.
//! Every call with a caller is written into the audit, allowed or not, and counted against its profile's day.

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
use crate::domain::rights::{Caller, Judgement, Profile};
use crate::ledger::Ledger;
use crate::ledger::audit::{AuditEntry, AuditKind, UsageKey};
use crate::metrics::{Metrics, MetricsError};
use crate::provider::audit::AuditQueue;
use crate::provider::call::{Answer, CallError, Request};
use crate::provider::deadline::Calling;
use crate::provider::settings::Settings;

/// Requests of a day are taken from the ledger in blocks of one percent, at least one and at most this many: a process
/// that dies gives up the rest of its block, so the day may end a little early, never late.
const LARGEST_BLOCK: u64 = 100;

/// What all connections' rights share: the audit, and the counts of the day.
pub struct Licences {
    clock: Clock,
    audit: Option<AuditQueue>,
    ledger: Option<Arc<dyn Ledger>>,
    /// What is left of the blocks taken, by whose they are. Of one day only.
    blocks: Mutex<HashMap<UsageKey, u64>>,
    failed_open: Option<IntCounter>,
}

impl Licences {
    /// One that writes into the audit and counts in the ledger.
    pub fn new(
        clock: Clock,
        ledger: Arc<dyn Ledger>,
        audit: AuditQueue,
        metrics: &Metrics,
    ) -> Result<Self, MetricsError> {
        let failed_open = metrics
            .counter(
                "busbar_ratelimit_fail_open_total",
                "Requests let through because their count could not be kept.",
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

    /// One that only judges: nothing is written, no day is counted.
    pub fn judging(clock: Clock) -> Self {
        Self { clock, audit: None, ledger: None, blocks: Mutex::default(), failed_open: None }
    }

    /// Judges one call, writes it down, counts it.
    pub(crate) async fn admit(
        &self,
        key: &ObjectKey,
        settings: &Settings,
        caller: &Caller,
        operation: &str,
    ) -> Result<(), CallError> {
        let Some(rights) = settings.rights() else {
            self.note(key, settings, caller, operation, None, None);
            return Ok(());
        };
        match rights.judge(caller, operation) {
            Judgement::Denied { profile, action, why } => {
                self.note(key, settings, caller, &action, profile.as_deref(), Some(why.as_str()));
                Err(CallError::RightsDenied { action: action.into(), why })
            }
            Judgement::Allowed(profile) => {
                let used_up = self.count(key, profile).await;
                let reason = used_up.map(|_| "requests_per_day");
                self.note(key, settings, caller, operation, Some(&profile.name), reason);
                used_up.map_or(Ok(()), |retry_in| Err(CallError::RightsQuota { retry_in }))
            }
        }
    }

    /// Counts a request against the profile's day; the time until the next day if it is one too many.
    async fn count(&self, key: &ObjectKey, profile: &Profile) -> Option<Duration> {
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
        let want = (limit / 100).clamp(1, LARGEST_BLOCK);
        match ledger.take_usage(&usage, want, limit).await {
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
                // A store in trouble must not stop whoever has a licence; it is said in a metric.
                if let Some(series) = &self.failed_open {
                    series.inc();
                }
                tracing::warn!(%error, "the use of a licence could not be counted; the request goes on");
                None
            }
        }
    }

    fn note(
        &self,
        key: &ObjectKey,
        settings: &Settings,
        caller: &Caller,
        action: &str,
        profile: Option<&str>,
        refused: Option<&str>,
    ) {
        let Some(audit) = &self.audit else { return };
        audit.put(AuditEntry {
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

/// Lets only those calls in whose caller may make them.
#[derive(Clone)]
pub struct Rights<S> {
    inner: S,
    key: ObjectKey,
    settings: Arc<Settings>,
    licences: Arc<Licences>,
}

impl<S> Rights<S> {
    /// Wraps `inner`.
    pub(crate) fn new(inner: S, key: ObjectKey, settings: Arc<Settings>, licences: Arc<Licences>) -> Self {
        Self { inner, key, settings, licences }
    }
}

impl<S> Service<Request> for Rights<S>
where
    S: Service<Request, Response = Answer, Error = CallError, Future: Send + 'static> + Clone + Send + 'static,
{
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // What is inside is asked after the rights: a refused call must not wait for anything.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Calling {
        let inner = self.inner.clone();
        let Some(caller) = request.caller.clone() else { return inner.oneshot(request).boxed() };
        let (key, settings, licences) = (self.key.clone(), Arc::clone(&self.settings), Arc::clone(&self.licences));
        async move {
            licences.admit(&key, &settings, &caller, &request.operation).await?;
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
    use crate::domain::rights::{self, Denial, Subject};
    use crate::ledger::audit::Audit as _;
    use crate::ledger::sqlite::SqliteLedger;
    use crate::provider::audit::audit;
    use crate::provider::testkit::{answer, settings};

    fn desk(requests_per_day: Option<u64>) -> Arc<Settings> {
        settings(|draft| {
            draft.rights = Some(Arc::new(rights::Rights {
                profiles: vec![Profile {
                    name: "desk".into(),
                    subjects: vec![Subject::User("ann".into())],
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

    struct World {
        path: Rights<tower::util::BoxCloneService<Request, Answer, CallError>>,
        sent: Arc<AtomicUsize>,
        ledger: Arc<SqliteLedger>,
        stop: CancellationToken,
        writer: tokio::task::JoinHandle<()>,
        _dir: tempfile::TempDir,
    }

    async fn world(settings: Arc<Settings>) -> World {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Arc::new(SqliteLedger::open(dir.path().join("l.db")).await.unwrap());
        let (clock, metrics, stop) =
            (Clock::starting_at("2026-11-22T23:00:00Z".parse().unwrap()), Metrics::new(), CancellationToken::new());
        let keep = Duration::from_hours(24);
        let (queue, writer) = audit(ledger.clone(), clock, keep, &metrics).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let inner = tower::service_fn(move |_: Request| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(answer(200)) }
        });
        let licences = Arc::new(Licences::new(clock, ledger.clone(), queue, &metrics).unwrap());
        let path =
            Rights::new(tower::util::BoxCloneService::new(inner), ObjectKey::new("ns", "fmp"), settings, licences);
        World { path, sent, ledger, writer: tokio::spawn(writer.run(stop.clone())), stop, _dir: dir }
    }

    impl World {
        async fn call(&self, user: &str, operation: &str) -> Result<Answer, CallError> {
            self.path.clone().oneshot(request(user, operation)).await
        }

        /// What the audit says of all calls, oldest first.
        async fn audit(self) -> Vec<(String, Option<String>, bool, Option<String>)> {
            self.stop.cancel();
            self.writer.await.unwrap();
            let all = self.ledger.list_audit(None, None, 100).await.unwrap();
            let said = |e: AuditEntry| (e.action, e.rights_profile, e.allowed, e.reason);
            all.into_iter().rev().map(|stored| said(stored.entry)).collect()
        }
    }

    #[tokio::test]
    async fn who_may_not_is_refused_before_anything_is_sent_and_both_are_in_the_audit() {
        let world = world(desk(None)).await;
        assert!(world.call("ann", "quote").await.is_ok());
        let refused = world.call("ann", "earnings").await.unwrap_err();
        assert_eq!(refused, CallError::RightsDenied { action: "earnings".into(), why: Denial::Action });
        let refused = world.call("bob", "quote").await.unwrap_err();
        assert_eq!(refused, CallError::RightsDenied { action: "quote".into(), why: Denial::NoProfile });
        assert_eq!(world.sent.load(Ordering::Relaxed), 1);
        let desk = || Some("desk".to_owned());
        assert_eq!(
            world.audit().await,
            [
                ("quote".into(), desk(), true, None),
                ("earnings".into(), desk(), false, Some("action_not_allowed".into())),
                ("quote".into(), None, false, Some("no_profile".into())),
            ]
        );
    }

    #[tokio::test]
    async fn probes_and_syncs_are_never_refused_and_not_in_the_audit() {
        let world = world(desk(None)).await;
        assert!(world.path.clone().oneshot(Request::probe("/")).await.is_ok());
        assert!(world.path.clone().oneshot(Request::get("transactions", "/")).await.is_ok());
        assert!(world.audit().await.is_empty());
    }

    #[tokio::test]
    async fn a_connection_without_rights_is_open_and_its_calls_are_in_the_audit() {
        let world = world(settings(|_| ())).await;
        assert!(world.call("bob", "quote").await.is_ok());
        assert_eq!(world.audit().await, [("quote".into(), None, true, None)]);
    }

    #[tokio::test]
    async fn a_days_requests_are_counted_and_the_next_one_waits_for_midnight() {
        let world = world(desk(Some(3))).await;
        for _ in 0..3 {
            assert!(world.call("ann", "quote").await.is_ok());
        }
        let Err(CallError::RightsQuota { retry_in }) = world.call("ann", "quote").await else { panic!("one too many") };
        assert_eq!(retry_in.as_secs() / 60, 59, "{retry_in:?}: it is 23:00");
        assert_eq!(world.sent.load(Ordering::Relaxed), 3);
        assert_eq!(world.audit().await[3].3.as_deref(), Some("requests_per_day"));
    }
}
