//! Notices watches whose peer is gone without a word.
//!
//! Behind a broken network a connection stays open, and a watch on it looks like one in which nothing happens. So the
//! API server is asked to end each watch after half a minute; one that is silent for longer is broken, and is opened
//! anew. A request that opens a watch or lists has a time-out too: it may be sent on another connection that is broken.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use crate::clock::Clock;
use crate::domain::key::Kind;
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// Limits on the silence of a watch. Together they are less than a minute.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// How long the API server keeps a watch open, in whole seconds.
    pub open: Duration,
    /// Longest time without a byte of an open response: more than `open`, or healthy watches would break.
    pub silence: Duration,
    /// Longest time until the headers of a response.
    pub response: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        // kube's own limit, which ends a watch without an error, is five seconds above `open`.
        Self { open: Duration::from_secs(30), silence: Duration::from_secs(34), response: Duration::from_secs(10) }
    }
}

/// The API server is silent.
#[derive(Copy, Clone, Debug, thiserror::Error)]
enum SilentServer {
    #[error("the API server did not respond within {0:?}")]
    NoResponse(Duration),
    #[error("the API server sent nothing for {0:?}: the connection is broken")]
    NoData(Duration),
}

impl From<SilentServer> for kube::Error {
    fn from(silent: SilentServer) -> Self {
        Self::Service(silent.into())
    }
}

/// Observes the watches of all kinds. Cloning shares it.
#[derive(Clone)]
pub struct WatchMonitor {
    clock: Clock,
    limits: WatchLimits,
    watches: Arc<Mutex<Watches>>,
}

/// The observed watches, with what each is of.
type Watches = Vec<(Kind, Arc<WatchProgress>)>;

impl Default for WatchMonitor {
    fn default() -> Self {
        Self::new(Clock::system(), WatchLimits::default())
    }
}

impl WatchMonitor {
    /// A monitor of no watch yet.
    pub fn new(clock: Clock, limits: WatchLimits) -> Self {
        Self { clock, limits, watches: Arc::default() }
    }

    /// The limits.
    pub(super) fn limits(&self) -> WatchLimits {
        self.limits
    }

    /// A client for the lists and watches of one reflector, whose responses are observed.
    pub(super) fn observe(&self, kind: Kind, client: &Client) -> (Client, Arc<WatchProgress>) {
        let progress = Arc::new(WatchProgress::new(self.clock));
        self.lock().push((kind, Arc::clone(&progress)));
        let (namespace, limits) = (client.default_namespace().to_owned(), self.limits);
        let (client, observed) = (client.clone(), Arc::clone(&progress));
        let service = tower::service_fn(move |request| send(client.clone(), request, limits, Arc::clone(&observed)));
        (Client::new(service, namespace), progress)
    }

    /// Registers the gauge of the watches' age.
    ///
    /// # Errors
    /// If it is registered already.
    pub fn register(&self, metrics: &Metrics) -> Result<(), MetricsError> {
        let help = "Seconds since the API server last sent anything on the watch of a kind; of several, the oldest.";
        let gauge = IntGaugeVec::new(Opts::new("busbar_watch_age_seconds", help), &["kind"])?;
        metrics.collector(Box::new(AgeCollector { gauge, monitor: self.clone() }))
    }

    /// Why lists and watches fail now, a line for each: which one, and the API server's answer.
    pub fn failures(&self) -> Vec<String> {
        let watches = self.lock();
        let mut failures: Vec<_> = watches
            .iter()
            .filter_map(|(kind, watch)| Some(format!("{kind} cannot be listed: {}", watch.lock().failure.as_ref()?)))
            .collect();
        failures.sort();
        failures
    }

    /// Since when nothing was heard on the watch of `kind`; of several, the longest.
    fn age(&self, kind: Kind) -> Option<Duration> {
        let now = self.clock.mono();
        let watches = self.lock();
        watches.iter().filter(|(of, _)| *of == kind).map(|(_, watch)| now.since(watch.lock().heard)).max()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Kind, Arc<WatchProgress>)>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(
    client: Client,
    request: Request<Body>,
    limits: WatchLimits,
    progress: Arc<WatchProgress>,
) -> Result<Response<ObservedBody>, kube::Error> {
    let response = match tokio::time::timeout(limits.response, client.send(request)).await {
        Ok(response) => response?,
        Err(_) => return Err(SilentServer::NoResponse(limits.response).into()),
    };
    // A rejection is no sign of a watch that works.
    let progress = response.status().is_success().then_some(progress);
    if let Some(progress) = &progress {
        progress.opened();
    }
    Ok(response.map(|inner| ObservedBody { inner, limit: limits.silence, silence: None, progress }))
}

/// What is known of one watch.
pub(super) struct WatchProgress {
    clock: Clock,
    state: Mutex<ProgressState>,
    changed: Notify,
}

struct ProgressState {
    /// When the API server last sent anything.
    heard: Mono,
    /// Since when its requests succeed.
    working_since: Option<Mono>,
    /// Why the last request failed; `None` after one that succeeded.
    failure: Option<Arc<str>>,
}

impl WatchProgress {
    fn new(clock: Clock) -> Self {
        let state = ProgressState { heard: clock.mono(), working_since: None, failure: None };
        Self { clock, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until the watch has worked for `time`, over the regular ends of its responses.
    pub(super) async fn works_for(&self, time: Duration) {
        loop {
            let working_since = self.lock().working_since;
            match working_since.map(|since| since + time) {
                Some(at) if at <= self.clock.mono() => return,
                Some(at) => {
                    tokio::select! {
                        () = self.clock.sleep_until(at) => {}
                        () = self.changed.notified() => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    fn opened(&self) {
        let now = self.clock.mono();
        let mut state = self.lock();
        (state.heard, state.failure) = (now, None);
        if state.working_since.is_none() {
            state.working_since = Some(now);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn heard(&self) {
        self.lock().heard = self.clock.mono();
    }

    /// Records that the watch failed, for this cause.
    pub(super) fn failed(&self, cause: &str) {
        {
            let mut state = self.lock();
            state.working_since = None;
            state.failure = Some(cause.into());
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response's body that ends with an error when it is silent for too long.
struct ObservedBody {
    inner: Body,
    limit: Duration,
    /// Ends when the silence has lasted too long.
    silence: Option<Pin<Box<Sleep>>>,
    /// `None`: a rejection.
    progress: Option<Arc<WatchProgress>>,
}

impl hyper::body::Body for ObservedBody {
    type Data = Bytes;
    type Error = kube::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, kube::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.silence = None;
            if let Some(progress) = &this.progress {
                progress.heard();
            }
            return Poll::Ready(frame);
        }
        let limit = this.limit;
        let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        match silence.as_mut().poll(cx) {
            Poll::Ready(()) => {
                // The body ends here: what comes after a gap is not to be trusted.
                this.inner = Body::empty();
                this.silence = None;
                Poll::Ready(Some(Err(SilentServer::NoData(limit).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads the ages at scrape time.
struct AgeCollector {
    gauge: IntGaugeVec,
    monitor: WatchMonitor,
}

impl Collector for AgeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for kind in Kind::ALL {
            if let Some(age) = self.monitor.age(kind) {
                let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
                self.gauge.with_label_values(&[kind.as_str()]).set(seconds);
            }
        }
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests;
