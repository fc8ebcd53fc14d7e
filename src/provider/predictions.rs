//! The external predictions of this process: shared by the gateway, which takes pushed ones, the scorer's worker, which
//! pulls and stores them, and decisions, which read them.
//!
//! Outcomes of payouts wait here until the worker sends them to the scorer of their route.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounterVec;

use crate::clock::Clock;
use crate::domain::forecast::external::PredictedBank;
use crate::domain::forecast::outcome_counts::OutcomeCounts;
use crate::domain::forecast::prediction_book::{Acceptance, Accepted};
use crate::domain::forecast::stored_track::StoredTracks;
use crate::domain::forecast::wire::WireOutcome;
use crate::domain::forecast::{ExternalPrediction, PredictionBook, PredictionRefused, PredictionSource};
use crate::domain::key::ObjectKey;
use crate::domain::route::CandidatePrediction;
use crate::metrics::{Metrics, MetricsError};
use crate::provider::registry::Registry;

/// Outcomes that wait for one scorer; beyond it the oldest is dropped, and counted.
const MAX_OUTCOMES: usize = 10_000;

/// What became of the outcomes for scorers.
const OUTCOME_RESULTS: [&str; 3] = ["dropped", "rejected", "sent"];

/// The external predictions of this process.
pub struct Predictions {
    clock: Clock,
    registry: Registry,
    state: Mutex<State>,
    /// Whether this process measures the skill: the one that checks the banks.
    measures: AtomicBool,
    received: IntCounterVec,
    outcomes: IntCounterVec,
}

#[derive(Default)]
struct State {
    book: PredictionBook,
    /// The object whose outcomes the open predictions of a bank are compared with.
    uids: HashMap<ObjectKey, Arc<str>>,
    outcomes: BTreeMap<ObjectKey, VecDeque<WireOutcome>>,
}

impl Predictions {
    /// None so far. `registry` holds the banks.
    ///
    /// # Errors
    /// If a metric is registered already.
    pub fn new(clock: Clock, registry: Registry, metrics: &Metrics) -> Result<Arc<Self>, MetricsError> {
        let results = PredictionRefused::ALL.iter().map(|refused| refused.as_str()).chain(["accepted", "repeated"]);
        let received = metrics.counter_from_zero(
            "busbar_scorer_predictions_total",
            "Predictions of external scorers, by what became of them.",
            ["source", "result"],
            ["pulled", "pushed"].iter().flat_map(|source| results.clone().map(move |result| [*source, result])),
        )?;
        let outcomes = metrics.counter_from_zero(
            "busbar_scorer_outcomes_total",
            "Outcomes of payouts for external scorers, by what became of them.",
            ["result"],
            OUTCOME_RESULTS.map(|result| [result]),
        )?;
        let (state, measures) = (Mutex::default(), AtomicBool::new(false));
        Ok(Arc::new(Self { clock, registry, state, measures, received, outcomes }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a prediction about the connection `bank`, which may be `max_age` old.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn push(
        &self,
        bank: &ObjectKey,
        source: PredictionSource,
        prediction: ExternalPrediction,
        max_age: Duration,
    ) -> Result<Accepted, PredictionRefused> {
        let label = if source == PredictionSource::Pushed { "pushed" } else { "pulled" };
        let result = self.accept(PredictedBank { bank: bank.clone(), source }, prediction, max_age);
        let name = match &result {
            Ok(Accepted::New) => "accepted",
            Ok(Accepted::Repeated) => "repeated",
            Err(refused) => refused.as_str(),
        };
        self.received.with_label_values(&[label, name]).inc();
        if result == Ok(Accepted::New) {
            self.registry.publish_change(bank);
        }
        result
    }

    /// Counts a prediction that a scorer sent about no bank of its routes.
    pub fn count_unknown_bank(&self) {
        self.received.with_label_values(&["pulled", PredictionRefused::UnknownBank.as_str()]).inc();
    }

    fn accept(
        &self,
        about: PredictedBank,
        prediction: ExternalPrediction,
        max_age: Duration,
    ) -> Result<Accepted, PredictionRefused> {
        let now = self.clock.now().wall;
        let mut state = self.lock();
        let counts = self.counts(&mut state, &about.bank).ok_or(PredictionRefused::UnknownBank)?;
        state.book.accept(about, prediction, Acceptance { max_age, counts, now })
    }

    /// The outcomes of a bank so far; `None` if it does not run. What waits for those of a former object of its name is
    /// forgotten.
    fn counts(&self, state: &mut State, bank: &ObjectKey) -> Option<OutcomeCounts> {
        let connection = self.registry.get(bank)?;
        let uid = connection.uid();
        if state.uids.get(bank).is_some_and(|known| known != uid) {
            state.book.restart(bank);
        }
        state.uids.insert(bank.clone(), Arc::clone(uid));
        Some(connection.outcome_counts())
    }

    /// The predictions for the connection `bank` that hold at `now`: those of the scorer that the connection `scorer`
    /// leads to, if there are any, else the pushed ones.
    pub fn current(&self, bank: &ObjectKey, scorer: Option<&str>, now: Timestamp) -> Vec<CandidatePrediction> {
        self.lock().book.current(bank, scorer, now)
    }

    /// Lets the predictions whose windows are over mature, if this process measures the skill, and publishes the banks
    /// whose predictions have ended or matured.
    pub fn advance(&self) {
        let now = self.clock.now().wall;
        let mut changed = {
            let mut state = self.lock();
            let mut changed = state.book.take_ended(now);
            if self.measures.load(Ordering::Relaxed) {
                for bank in state.book.due(now) {
                    let counts = self.counts(&mut state, &bank);
                    state.book.mature(&bank, counts, now);
                    changed.insert(bank);
                }
            }
            state.book.forget(now);
            state.uids.retain(|bank, _| self.registry.get(bank).is_some());
            changed
        };
        while let Some(bank) = changed.pop_first() {
            self.registry.publish_change(&bank);
        }
    }

    /// From now on, or no longer, this process measures the skill of predictions: it checks the banks.
    pub fn set_measures(&self, measures: bool) {
        self.measures.store(measures, Ordering::Relaxed);
    }

    /// Takes over what was stored, by this process before a restart or by another replica.
    pub fn merge(&self, stored: impl IntoIterator<Item = StoredTracks>) {
        let (now, follows) = (self.clock.now().wall, !self.measures.load(Ordering::Relaxed));
        let mut state = self.lock();
        let mut changed = Vec::new();
        for tracks in stored {
            // Of a bank that does not run, nothing can be compared until it does.
            let counts = self.counts(&mut state, &tracks.about.bank).unwrap_or_default();
            let max_age = Duration::ZERO;
            let bank = tracks.about.bank.clone();
            if state.book.merge(tracks, Acceptance { max_age, counts, now }, follows) {
                changed.push(bank);
            }
        }
        drop(state);
        for bank in &changed {
            self.registry.publish_change(bank);
        }
    }

    /// What has changed since the last call, to be stored.
    pub fn take_changed(&self) -> Vec<StoredTracks> {
        self.lock().book.take_changed()
    }

    /// What was taken could not be stored.
    pub fn mark_changed(&self, about: impl IntoIterator<Item = PredictedBank>) {
        self.lock().book.mark_changed(about);
    }

    /// Queues the outcome of a payout for the scorer that the connection `scorer` leads to.
    pub fn report(&self, scorer: &ObjectKey, outcome: WireOutcome) {
        let mut state = self.lock();
        let queue = state.outcomes.entry(scorer.clone()).or_default();
        queue.push_back(outcome);
        if queue.len() > MAX_OUTCOMES {
            queue.pop_front();
            self.count_outcomes("dropped", 1);
        }
    }

    /// The scorers that outcomes wait for.
    pub fn scorers_with_outcomes(&self) -> Vec<ObjectKey> {
        self.lock().outcomes.keys().cloned().collect()
    }

    /// Takes the oldest outcomes for a scorer, at most `limit`.
    pub fn take_outcomes(&self, scorer: &ObjectKey, limit: usize) -> Vec<WireOutcome> {
        let mut state = self.lock();
        let Some(queue) = state.outcomes.get_mut(scorer) else { return Vec::new() };
        let taken = queue.drain(..queue.len().min(limit)).collect();
        if queue.is_empty() {
            state.outcomes.remove(scorer);
        }
        taken
    }

    /// Puts outcomes back that could not be sent, before those that came since.
    pub fn return_outcomes(&self, scorer: &ObjectKey, outcomes: Vec<WireOutcome>) {
        let mut state = self.lock();
        let queue = state.outcomes.entry(scorer.clone()).or_default();
        for outcome in outcomes.into_iter().rev() {
            if queue.len() < MAX_OUTCOMES {
                queue.push_front(outcome);
            } else {
                self.count_outcomes("dropped", 1);
            }
        }
    }

    /// Counts outcomes as `sent`, `rejected` or `dropped`.
    pub fn count_outcomes(&self, result: &'static str, count: usize) {
        self.outcomes.with_label_values(&[result]).inc_by(count as u64);
    }
}
