//! External scorers: pulls their predictions, sends them the outcomes of payouts, and keeps what they have proven in the
//! ledger (docs/adr/0028).
//!
//! Every replica stores what it was pushed and takes over what others have stored; only the leader pulls, and measures
//! the skill, because only it checks the banks. Calls to a scorer go through the call path of its connection like any
//! other. A scorer that fails changes nothing but that its predictions become too old.

mod calls;
mod scored_route;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

use self::calls::{PullError, SendError, outcomes_request, predictions_request};
pub use self::scored_route::{ScoredBank, ScoredRoute, ScoredRoutes};
use self::scored_route::{Scorer, scorers};
use crate::clock::Clock;
use crate::domain::forecast::PredictionSource;
use crate::domain::forecast::external::PredictedBank;
use crate::domain::forecast::stored_track::StoredTracks;
use crate::domain::forecast::wire::{OutcomeBatch, PredictionBatch, WireOutcome};
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::ledger::Ledger;
use crate::ledger::scores::StoredScore;
use crate::metrics::{Metrics, MetricsError};
use crate::profile::ResponseClass;
use crate::provider::predictions::Predictions;
use crate::provider::registry::Registry;

/// How often the worker looks for what is due.
const TICK: Duration = Duration::from_secs(5);
/// How often stored predictions are read: those of other replicas.
const MERGE_INTERVAL: Duration = Duration::from_secs(30);
/// Bounds of the interval between two pulls, which is a third of the maximum age.
const PULL_INTERVAL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));
/// Scorers that are called at a time.
const CONCURRENCY: usize = 8;
/// Outcomes in one call.
const OUTCOMES_PER_CALL: usize = 500;

/// What the worker needs.
pub struct ScorerDeps {
    /// Time.
    pub clock: Clock,
    /// The connections to scorers.
    pub registry: Registry,
    /// Where predictions and skill are kept.
    pub ledger: Arc<dyn Ledger>,
    /// The predictions of this process.
    pub predictions: Arc<Predictions>,
    /// The routes.
    pub routes: Arc<dyn ScoredRoutes>,
}

/// Keeps predictions and sends outcomes; runs on every replica.
pub struct ScorerWorker {
    deps: ScorerDeps,
    failing: HashSet<ObjectKey>,
    ledger_failing: bool,
}

/// Pulls predictions and measures their skill; runs on the leader.
pub struct ScorerPuller {
    clock: Clock,
    registry: Registry,
    predictions: Arc<Predictions>,
    routes: Arc<dyn ScoredRoutes>,
    pulled: HashMap<ObjectKey, Mono>,
    failing: HashSet<ObjectKey>,
    pulls: IntCounterVec,
}

impl ScorerPuller {
    /// A puller over what the worker needs.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(deps: &ScorerDeps, metrics: &Metrics) -> Result<Self, MetricsError> {
        let pulls = metrics.counter_from_zero(
            "busbar_scorer_pulls_total",
            "Requests for predictions to external scorers, by result.",
            ["result"],
            [["failure"], ["success"]],
        )?;
        Ok(Self {
            clock: deps.clock,
            registry: deps.registry.clone(),
            predictions: Arc::clone(&deps.predictions),
            routes: Arc::clone(&deps.routes),
            pulled: HashMap::new(),
            failing: HashSet::new(),
            pulls,
        })
    }

    /// Runs until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        self.predictions.set_measures(true);
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.pull_due() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.clock.sleep_until(self.clock.mono() + TICK) => {}
            }
        }
        self.predictions.set_measures(false);
    }

    /// Pulls from every scorer that is due.
    pub async fn pull_due(&mut self) {
        let now = self.clock.mono();
        let all = scorers(self.routes.scored_routes());
        let known: HashSet<_> = all.iter().map(|scorer| scorer.key.clone()).collect();
        self.pulled.retain(|key, _| known.contains(key));
        self.failing.retain(|key| known.contains(key));
        let is_due = |scorer: &Scorer| {
            let interval = (scorer.max_age() / 3).clamp(PULL_INTERVAL.0, PULL_INTERVAL.1);
            self.pulled.get(&scorer.key).is_none_or(|at| now >= *at + interval)
        };
        let due: Vec<_> = all.into_iter().filter(is_due).collect();
        self.pulled.extend(due.iter().map(|scorer| (scorer.key.clone(), now)));
        let (registry, predictions) = (&self.registry, &*self.predictions);
        let mut pulls: Vec<BoxFuture<'_, _>> = Vec::with_capacity(due.len());
        for scorer in &due {
            pulls.push(async move { (&scorer.key, pull(registry, predictions, scorer).await) }.boxed());
        }
        let results: Vec<_> = futures::stream::iter(pulls).buffer_unordered(CONCURRENCY).collect().await;
        for (key, result) in results {
            self.pulls.with_label_values(&[if result.is_ok() { "success" } else { "failure" }]).inc();
            match result {
                Ok(()) if self.failing.remove(key) => {
                    tracing::info!(namespace = %key.namespace, name = %key.name, "predictions were pulled again");
                }
                Err(error) if self.failing.insert(key.clone()) => tracing::warn!(
                    namespace = %key.namespace, name = %key.name, %error,
                    "pulling predictions failed; routes use them until they are too old, then decide without"
                ),
                Ok(()) | Err(_) => {}
            }
        }
    }
}

async fn pull(registry: &Registry, predictions: &Predictions, scorer: &Scorer) -> Result<(), PullError> {
    let connection = registry.get(&scorer.key).ok_or(PullError::NotRunning)?;
    let settings = connection.settings();
    let request = predictions_request(&settings, &scorer.key.namespace, &scorer.banks())?;
    let response = connection.call_with(&settings, request).await?;
    if response.classification.class != ResponseClass::Ok {
        return Err(PullError::Status(response.status.as_u16()));
    }
    let batch = PredictionBatch::from_json(&response.body)?;
    let (source, max_age) = (PredictionSource::Scorer(scorer.key.name.to_string()), scorer.max_age());
    for one in batch.predictions {
        let connections = scorer.connections(&one);
        if connections.is_empty() {
            predictions.count_unknown_bank();
        }
        for bank in connections {
            // Refused ones are counted by their reason.
            let _ = predictions.push(&bank, source.clone(), one.prediction.clone(), max_age);
        }
    }
    Ok(())
}

impl ScorerWorker {
    /// A worker.
    pub fn new(deps: ScorerDeps) -> Self {
        Self { deps, failing: HashSet::new(), ledger_failing: false }
    }

    /// Runs until `stop` is cancelled; then stores what has changed.
    pub async fn run(mut self, stop: CancellationToken) {
        let clock = self.deps.clock;
        let mut merge_at = clock.mono();
        loop {
            let now = clock.mono();
            if now >= merge_at {
                self.merge().await;
                merge_at = now + MERGE_INTERVAL;
            }
            self.deps.predictions.advance();
            self.store().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.send_outcomes() => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = clock.sleep_until(now + TICK) => {}
            }
        }
        self.store().await;
    }

    /// Takes over what is stored.
    pub async fn merge(&mut self) {
        let stored = self.deps.ledger.scores().await;
        self.note_ledger(&stored);
        let read = |row: StoredScore| {
            let source = PredictionSource::from_text(&row.source)?;
            let bank = ObjectKey::new(row.namespace, row.connection);
            StoredTracks::from_body(PredictedBank { bank, source }, &row.body)
        };
        self.deps.predictions.merge(stored.unwrap_or_default().into_iter().filter_map(read));
    }

    /// Stores what has changed.
    pub async fn store(&mut self) {
        let changed = self.deps.predictions.take_changed();
        if changed.is_empty() {
            return;
        }
        let updated = self.deps.clock.now().wall;
        let row = |tracks: &StoredTracks| StoredScore {
            namespace: tracks.about.bank.namespace.to_string(),
            connection: tracks.about.bank.name.to_string(),
            source: tracks.about.source.to_text(),
            body: tracks.body(),
            updated,
        };
        let rows: Vec<_> = changed.iter().map(row).collect();
        let stored = self.deps.ledger.put_scores(&rows).await;
        self.note_ledger(&stored);
        if stored.is_err() {
            self.deps.predictions.mark_changed(changed.into_iter().map(|tracks| tracks.about));
        }
    }

    fn note_ledger<T>(&mut self, result: &Result<T, crate::ledger::LedgerError>) {
        match result {
            Ok(_) => self.ledger_failing = false,
            Err(error) if !std::mem::replace(&mut self.ledger_failing, true) => {
                tracing::warn!(%error, "storing predictions failed; they count in this process, and are stored later");
            }
            Err(_) => {}
        }
    }

    /// Sends the outcomes that wait.
    pub async fn send_outcomes(&mut self) {
        let waiting = self.deps.predictions.scorers_with_outcomes();
        let (registry, predictions) = (&self.deps.registry, &*self.deps.predictions);
        let mut sends: Vec<BoxFuture<'_, _>> = Vec::with_capacity(waiting.len());
        for key in &waiting {
            sends.push(async move { (key, send(registry, predictions, key).await) }.boxed());
        }
        let results: Vec<_> = futures::stream::iter(sends).buffer_unordered(CONCURRENCY).collect().await;
        for (key, result) in results {
            match result {
                Ok(()) => {
                    self.failing.remove(key);
                }
                Err(error) if self.failing.insert(key.clone()) => tracing::warn!(
                    namespace = %key.namespace, name = %key.name, %error,
                    "sending outcomes to the scorer failed; those that were not rejected are sent later"
                ),
                Err(_) => {}
            }
        }
    }
}

/// Sends outcomes that wait for one scorer, as many as one call takes: a slow scorer must not keep the predictions of others
/// waiting. What it may not have received is put back: it may receive an outcome twice.
async fn send(registry: &Registry, predictions: &Predictions, scorer: &ObjectKey) -> Result<(), SendError> {
    let connection = registry.get(scorer).ok_or(SendError::NotRunning)?;
    let mut returned = ReturnedOutcomes { predictions, scorer, outcomes: Vec::new() };
    returned.outcomes = predictions.take_outcomes(scorer, OUTCOMES_PER_CALL);
    let count = returned.outcomes.len();
    if count == 0 {
        return Ok(());
    }
    let settings = connection.settings();
    let batch = OutcomeBatch { namespace: scorer.namespace.to_string(), outcomes: returned.outcomes.clone() };
    let request = outcomes_request(&settings, &batch)?;
    let response = connection.call_with(&settings, request).await?;
    match response.classification.class {
        ResponseClass::Ok => predictions.count_outcomes("sent", count),
        ResponseClass::Fatal | ResponseClass::NotFound | ResponseClass::ItemGone => {
            predictions.count_outcomes("rejected", count);
            returned.outcomes.clear();
            return Err(SendError::Status(response.status.as_u16()));
        }
        _ => return Err(SendError::Status(response.status.as_u16())),
    }
    returned.outcomes.clear();
    Ok(())
}

/// Outcomes that go back to the queue unless they were sent, also if the call is cancelled.
struct ReturnedOutcomes<'a> {
    predictions: &'a Predictions,
    scorer: &'a ObjectKey,
    outcomes: Vec<WireOutcome>,
}

impl Drop for ReturnedOutcomes<'_> {
    fn drop(&mut self) {
        if !self.outcomes.is_empty() {
            self.predictions.return_outcomes(self.scorer, std::mem::take(&mut self.outcomes));
        }
    }
}
