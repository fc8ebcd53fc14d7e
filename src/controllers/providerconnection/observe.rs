//! Reads the inputs of a connection's reconcile: profile, policy, Secrets, and the state of the running connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::ConnectionConsumers;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::secrets::SecretRead;
use crate::controllers::providerconnection::inputs::{ConnectionInputs, LiveConnection, VerificationState};
use crate::controllers::providerconnection::resolution::resolve;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;
use crate::profile::CheckMode;
use crate::provider::call::CallError;
use crate::provider::connection::Connection;
use crate::provider::monitor::Verification;
use crate::provider::probe::CallResult;
use crate::resolve::{
    ConnectionResolution, ConnectionSources, ReferencedSecret, ReferencedSecrets, SecretReference, policy_name,
    referenced_secrets,
};
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
    let (resolution, secrets_valid_for) = resolution(ctx, object, &key, rejected_since).await?;
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

/// Reads what the connection is resolved from and resolves it. The duration is how long the Secrets may be used before
/// they are read again.
///
/// `rejected_since`: when the provider first rejected the credential; an older copy is not used.
pub(super) async fn resolution(
    ctx: &Ctx,
    object: &ProviderConnection,
    key: &ObjectKey,
    rejected_since: Option<Mono>,
) -> Result<(Arc<ConnectionResolution>, Duration), ReconcileError> {
    let spec = &object.spec;
    let profile = ctx.profiles.get(&spec.provider);
    let policy = ctx.stores.policies.get(&key.sibling(policy_name(spec)));
    let mut valid_for = ctx.secrets.refresh_interval();
    let mut secrets = ReferencedSecrets::default();
    // A connection that cannot be used anyway needs no Secret.
    if profile.is_some() && (policy.is_some() || spec.breaker_policy_ref.is_none()) {
        let (auth, tls) = referenced_secrets(spec);
        let (auth, auth_valid_for) = read_secret(ctx, key, auth, rejected_since).await?;
        let (tls, tls_valid_for) = read_secret(ctx, key, tls, rejected_since).await?;
        secrets = ReferencedSecrets { auth, tls };
        valid_for = valid_for.min(auth_valid_for).min(tls_valid_for);
    }
    let (profile, policy, operator) = (profile.as_ref(), policy.as_deref(), ctx.operator_options());
    let sources = ConnectionSources { key, spec, profile, policy, secrets, operator };
    let exists = || ctx.stores.connections.get(key).is_some();
    Ok((resolve(&ctx.resolutions.connections, object, &sources, exists), valid_for))
}

async fn read_secret<'a>(
    ctx: &Ctx,
    key: &ObjectKey,
    reference: Option<SecretReference<'a>>,
    rejected_since: Option<Mono>,
) -> Result<(Option<ReferencedSecret<'a>>, Duration), ReconcileError> {
    let Some((field, name)) = reference else { return Ok((None, Duration::MAX)) };
    let SecretRead { state, valid_for } = ctx.secrets.get(&key.sibling(name), rejected_since).await?;
    Ok((Some(ReferencedSecret { field, name, state }), valid_for))
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
