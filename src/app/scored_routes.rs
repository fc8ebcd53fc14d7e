//! The routes of this process that use external scorers, as the scorer's worker needs them.

use crate::app::route_source::ProcessRoutes;
use crate::domain::key::ObjectKey;
use crate::routing::RouteSource as _;
use crate::work::scorer::{ScoredBank, ScoredRoute, ScoredRoutes};

impl ScoredRoutes for ProcessRoutes {
    fn scored_routes(&self) -> Vec<ScoredRoute> {
        let scored = |key: ObjectKey| {
            let route = self.route(&key)?;
            let resolved = route.resolved.as_ref().ok()?;
            let scorer = resolved.scorer.as_ref()?;
            let banks = resolved.candidates.iter().map(|one| ScoredBank {
                candidate: one.candidate.name.clone(),
                bank_profile_id: one.bank_profile_id.clone(),
                connection: one.connection.clone(),
            });
            Some(ScoredRoute {
                scorer: key.sibling(scorer.connection.as_str()),
                max_age: scorer.max_age,
                banks: banks.collect(),
                route: key,
            })
        };
        self.keys().into_iter().filter_map(scored).collect()
    }
}
