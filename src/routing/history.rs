//! Reads recorded decisions, and verifies their chain.

use uuid::Uuid;

use crate::ledger::decisions::{DecisionFilter, DecisionPage};
use crate::routing::audit::{AuditVerdict, verify};
use crate::routing::decided::Decided;
use crate::routing::error::RoutingError;
use crate::routing::service::DecisionService;

impl DecisionService {
    /// At most `limit` matching decisions below the number `before`, newest first.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn list(
        &self,
        filter: &DecisionFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<DecisionPage, RoutingError> {
        let read = self.ledger.list_decisions(filter, before, limit).await;
        read.map_err(|error| RoutingError::ledger("listing decisions", &error))
    }

    /// One decision, with every candidate explained.
    ///
    /// # Errors
    /// If it does not exist, cannot be explained, or the ledger cannot be read.
    pub async fn get(&self, id: Uuid) -> Result<Decided, RoutingError> {
        let stored = self.stored(id).await?;
        self.explain(stored, false, self.clock.now().wall).await
    }

    /// Checks the whole chain of recorded decisions; one call at a time, because each reads the whole audit.
    ///
    /// # Errors
    /// If another verification runs, or the ledger cannot be read.
    pub async fn verify(&self) -> Result<AuditVerdict, RoutingError> {
        let Ok(_alone) = self.verifying.try_lock() else { return Err(RoutingError::Verifying) };
        verify(&*self.ledger).await.map_err(|error| RoutingError::ledger("verifying the audit", &error))
    }
}
