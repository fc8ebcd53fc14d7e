//! Routes that use external scorers, and which of their banks a prediction is about. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::forecast::wire::{WireBank, WirePrediction};
use crate::domain::key::ObjectKey;

/// A route that uses an external scorer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScoredRoute {
    /// The route.
    pub route: ObjectKey,
    /// The connection to the scorer.
    pub scorer: ObjectKey,
    /// The maximum age of its predictions.
    pub max_age: Duration,
    /// The candidates.
    pub banks: Vec<ScoredBank>,
}

/// A candidate of such a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScoredBank {
    /// Name of the candidate.
    pub candidate: String,
    /// Its ID in payout processing; unset: its name.
    pub bank_profile_id: Option<String>,
    /// Name of its connection.
    pub connection: String,
}

/// The routes of this replica that use external scorers.
pub trait ScoredRoutes: Send + Sync + 'static {
    /// All of them, in any order.
    fn scored_routes(&self) -> Vec<ScoredRoute>;
}

/// A scorer with the routes that use it.
pub(super) struct Scorer {
    pub(super) key: ObjectKey,
    routes: Vec<ScoredRoute>,
}

impl Scorer {
    /// The least maximum age of its routes.
    pub(super) fn max_age(&self) -> Duration {
        self.routes.iter().map(|route| route.max_age).min().unwrap_or_default()
    }

    /// The connections of its banks, each once.
    pub(super) fn banks(&self) -> Vec<&str> {
        let mut banks: Vec<&str> =
            self.routes.iter().flat_map(|route| &route.banks).map(|bank| &*bank.connection).collect();
        banks.sort_unstable();
        banks.dedup();
        banks
    }

    /// The connections that a prediction is about.
    pub(super) fn connections(&self, about: &WirePrediction) -> Vec<ObjectKey> {
        let of_route = |route: &&ScoredRoute| about.route.as_ref().is_none_or(|name| **name == *route.route.name);
        let is_meant = |bank: &&ScoredBank| match &about.bank {
            WireBank::BankProfileId(id) => bank.bank_profile_id.as_ref().unwrap_or(&bank.candidate) == id,
            WireBank::Candidate(name) => bank.candidate == *name,
            WireBank::Connection(name) => bank.connection == *name,
        };
        let banks = self.routes.iter().filter(of_route).flat_map(|route| &route.banks).filter(is_meant);
        let mut found: Vec<_> = banks.map(|bank| self.key.sibling(&*bank.connection)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The scorers of these routes.
pub(super) fn scorers(routes: Vec<ScoredRoute>) -> Vec<Scorer> {
    let mut by_scorer: BTreeMap<ObjectKey, Vec<ScoredRoute>> = BTreeMap::new();
    for route in routes {
        by_scorer.entry(route.scorer.clone()).or_default().push(route);
    }
    by_scorer.into_iter().map(|(key, routes)| Scorer { key, routes }).collect()
}
