//! Kubernetes events: what happened, what Busbar does next, what the user can do.
//!
//! Published on transitions and user-visible acts only, after the status that tells the same was written. An event that
//! cannot be published is counted and forgotten: it is a courtesy, the status is the truth.
//!
//! They are written one after another, apart from the reconciles: when thousands of connections come up at once, their
//! statuses must not wait for as many events. Nor for the API server, which has as much work with one as with the other:
//! news that needs nobody is paced. A warning never waits for it.
//!
//! Not kube's recorder: it takes events of one object and reason for repetitions, whatever they say (a second fail-over
//! would be told with the banks of the first), keeps every event whole for as long as no other is published, and walks
//! through all it keeps for each new one.

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

/// Who says it, as `kubectl describe` shows it.
const CONTROLLER: &str = "busbar.dev/operator";

/// The same words again within this time after the last are one series, as in client-go.
const SERIES_GAP: Duration = Duration::from_mins(6);

/// Events that may be continued as a series. Beyond it the oldest are forgotten, and a repetition is an event of its own.
const REMEMBERED: usize = 2048;

/// Events of either sort that may wait to be written, some hundred bytes each. Beyond it reconciles wait with them: nothing is lost.
const WAITING: usize = 16 * 1024;

/// News that needs nobody: so many at once, and from then on one in so much time, as an API server allows any one client.
const BURST: u32 = 1_000;
const PACE: Duration = Duration::from_millis(40);

/// How long the process, when it ends, goes on writing what waits.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Why.
    pub reason: EventReason,
    /// Whether someone should look.
    pub warning: bool,
    /// What happened; what Busbar does next and when; what the user can do. No ids, no provider text.
    pub message: String,
}

impl Note {
    /// News that needs nobody.
    pub fn normal(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: false, message: message.into() }
    }

    /// News that someone should look at.
    pub fn warning(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: true, message: message.into() }
    }
}

/// The words about one object.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Said {
    uid: String,
    reason: &'static str,
    message: String,
}

/// How often they were said, under which name.
#[derive(Clone)]
struct Series {
    name: String,
    count: i32,
    last: Mono,
}

/// What was said lately.
#[derive(Default)]
struct Memory {
    series: HashMap<Said, Series>,
    order: VecDeque<Said>,
}

impl Memory {
    /// The series that `said` continues, if it was said lately.
    fn continued(&self, said: &Said, now: Mono) -> Option<Series> {
        self.series.get(said).filter(|series| now.since(series.last) < SERIES_GAP).cloned()
    }

    fn remember(&mut self, said: Said, series: Series) {
        if self.series.insert(said.clone(), series).is_none() {
            self.order.push_back(said);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.series.remove(&oldest);
            }
        }
    }
}

/// A note, what it is about, and when it was so.
struct Notice {
    about: ObjectReference,
    note: Note,
    at: Timestamp,
}

/// When the next piece of news may be written that needs nobody: a leaky bucket of [`BURST`] that one leaves each [`PACE`]
/// (the generic cell rate algorithm of ITU-T I.371, in its virtual scheduling form).
#[derive(Default)]
struct Pace {
    full: Mono,
}

impl Pace {
    fn next(&self) -> Mono {
        self.full - PACE * (BURST - 1)
    }

    fn went(&mut self, now: Mono) {
        self.full = self.full.max(now) + PACE;
    }
}

/// Publishes events under this operator's name. Cloning shares it.
#[derive(Clone)]
pub struct Events {
    pen: Arc<Pen>,
    warnings: mpsc::Sender<Notice>,
    news: mpsc::Sender<Notice>,
}

/// Writes what was published; a task of its own.
pub struct Outbox {
    pen: Arc<Pen>,
    warnings: mpsc::Receiver<Notice>,
    news: mpsc::Receiver<Notice>,
}

impl Events {
    /// A publisher that signs as instance `identity`, and the task that writes.
    pub fn new(client: Client, clock: Clock, identity: &str) -> (Self, Outbox) {
        let pen = Arc::new(Pen { client, clock, instance: identity.into(), memory: Mutex::default() });
        let (warnings, news) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
        let events = Self { pen: Arc::clone(&pen), warnings: warnings.0, news: news.0 };
        (events, Outbox { pen, warnings: warnings.1, news: news.1 })
    }

    /// Publishes `note` about `object`, soon.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: &Note) {
        let outbox = if note.warning { &self.warnings } else { &self.news };
        let notice = Notice { about: object.object_ref(&()), note: note.clone(), at: self.pen.clock.now().wall };
        if let Err(mpsc::error::SendError(notice)) = outbox.send(notice).await {
            // The process is ending, and this reconcile is among the last.
            self.pen.write(notice).await;
        }
    }
}

impl Outbox {
    /// Writes until `stop` is cancelled, then a moment longer what waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let Self { pen, warnings, news } = &mut self;
        let mut pace = Pace::default();
        loop {
            let may = pace.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(notice) = warnings.recv() => pen.write(notice).await,
                Some(notice) = async { pen.clock.sleep_until(may).await; news.recv().await } => {
                    pace.went(pen.clock.mono());
                    pen.write(notice).await;
                }
                else => return,
            }
        }
        warnings.close();
        news.close();
        let rest = async {
            while let Some(notice) = warnings.recv().await {
                pen.write(notice).await;
            }
            while let Some(notice) = news.recv().await {
                pen.write(notice).await;
            }
        };
        if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
            tracing::debug!(waiting = warnings.len() + news.len(), "ending with events unwritten");
        }
    }
}

struct Pen {
    client: Client,
    clock: Clock,
    instance: Arc<str>,
    memory: Mutex<Memory>,
}

impl Pen {
    async fn write(&self, Notice { about, note, at }: Notice) {
        let now = self.clock.mono();
        let object = about.name.clone().unwrap_or_default();
        let said = Said {
            uid: about.uid.clone().unwrap_or_default(),
            reason: note.reason.as_str(),
            message: note.message.clone(),
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or("default"));
        let earlier = self.memory().continued(&said, now);
        let published = if let Some(Series { name, count, .. }) = earlier {
            let series = EventSeries { count: count.saturating_add(1), last_observed_time: MicroTime(at) };
            let patch = serde_json::json!({ "series": series });
            let patched = call(events.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch))).await;
            patched.map(|_| Series { name, count: series.count, last: now })
        } else {
            let event = self.event(about, &note, at);
            let name = event.name_any();
            let created = call(events.create(&PostParams::default(), &event)).await;
            created.map(|_| Series { name, count: 1, last: now })
        };
        match published {
            Ok(series) => self.memory().remember(said, series),
            Err(error) => {
                tracing::debug!(name = object, reason = said.reason, %error, "an event was not published");
            }
        }
    }

    fn event(&self, about: ObjectReference, note: &Note, at: Timestamp) -> Event {
        let name = about.name.as_deref().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{name}.{:x}", at.as_nanosecond())),
                ..ObjectMeta::default()
            },
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason.as_str().to_owned()),
            note: Some(note.message.clone()),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(at)),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.to_string()),
            regarding: Some(about),
            ..Event::default()
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str) -> Said {
        Said { uid: "uid-1".to_owned(), reason: "FailedOver", message: message.to_owned() }
    }

    fn series(last: Mono) -> Series {
        Series { name: "route.1".to_owned(), count: 1, last }
    }

    #[test]
    fn the_same_words_soon_after_are_a_series_and_other_words_or_late_ones_are_not() {
        let mut memory = Memory::default();
        memory.remember(said("from a to b"), series(Mono::ZERO));
        let soon = Mono::ZERO + Duration::from_mins(5);
        assert!(memory.continued(&said("from a to b"), soon).is_some());
        assert!(memory.continued(&said("from b to c"), soon).is_none());
        assert!(memory.continued(&said("from a to b"), Mono::ZERO + SERIES_GAP).is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest_first() {
        let mut memory = Memory::default();
        for n in 0..=REMEMBERED {
            memory.remember(said(&n.to_string()), series(Mono::ZERO));
            memory.remember(said(&n.to_string()), series(Mono::ZERO));
        }
        assert_eq!((memory.series.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
        assert!(memory.continued(&said("0"), Mono::ZERO).is_none());
        assert!(memory.continued(&said("1"), Mono::ZERO).is_some());
    }

    #[test]
    fn a_burst_goes_at_once_and_what_follows_is_paced_until_there_was_a_rest() {
        let (mut pace, mut now) = (Pace::default(), Mono::ZERO + Duration::from_secs(5));
        for _ in 0..BURST {
            assert!(pace.next() <= now);
            pace.went(now);
        }
        assert_eq!(pace.next(), now + PACE);
        now = pace.next();
        pace.went(now);
        assert_eq!(pace.next(), now + PACE, "no other burst");
        now = now + PACE * BURST;
        for _ in 0..BURST {
            assert!(pace.next() <= now, "as many as there was a rest for");
            pace.went(now);
        }
        assert!(pace.next() > now);
    }
}
