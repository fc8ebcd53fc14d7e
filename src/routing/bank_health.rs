//! Health of the banks that the routes of a namespace use.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::key::ObjectKey;
use crate::domain::route::{CandidatePrediction, ConnectionState};
use crate::resolve::bank_route::RouteScorer;
use crate::routing::service::DecisionService;
use crate::routing::source::ConnectionHealth;

/// A bank, by its connection.
#[derive(Clone, Debug)]
pub struct BankHealth {
    /// Name of the connection.
    pub connection: String,
    /// IDs of its bank profiles, as routes give them.
    pub bank_profile_ids: Vec<String>,
    /// The candidates that use it.
    pub uses: Vec<BankUse>,
    /// Whether it is running.
    pub state: BankState,
    /// Health and circuit; `None` if it is not running.
    pub health: Option<ConnectionHealth>,
    /// What is predicted of it.
    pub predictions: Vec<CandidatePrediction>,
}

/// A candidate of a route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BankUse {
    /// The route.
    pub route: String,
    /// The candidate.
    pub candidate: String,
}

/// Whether a bank's connection is running.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum BankState {
    /// It is running.
    Live,
    /// It exists and is not running; its conditions say why.
    NotReady,
    /// It does not exist.
    Missing,
}

impl BankState {
    /// The state in HTTP responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "Live",
            Self::NotReady => "NotReady",
            Self::Missing => "Missing",
        }
    }
}

/// What the routes say of a bank.
#[derive(Default)]
struct Uses {
    bank_profile_ids: Vec<String>,
    routes: Vec<BankUse>,
    scorer: Option<RouteScorer>,
}

impl DecisionService {
    /// The banks of the routes in `namespace`, by the names of their connections.
    pub fn health(&self, namespace: &str) -> Vec<BankHealth> {
        let now = self.clock.now().wall;
        let mut banks = BTreeMap::<String, Uses>::new();
        let mut routes = self.routes.routes(namespace);
        routes.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        for route in routes {
            let Ok(resolved) = &route.resolved else { continue };
            for candidate in &resolved.candidates {
                let bank = banks.entry(candidate.connection.clone()).or_default();
                let (route, name) = (route.key.name.to_string(), candidate.candidate.name.clone());
                bank.routes.push(BankUse { route, candidate: name });
                bank.scorer = bank.scorer.take().or_else(|| resolved.scorer.clone());
                let id = candidate.bank_profile_id.as_ref().filter(|id| !bank.bank_profile_ids.contains(id));
                bank.bank_profile_ids.extend(id.cloned());
            }
        }
        banks.into_iter().map(|(connection, uses)| self.bank(namespace, connection, uses, now)).collect()
    }

    fn bank(&self, namespace: &str, connection: String, uses: Uses, now: Timestamp) -> BankHealth {
        let key = ObjectKey::new(namespace, &*connection);
        let state = match self.routes.connection(&key, now) {
            ConnectionState::Missing => BankState::Missing,
            ConnectionState::NotReady => BankState::NotReady,
            ConnectionState::Live { .. } => BankState::Live,
        };
        BankHealth {
            connection,
            bank_profile_ids: uses.bank_profile_ids,
            uses: uses.routes,
            state,
            health: self.routes.health(&key).filter(|_| state == BankState::Live),
            predictions: self.routes.predictions(&key, uses.scorer.as_ref(), now),
        }
    }
}
