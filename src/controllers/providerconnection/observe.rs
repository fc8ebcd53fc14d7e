//! Reads the inputs of a connection's reconcile: profile, policy, Secrets, and the state of the running connection.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::ConnectionConsumers;
use crate::cluster::resource::WatchedResource as _;
use crate::controllers::providerconnection::credentials::resolution;
use crate::controllers::providerconnection::inputs::{ConnectionInputs, LiveConnection, VerificationState};
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::Kind;
use crate::profile::CheckMode;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::call::CallError;
use crate::provider::connection::Connection;
use crate::provider::monitor::Verification;
use crate::provider::probe::CallResult;
use crate::settings::Settings;

/// Result of [`observe`].
pub struct ConnectionObservation {
    /// Inputs of `decide`.
    pub inputs: ConnectionInputs,
    /// Settings that `act` applies; `None` if the spec cannot be used.
    pub settings: Option<Arc<Settings>>,
}

/// Reads stores, Secrets and the registry.
pub async fn observe(ctx: &Ctx, object: &ProviderConnection) -> Result<ConnectionObservation, ReconcileError> {
    let key = object.key();
    let live = ctx.registry.get(&key).filter(|live| Some(&**live.uid()) == object.metadata.uid.as_deref());
    let rejected_since = live.as_ref().and_then(|live| live.snapshot().refused_since);
    let (resolution, secrets_valid_for) = resolution(ctx, object, rejected_since).await?;
    let references = &ctx.stores.references;
    let count = |from| i32::try_from(references.count(from, Kind::ProviderConnection, &key)).unwrap_or(i32::MAX);
    let (desired, settings) = match &resolution.connection {
        Err(error) => (Err(error.clone()), None),
        Ok(resolved) => (Ok(Arc::clone(&resolved.desired)), Some(Arc::clone(&resolved.settings))),
    };
    let inputs = ConnectionInputs {
        desired,
        live: live.map(|live| live_connection(&live, ctx.clock.now().wall)),
        policy: resolution.policy.clone(),
        unused_fields: resolution.unused_fields.clone(),
        consumers: ConnectionConsumers { sync_jobs: count(Kind::SyncJob), bank_routes: count(Kind::BankRoute) },
        secrets_valid_for,
    };
    Ok(ConnectionObservation { inputs, settings })
}

fn live_connection(live: &Connection, now: Timestamp) -> LiveConnection {
    let status = live.snapshot();
    let settings = live.settings();
    let maintenance = settings.maintenance(now);
    let passive = settings.suspended() || settings.health_check().mode == CheckMode::Passive || maintenance.is_inside();
    LiveConnection {
        revision: Arc::clone(settings.revision()),
        effective: status.effective,
        circuit: status.circuit,
        flapping: status.flapping,
        health: status.health,
        check_failure: status.check_failure.clone(),
        ever_healthy: status.ever_healthy,
        slow: status.slow,
        tier: status.tier,
        verification: match &status.verification {
            Verification::Verified => VerificationState::Verified,
            Verification::AuthenticationFailed { .. } => VerificationState::Rejected,
            Verification::Inconclusive(_) => VerificationState::Inconclusive,
            Verification::Pending if passive => VerificationState::NotAttempted,
            Verification::Pending => VerificationState::Pending,
        },
        authenticated: status.authenticated,
        token_missing: status.token_missing,
        token_fault: status.token_fault.map(TokenFault::as_str),
        address_refused: match &status.verification {
            Verification::Inconclusive(CallResult::Error(CallError::AddressRefused(problem))) => {
                Some(problem.to_string())
            }
            _ => None,
        },
        maintenance,
        throttled_until: status.throttled_until,
    }
}
