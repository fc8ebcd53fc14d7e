//! Makes the text of `/metrics`: one scrape at a time, whose text all clients that ask meanwhile share.
//!
//! A scrape of ten thousand connections takes some hundred milliseconds of a thread and tens of megabytes. Clients must
//! not be able to multiply that, neither by asking often nor by reading slowly.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::Shared;
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::tasks::TaskGroup;

/// Texts in memory because clients are still reading them. While there are as many, the newest is sent again.
const MAX_TEXTS: usize = 4;

/// The text, in parts to be concatenated.
pub(super) type ScrapeText = Vec<Bytes>;

/// Why there is no text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ScrapeError {
    /// The metrics could not be encoded.
    #[error("{0}")]
    Encode(String),
    /// The scrape panicked.
    #[error("internal error: the scrape panicked; the log has the cause")]
    Panicked,
}

type ScrapeResult = Result<Arc<ScrapeText>, ScrapeError>;

/// Scrapes the metrics. Cloning shares it.
#[derive(Clone)]
pub(super) struct Scraper {
    metrics: Metrics,
    tasks: TaskGroup,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    running: Option<Shared<oneshot::Receiver<ScrapeResult>>>,
    /// The texts that are being sent, newest last.
    texts: Vec<Weak<ScrapeText>>,
}

impl Scraper {
    pub(super) fn new(metrics: Metrics, tasks: TaskGroup) -> Self {
        Self { metrics, tasks, state: Arc::default() }
    }

    /// The text of the scrape in progress, or else of a new one.
    pub(super) async fn scrape(&self) -> ScrapeResult {
        let (sender, receiver) = oneshot::channel();
        let (running, started) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = &state.running {
                (running.clone(), false)
            } else {
                state.texts.retain(|text| text.strong_count() > 0);
                if state.texts.len() >= MAX_TEXTS
                    && let Some(newest) = state.texts.last().and_then(Weak::upgrade)
                {
                    return Ok(newest);
                }
                let running = receiver.shared();
                state.running = Some(running.clone());
                (running, true)
            }
        };
        if started {
            let scrape = RunningScrape { scraper: self.clone(), sender: Some(sender) };
            // On a thread of its own: it must not delay the probes of `/livez`. It ends even if no client waits.
            self.tasks.spawn_blocking("scrape", move || scrape.run());
        }
        running.await.unwrap_or(Err(ScrapeError::Panicked))
    }
}

/// A scrape in progress; its drop, also by a panic, ends it.
struct RunningScrape {
    scraper: Scraper,
    sender: Option<oneshot::Sender<ScrapeResult>>,
}

impl RunningScrape {
    fn run(mut self) {
        let text = self.scraper.metrics.scrape();
        let text = text.map(|parts| Arc::new(parts.into_iter().map(Bytes::from).collect::<ScrapeText>()));
        let text = text.map_err(|error| ScrapeError::Encode(error.to_string()));
        // A client that asks from here on gets a newer text.
        self.end(text.as_ref().ok());
        if let Some(sender) = self.sender.take() {
            // Fails if no client waits any more.
            drop(sender.send(text));
        }
    }

    fn end(&self, text: Option<&Arc<ScrapeText>>) {
        let mut state = self.scraper.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = None;
        state.texts.extend(text.map(Arc::downgrade));
    }
}

impl Drop for RunningScrape {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.end(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures::poll;
    use prometheus::proto::MetricFamily;

    use super::*;
    use crate::metrics::BatchCollector;

    /// Blocks each scrape until it may go on; panics if the other end is gone.
    struct Gate(Arc<AtomicUsize>, Mutex<mpsc::Receiver<()>>);

    impl BatchCollector for Gate {
        fn collect_batches(&self, _: &mut dyn FnMut(Vec<MetricFamily>)) {
            self.0.fetch_add(1, Ordering::SeqCst);
            self.1.lock().unwrap().recv().unwrap();
        }
    }

    fn gated() -> (Scraper, Arc<AtomicUsize>, mpsc::Sender<()>) {
        let (metrics, begun, (sender, receiver)) = (Metrics::new(), Arc::default(), mpsc::channel());
        metrics.int_gauge("busbar_x", "x", &[]).unwrap().with_label_values::<&str>(&[]).set(1);
        metrics.batch_collector(Gate(Arc::clone(&begun), Mutex::new(receiver)));
        (Scraper::new(metrics, TaskGroup::default()), begun, sender)
    }

    #[tokio::test]
    async fn clients_that_ask_during_a_scrape_share_its_text() {
        let (scraper, begun, go_on) = gated();
        let mut first = Box::pin(scraper.scrape());
        assert!(poll!(first.as_mut()).is_pending());
        let mut others: Vec<_> = (0..50).map(|_| Box::pin(scraper.scrape())).collect();
        for other in &mut others {
            assert!(poll!(other.as_mut()).is_pending());
        }
        go_on.send(()).unwrap();
        let text = first.await.unwrap();
        for other in others {
            assert!(Arc::ptr_eq(&text, &other.await.unwrap()));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        drop(text);
        go_on.send(()).unwrap();
        scraper.scrape().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2, "the next client gets a new text");
    }

    #[tokio::test]
    async fn a_scrape_whose_client_is_gone_ends_and_one_that_panics_too() {
        let (scraper, begun, go_on) = gated();
        let mut gone = Box::pin(scraper.scrape());
        assert!(poll!(gone.as_mut()).is_pending());
        drop(gone);
        let mut second = Box::pin(scraper.scrape());
        assert!(poll!(second.as_mut()).is_pending());
        drop(go_on);
        assert_eq!(second.await, Err(ScrapeError::Panicked));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(scraper.scrape().await, Err(ScrapeError::Panicked), "a new scrape, not one that never ends");
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn texts_in_memory_are_bounded_however_slowly_they_are_read() {
        let (scraper, begun, go_on) = gated();
        let mut held = Vec::new();
        for _ in 0..10 {
            go_on.send(()).unwrap();
            held.push(scraper.scrape().await.unwrap());
        }
        assert_eq!(begun.load(Ordering::SeqCst), MAX_TEXTS);
        held.clear();
        scraper.scrape().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), MAX_TEXTS + 1);
    }
}
