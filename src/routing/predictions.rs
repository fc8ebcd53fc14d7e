//! Predictions that a scorer pushes: each is passed to the connections of the banks that it names.

use std::collections::BTreeSet;

use crate::domain::forecast::PredictionRefused;
use crate::domain::forecast::prediction_book::Accepted;
use crate::domain::forecast::wire::{WireBank, WirePrediction};
use crate::domain::key::ObjectKey;
use crate::ledger::decisions::AdjustmentTarget;
use crate::routing::error::RoutingError;
use crate::routing::ops::{declares, is_target};
use crate::routing::service::{Actor, DecisionService};

/// Predictions of one call, as the body may have.
const MAX_PREDICTIONS: usize = crate::domain::forecast::wire::MAX_PREDICTIONS;

impl DecisionService {
    /// Passes predictions for the banks of a namespace on; one result for each, in order. What is refused changes nothing.
    ///
    /// # Errors
    /// If there are too many.
    pub fn push_predictions(
        &self,
        namespace: &str,
        predictions: Vec<WirePrediction>,
        actor: &Actor,
    ) -> Result<Vec<Result<Accepted, PredictionRefused>>, RoutingError> {
        if predictions.len() > MAX_PREDICTIONS {
            return Err(RoutingError::TooMany { what: "predictions", limit: MAX_PREDICTIONS });
        }
        let results: Vec<_> = predictions.into_iter().map(|one| self.push_prediction(namespace, one)).collect();
        let refused = results.iter().filter(|result| result.is_err()).count();
        tracing::debug!(namespace, subject = actor.subject, predictions = results.len(), refused, "predictions pushed");
        Ok(results)
    }

    fn push_prediction(&self, namespace: &str, pushed: WirePrediction) -> Result<Accepted, PredictionRefused> {
        let WirePrediction { bank, route, prediction } = pushed;
        let connections = self.connections(namespace, route.as_deref(), bank);
        let results = connections.iter().map(|one| self.routes.push_prediction(one, prediction.clone()));
        // The same for each of them, unless one does not run.
        let results: Vec<_> = results.collect();
        let accepted = results.iter().copied().find(Result::is_ok);
        accepted.or_else(|| results.last().copied()).unwrap_or(Err(PredictionRefused::UnknownBank))
    }

    /// The connections of the banks that `bank` names, in the namespace or in one of its routes.
    fn connections(&self, namespace: &str, route: Option<&str>, bank: WireBank) -> BTreeSet<ObjectKey> {
        let target = match bank {
            WireBank::Connection(name) => return [ObjectKey::new(namespace, name)].into(),
            WireBank::Candidate(name) => AdjustmentTarget::Candidate(name),
            WireBank::BankProfileId(id) => AdjustmentTarget::BankProfile(id),
        };
        let routes = match route {
            Some(name) => self.routes.route(&ObjectKey::new(namespace, name)).into_iter().collect(),
            None => self.routes.routes(namespace),
        };
        let mut connections = BTreeSet::new();
        let usable = || routes.iter().filter_map(|route| Some((route, route.resolved.as_ref().ok()?)));
        let is_declared = usable().any(|(_, resolved)| declares(&target, &resolved.candidates));
        for (route, resolved) in usable() {
            let of_bank = resolved.candidates.iter().filter(|one| is_target(&target, one, is_declared));
            connections.extend(of_bank.map(|one| route.key.sibling(&*one.connection)));
        }
        connections
    }
}
