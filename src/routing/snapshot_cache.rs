//! The current snapshot of each route: built anew only when something that decides has changed.
//!
//! Every decision reads the state of all its connections and compares it with that of the cached snapshot. Equal states
//! share one snapshot, so that it is encoded, hashed and stored once; a decision never uses a state that was read before it
//! began. So once a call that opens a circuit is recorded, no decision that starts later chooses that bank.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;

use crate::domain::breaker::EffectiveState;
use crate::domain::decision::{DecodeError, Hash, SealedSnapshot, Snapshot, SnapshotCandidate, SnapshotIncumbent};
use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidateHealth, CandidatePrediction, ConnectionState, RouteMode, RouteRules};
use crate::domain::window::WindowPosition;
use crate::ledger::decisions::EncodedSnapshot;
use crate::resolve::ResolvedRoute;
use crate::routing::ops::OpsRules;
use crate::routing::source::{LiveIncumbent, LiveRoute, RouteSource};

/// Snapshots that are kept to explain decisions with: some megabytes.
const RECENT: usize = 512;

/// A snapshot, ready to be decided on and to be stored.
#[derive(Debug)]
pub(crate) struct CurrentSnapshot {
    /// For decisions.
    pub(crate) sealed: Arc<SealedSnapshot>,
    /// For the ledger.
    pub(crate) encoded: Arc<EncodedSnapshot>,
    /// What it was built from.
    basis: Basis,
}

/// What a snapshot was built from: an equal basis gives an equal snapshot.
#[derive(Debug)]
struct Basis {
    uid: String,
    generation: i64,
    incumbent: Option<LiveIncumbent>,
    rules: Arc<MergedRules>,
    candidates: Vec<CandidateBasis>,
}

/// The rules of a route with those of operations staff, and the names of its connections.
#[derive(Debug)]
struct MergedRules {
    resolved: Arc<ResolvedRoute>,
    ops_version: u64,
    rules: Arc<RouteRules>,
    connections: Vec<ObjectKey>,
}

#[derive(PartialEq, Debug)]
struct CandidateBasis {
    connection: StateBasis,
    cut_off: bool,
    predictions: Vec<CandidatePrediction>,
}

/// A connection's state without what does not matter now, such as when its next maintenance begins.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum StateBasis {
    Missing,
    NotReady,
    Live { effective: EffectiveState, health: CandidateHealth, suspended: bool, maintained: bool, success: u32 },
}

impl From<&ConnectionState> for StateBasis {
    fn from(state: &ConnectionState) -> Self {
        match *state {
            ConnectionState::Missing => Self::Missing,
            ConnectionState::NotReady => Self::NotReady,
            ConnectionState::Live { effective, health, suspended, maintenance, success } => {
                Self::Live { effective, health, suspended, maintained: maintenance.is_inside(), success }
            }
        }
    }
}

/// What is kept of one route.
#[derive(Debug, Default)]
struct RouteEntry {
    rules: Option<Arc<MergedRules>>,
    current: Option<Arc<CurrentSnapshot>>,
}

/// The snapshots of this replica's routes, and recent ones by their IDs.
pub(crate) struct SnapshotCache {
    source: Arc<dyn RouteSource>,
    entries: RwLock<HashMap<ObjectKey, Arc<Mutex<RouteEntry>>>>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    by_id: HashMap<Hash, Arc<SealedSnapshot>>,
    order: VecDeque<Hash>,
}

impl SnapshotCache {
    pub(crate) fn new(source: Arc<dyn RouteSource>) -> Self {
        Self { source, entries: RwLock::default(), recent: Mutex::default() }
    }

    /// The snapshot of `route` as of now: the state of every connection is read in this call.
    ///
    /// # Errors
    /// If the snapshot cannot be read back from its own encoding: a defect.
    pub(crate) fn current(
        &self,
        route: &LiveRoute,
        resolved: &Arc<ResolvedRoute>,
        ops: &OpsRules,
        now: Timestamp,
    ) -> Result<Arc<CurrentSnapshot>, DecodeError> {
        let entry = self.entry(&route.key);
        let (rules, cached) = {
            let mut entry = lock(&entry);
            (merged(&mut entry, &route.key, resolved, ops), entry.current.clone())
        };
        if let Some(cached) = cached.filter(|cached| self.is_current(cached, route, &rules, now)) {
            return Ok(cached);
        }
        let built = Arc::new(self.build(route, rules, now)?);
        self.remember(&built.sealed);
        lock(&entry).current = Some(Arc::clone(&built));
        Ok(built)
    }

    /// The rules of the route `key` with those of operations staff.
    pub(crate) fn rules(&self, key: &ObjectKey, resolved: &Arc<ResolvedRoute>, ops: &OpsRules) -> Arc<RouteRules> {
        let entry = self.entry(key);
        let merged = merged(&mut lock(&entry), key, resolved, ops);
        Arc::clone(&merged.rules)
    }

    /// A recent snapshot.
    pub(crate) fn recent(&self, id: &Hash) -> Option<Arc<SealedSnapshot>> {
        lock(&self.recent).by_id.get(id).cloned()
    }

    /// Keeps a snapshot that decisions are explained with.
    pub(crate) fn remember(&self, snapshot: &Arc<SealedSnapshot>) {
        let mut recent = lock(&self.recent);
        if recent.by_id.insert(snapshot.id, Arc::clone(snapshot)).is_some() {
            return;
        }
        recent.order.push_back(snapshot.id);
        if recent.order.len() > RECENT
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.by_id.remove(&oldest);
        }
    }

    /// Forgets routes that do not exist any more.
    pub(crate) fn retain(&self, exists: impl Fn(&ObjectKey) -> bool) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).retain(|key, _| exists(key));
    }

    fn entry(&self, key: &ObjectKey) -> Arc<Mutex<RouteEntry>> {
        let known = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        known.unwrap_or_else(|| {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry(key.clone()).or_default())
        })
    }

    /// Whether nothing has changed. Allocates nothing while there are no predictions.
    fn is_current(
        &self,
        cached: &CurrentSnapshot,
        route: &LiveRoute,
        rules: &Arc<MergedRules>,
        now: Timestamp,
    ) -> bool {
        let basis = &cached.basis;
        Arc::ptr_eq(&basis.rules, rules)
            && basis.generation == route.generation
            && basis.uid == route.uid
            && basis.incumbent == route.incumbent
            && basis.candidates.iter().enumerate().all(|(index, candidate)| {
                self.candidate(rules, index, now).is_some_and(|(current, _)| current == *candidate)
            })
    }

    /// The state of the candidate at `index`.
    fn candidate(
        &self,
        rules: &MergedRules,
        index: usize,
        now: Timestamp,
    ) -> Option<(CandidateBasis, ConnectionState)> {
        let candidate = rules.resolved.candidates.get(index)?;
        let key = rules.connections.get(index)?;
        let windows = &candidate.accept_windows;
        let state = self.source.connection(key, now);
        let predictions = match rules.resolved.rules.mode {
            RouteMode::Reactive => Vec::new(),
            RouteMode::Predictive | RouteMode::Hybrid => {
                self.source.predictions(key, rules.resolved.scorer.as_ref(), now)
            }
        };
        let basis = CandidateBasis {
            connection: (&state).into(),
            cut_off: !windows.is_empty() && !WindowPosition::at(windows, now).is_inside(),
            predictions,
        };
        Some((basis, state))
    }

    fn build(
        &self,
        route: &LiveRoute,
        rules: Arc<MergedRules>,
        now: Timestamp,
    ) -> Result<CurrentSnapshot, DecodeError> {
        let mut candidates = Vec::with_capacity(rules.resolved.candidates.len());
        let mut basis = Vec::with_capacity(candidates.capacity());
        for (index, declared) in rules.resolved.candidates.iter().enumerate() {
            let Some((current, state)) = self.candidate(&rules, index, now) else { continue };
            let mut candidate = declared.candidate.clone();
            candidate.cut_off = current.cut_off;
            candidate.predictions.clone_from(&current.predictions);
            state.apply(&mut candidate);
            candidates.push(SnapshotCandidate {
                bank_profile_id: declared.bank_profile_id.clone(),
                candidate,
                connection: declared.connection.clone(),
                daily_limit: declared.daily_limit.clone(),
            });
            basis.push(current);
        }
        let incumbent = route.incumbent.as_ref();
        let snapshot = Snapshot {
            candidates,
            generation: route.generation,
            incumbent: incumbent.map(|one| SnapshotIncumbent { name: one.candidate.clone(), since: one.since }),
            namespace: route.key.namespace.to_string(),
            route: route.key.name.to_string(),
            route_uid: route.uid.clone(),
            rules: (*rules.rules).clone(),
        };
        let sealed = Arc::new(snapshot.seal()?);
        let encoded = Arc::new(EncodedSnapshot { id: sealed.id, body: sealed.bytes.clone() });
        let basis = Basis {
            uid: route.uid.clone(),
            generation: route.generation,
            incumbent: route.incumbent.clone(),
            rules,
            candidates: basis,
        };
        Ok(CurrentSnapshot { sealed, encoded, basis })
    }
}

/// The merged rules of the route, from the entry unless the spec or the rules of operations staff have changed.
fn merged(entry: &mut RouteEntry, key: &ObjectKey, resolved: &Arc<ResolvedRoute>, ops: &OpsRules) -> Arc<MergedRules> {
    let known = entry.rules.as_ref();
    if let Some(known) = known.filter(|one| one.ops_version == ops.version && Arc::ptr_eq(&one.resolved, resolved)) {
        return Arc::clone(known);
    }
    let connections = resolved.candidates.iter().map(|one| key.sibling(&*one.connection)).collect();
    let merged = Arc::new(MergedRules {
        resolved: Arc::clone(resolved),
        ops_version: ops.version,
        rules: Arc::new(ops.merged(key, resolved)),
        connections,
    });
    entry.rules = Some(Arc::clone(&merged));
    merged
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
