//! Kubernetes events: what happened, what Busbar does next, what the user can do.
//!
//! Published only on transitions and user-visible actions, after the status that reports the same was written. An event
//! that cannot be written is logged at debug level and dropped: the status is authoritative, the event is
//! informational.
//!
//! Events are written one after another by a task of their own: when thousands of connections become ready at once,
//! their status writes must not wait for as many events, nor for an API server that the events slow down. So normal
//! events are rate limited; warnings are not.
//!
//! Not kube's `Recorder`: it aggregates events of one object and reason whatever their message (a second failover would
//! be reported with the banks of the first), caches each whole event until another is published, and scans the whole
//! cache for each new one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::reasons::EventReason;
use crate::clock::Clock;
use crate::cluster::call;
use crate::domain::time::Mono;

/// The reporting controller, as `kubectl describe` shows it.
const CONTROLLER: &str = "busbar.dev/operator";

/// An identical event within this time of the last one continues its series, as in client-go.
const SERIES_GAP: Duration = Duration::from_mins(6);

/// Series that can be continued. Beyond it the oldest are evicted, and a repetition becomes a new event.
const MAX_SERIES: usize = 2048;

/// Capacity of each queue (warnings, normal), some hundred bytes an event. Reconciles wait while it is full: no event
/// is dropped.
const QUEUE_CAPACITY: usize = 16 * 1024;

/// Rate limit of normal events: this burst, then one per interval, which is what an API server allows a single client.
/// A larger burst would be written while thousands of new connections wait for their first status.
const BURST: u32 = 100;
const NORMAL_INTERVAL: Duration = Duration::from_millis(40);

/// An API server that is slow has more urgent work, often our own status writes: after a normal event it gets this many
/// times the event's duration to itself …
const BUSY_FACTOR: u32 = 20;
/// … and at most this long.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// How long queued events are still written at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// An event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDraft {
    /// The reason.
    pub reason: EventReason,
    /// Whether its type is Warning (else Normal).
    pub warning: bool,
    /// What happened; what Busbar does next and when; what the user can do. No ids, no text from a provider.
    pub message: String,
}

impl EventDraft {
    /// An event of type Normal.
    pub fn normal(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: false, message: message.into() }
    }

    /// An event of type Warning: a person should look at it.
    pub fn warning(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: true, message: message.into() }
    }
}

/// What makes two events identical.
#[derive(Clone, PartialEq, Eq, Hash)]
struct EventKey {
    uid: String,
    reason: &'static str,
    message: String,
}

/// A written event and how often it was repeated.
#[derive(Clone)]
struct WrittenSeries {
    name: String,
    count: i32,
    last: Mono,
}

/// The most recently written series.
#[derive(Default)]
struct SeriesCache {
    series: HashMap<EventKey, WrittenSeries>,
    order: VecDeque<EventKey>,
}

impl SeriesCache {
    /// The series that an event with this key continues, if the last one is recent enough.
    fn ongoing(&self, key: &EventKey, now: Mono) -> Option<WrittenSeries> {
        self.series.get(key).filter(|series| now.since(series.last) < SERIES_GAP).cloned()
    }

    fn insert(&mut self, key: EventKey, series: WrittenSeries) {
        if self.series.insert(key.clone(), series).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_SERIES {
            if let Some(oldest) = self.order.pop_front() {
                self.series.remove(&oldest);
            }
        }
    }
}

/// An event in the queue: its object, its content, and when it happened.
struct QueuedEvent {
    about: ObjectReference,
    draft: EventDraft,
    at: Timestamp,
}

/// Rate limit of normal events: a leaky bucket of [`BURST`] that drains one per [`NORMAL_INTERVAL`] (the generic cell
/// rate algorithm of ITU-T I.371, in its virtual scheduling form), more slowly while the API server is slow.
#[derive(Default)]
struct NormalRate {
    full: Mono,
}

impl NormalRate {
    /// When the next event may be written.
    fn next(&self) -> Mono {
        self.full - NORMAL_INTERVAL * (BURST - 1)
    }

    /// Counts one event, which took `elapsed` to write.
    fn consume(&mut self, now: Mono, elapsed: Duration) {
        let interval = elapsed.saturating_mul(BUSY_FACTOR).clamp(NORMAL_INTERVAL, MAX_INTERVAL);
        self.full = self.full.max(now) + interval;
    }
}

/// Publishes events under this operator's name. Cloning shares the queue.
#[derive(Clone)]
pub struct EventRecorder {
    writer: Arc<EventWriter>,
    warnings: mpsc::Sender<QueuedEvent>,
    normal: mpsc::Sender<QueuedEvent>,
}

/// The queue of published events; [`EventQueue::run`] writes them and is a task of its own.
pub struct EventQueue {
    writer: Arc<EventWriter>,
    warnings: mpsc::Receiver<QueuedEvent>,
    normal: mpsc::Receiver<QueuedEvent>,
}

impl EventRecorder {
    /// A recorder that reports as instance `identity`, and its queue.
    pub fn new(client: Client, clock: Clock, identity: &str) -> (Self, EventQueue) {
        let writer = Arc::new(EventWriter { client, clock, instance: identity.into(), cache: Mutex::default() });
        let (warnings, normal) = (mpsc::channel(QUEUE_CAPACITY), mpsc::channel(QUEUE_CAPACITY));
        let recorder = Self { writer: Arc::clone(&writer), warnings: warnings.0, normal: normal.0 };
        (recorder, EventQueue { writer, warnings: warnings.1, normal: normal.1 })
    }

    /// Queues `draft` as an event about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, draft: &EventDraft) {
        let queue = if draft.warning { &self.warnings } else { &self.normal };
        let at = self.writer.clock.now().wall;
        let event = QueuedEvent { about: object.object_ref(&()), draft: draft.clone(), at };
        if let Err(mpsc::error::SendError(event)) = queue.send(event).await {
            // The queue has ended: the process is shutting down, and this is one of the last reconciles.
            self.writer.write(event).await;
        }
    }
}

impl EventQueue {
    /// Writes events until `stop` is cancelled, then drains the queue for at most `DRAIN_TIMEOUT`.
    pub async fn run(mut self, stop: CancellationToken) {
        let Self { writer, warnings, normal } = &mut self;
        let mut rate = NormalRate::default();
        loop {
            let next = rate.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(event) = warnings.recv() => writer.write(event).await,
                Some(event) = async { writer.clock.sleep_until(next).await; normal.recv().await } => {
                    let began = writer.clock.mono();
                    writer.write(event).await;
                    rate.consume(began, writer.clock.mono().since(began));
                }
                else => return,
            }
        }
        warnings.close();
        normal.close();
        let drain = async {
            while let Some(event) = warnings.recv().await {
                writer.write(event).await;
            }
            while let Some(event) = normal.recv().await {
                writer.write(event).await;
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drain).await.is_err() {
            tracing::debug!(waiting = warnings.len() + normal.len(), "shutting down with unwritten events");
        }
    }
}

struct EventWriter {
    client: Client,
    clock: Clock,
    instance: Arc<str>,
    cache: Mutex<SeriesCache>,
}

impl EventWriter {
    async fn write(&self, QueuedEvent { about, draft, at }: QueuedEvent) {
        let now = self.clock.mono();
        let object = about.name.clone().unwrap_or_default();
        let key = EventKey {
            uid: about.uid.clone().unwrap_or_default(),
            reason: draft.reason.as_str(),
            message: draft.message.clone(),
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let ongoing = self.cache().ongoing(&key, now);
        let written = if let Some(WrittenSeries { name, count, .. }) = ongoing {
            let series = EventSeries { count: count.saturating_add(1), last_observed_time: MicroTime(at) };
            let patch = serde_json::json!({ "series": series });
            let patched = call(events.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))).await;
            patched.map(|_| WrittenSeries { name, count: series.count, last: now })
        } else {
            let event = self.event(about, &draft, at);
            let name = event.name_any();
            let created = call(events.create(&PostParams::default(), &event)).await;
            created.map(|_| WrittenSeries { name, count: 1, last: now })
        };
        match written {
            Ok(series) => self.cache().insert(key, series),
            Err(error) => {
                tracing::debug!(name = object, reason = key.reason, %error, "event could not be written; dropped");
            }
        }
    }

    fn event(&self, about: ObjectReference, draft: &EventDraft, at: Timestamp) -> Event {
        let name = about.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{name}.{:x}", at.as_nanosecond())),
                ..ObjectMeta::default()
            },
            type_: Some(if draft.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(draft.reason.as_str().to_owned()),
            note: Some(draft.message.clone()),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(at)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.to_string()),
            regarding: Some(about),
            ..Event::default()
        }
    }

    fn cache(&self) -> MutexGuard<'_, SeriesCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(message: &str) -> EventKey {
        EventKey { uid: "uid-1".to_owned(), reason: "FailedOver", message: message.to_owned() }
    }

    fn series(last: Mono) -> WrittenSeries {
        WrittenSeries { name: "route.1".to_owned(), count: 1, last }
    }

    #[test]
    fn only_an_identical_recent_event_continues_a_series() {
        let mut cache = SeriesCache::default();
        cache.insert(key("from a to b"), series(Mono::ZERO));
        let soon = Mono::ZERO + Duration::from_mins(5);
        assert!(cache.ongoing(&key("from a to b"), soon).is_some());
        assert!(cache.ongoing(&key("from b to c"), soon).is_none());
        assert!(cache.ongoing(&key("from a to b"), Mono::ZERO + SERIES_GAP).is_none());
    }

    #[test]
    fn the_series_cache_is_bounded_and_evicts_the_oldest_first() {
        let mut cache = SeriesCache::default();
        for n in 0..=MAX_SERIES {
            cache.insert(key(&n.to_string()), series(Mono::ZERO));
            cache.insert(key(&n.to_string()), series(Mono::ZERO));
        }
        assert_eq!((cache.series.len(), cache.order.len()), (MAX_SERIES, MAX_SERIES));
        assert!(cache.ongoing(&key("0"), Mono::ZERO).is_none());
        assert!(cache.ongoing(&key("1"), Mono::ZERO).is_some());
    }

    #[test]
    fn a_burst_passes_and_further_events_are_spaced_until_the_bucket_drains() {
        let (mut rate, mut now) = (NormalRate::default(), Mono::ZERO + Duration::from_secs(5));
        for _ in 0..BURST {
            assert!(rate.next() <= now);
            rate.consume(now, Duration::ZERO);
        }
        assert_eq!(rate.next(), now + NORMAL_INTERVAL);
        now = rate.next();
        rate.consume(now, Duration::ZERO);
        assert_eq!(rate.next(), now + NORMAL_INTERVAL, "no second burst");
        now = now + NORMAL_INTERVAL * BURST;
        for _ in 0..BURST {
            assert!(rate.next() <= now, "a drained bucket allows a full burst");
            rate.consume(now, Duration::ZERO);
        }
        assert!(rate.next() > now);
    }

    #[test]
    fn a_slow_api_server_gets_fewer_normal_events() {
        let (mut rate, now) = (NormalRate::default(), Mono::ZERO + Duration::from_secs(5));
        let before = rate.full.max(now);
        rate.consume(now, Duration::from_millis(50));
        assert_eq!(rate.full, before + Duration::from_secs(1));
        rate.consume(now, Duration::from_mins(1));
        assert_eq!(rate.full, before + Duration::from_secs(1) + MAX_INTERVAL);
    }
}
