//! Reads the inputs of a connection's reconcile: profile, policy, Secrets, and the state of the running connection.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::v1alpha1::ProviderConnection;
use crate::api::v1alpha1::provider_connection::ConnectionConsumers;
use crate::cluster::resource::WatchedResource as _;
use crate::cluster::secrets::SecretRead;
use crate::controllers::providerconnection::inputs::{
    ConnectionInputs, DesiredConnection, LiveConnection, VerificationState,
};
use crate::controllers::providerconnection::plan::{self, ReferencedSecrets, SecretReference};
use crate::controllers::providerconnection::policy::breaker_rules;
use crate::controllers::resolve::ReferencedSecret;
use crate::controllers::{Ctx, ReconcileError};
use crate::domain::key::{Kind, ObjectKey};
use crate::domain::time::Mono;
use crate::profile::CheckMode;
use crate::provider::call::CallError;
use crate::provider::connection::Connection;
use crate::provider::monitor::Verification;
use crate::provider::probe::CallResult;
use crate::settings::{Auth, Settings};

/// Result of [`observe`].
pub struct ConnectionObservation {
    /// Inputs of `decide`.
    pub inputs: ConnectionInputs,
    /// Settings that `act` applies; `None` if the spec cannot be used.
    pub settings: Option<Settings>,
}

/// Reads stores, Secrets and the registry.
pub async fn observe(ctx: &Ctx, object: &ProviderConnection) -> Result<ConnectionObservation, ReconcileError> {
    let key = object.key();
    let live = ctx.registry.get(&key).filter(|live| Some(&**live.uid()) == object.uid().as_deref());
    let rejected_since = live.as_ref().and_then(|live| live.snapshot().refused_since);
    let mut secrets_valid_for = ctx.secrets.refresh_interval();
    let (resolved, policy) = match plan::profile(&object.spec.provider, ctx.profiles.get(&object.spec.provider)) {
        Err(error) => (Err(error), None),
        Ok(profile) => match breaker_rules(&object.spec, &key, &profile, |policy| ctx.stores.policies.get(policy)) {
            Err(error) => (Err(error), None),
            Ok((rules, status)) => {
                let (secrets, valid_for) = read_secrets(ctx, object, &key, rejected_since).await?;
                secrets_valid_for = secrets_valid_for.min(valid_for);
                let settings = plan::settings(&object.spec, profile, rules, &secrets).and_then(|settings| {
                    let (has_key, addresses) =
                        (ctx.registry.can_store_refresh_tokens(), ctx.registry.clients().rules());
                    plan::check_operator_allows(&object.spec, &settings, has_key, addresses)?;
                    Ok((settings, secrets))
                });
                (settings, Some(status))
            }
        },
    };
    let references = &ctx.stores.references;
    let count = |from| i32::try_from(references.count(from, Kind::ProviderConnection, &key)).unwrap_or(i32::MAX);
    let (desired, settings) = match resolved {
        Err(error) => (Err(error), None),
        Ok((settings, secrets)) => (Ok(desired(&settings, &secrets)), Some(settings)),
    };
    let inputs = ConnectionInputs {
        desired,
        live: live.map(|live| live_connection(&live, ctx.clock.now().wall)),
        policy,
        unused_fields: plan::unused_fields(&object.spec),
        consumers: ConnectionConsumers { sync_jobs: count(Kind::SyncJob), bank_routes: count(Kind::BankRoute) },
        secrets_valid_for,
    };
    Ok(ConnectionObservation { inputs, settings })
}

fn desired(settings: &Settings, secrets: &ReferencedSecrets) -> DesiredConnection {
    let version = |secret: &ReferencedSecret| secret.data.as_ref().map(|data| data.resource_version.clone());
    DesiredConnection {
        revision: settings.revision().to_string(),
        host: settings.host(),
        credential: secrets.auth.as_ref().or(secrets.tls.as_ref()).and_then(version),
        credential_expires: settings.credential_expires(),
        uses_secrets: secrets.auth.is_some() || secrets.tls.is_some(),
        authenticates: !matches!(settings.auth(), Auth::None) || settings.tls().client.is_some(),
    }
}

/// Reads the referenced Secrets; the duration is how long they may be used before they are read again.
///
/// `rejected_since`: when the provider first rejected the credential; an older copy is not used.
pub(super) async fn read_secrets(
    ctx: &Ctx,
    object: &ProviderConnection,
    key: &ObjectKey,
    rejected_since: Option<Mono>,
) -> Result<(ReferencedSecrets, Duration), ReconcileError> {
    let (auth, tls) = plan::referenced_secrets(&object.spec);
    let (auth, auth_valid_for) = read_secret(ctx, key, auth, rejected_since).await?;
    let (tls, tls_valid_for) = read_secret(ctx, key, tls, rejected_since).await?;
    Ok((ReferencedSecrets { auth, tls }, auth_valid_for.min(tls_valid_for)))
}

async fn read_secret(
    ctx: &Ctx,
    key: &ObjectKey,
    reference: Option<SecretReference<'_>>,
    rejected_since: Option<Mono>,
) -> Result<(Option<ReferencedSecret>, Duration), ReconcileError> {
    let Some((field, name)) = reference else { return Ok((None, Duration::MAX)) };
    let SecretRead { data, valid_for } = ctx.secrets.get(&key.sibling(name), rejected_since).await?;
    Ok((Some(ReferencedSecret { field, name: name.to_owned(), data }), valid_for))
}

fn live_connection(live: &Connection, now: Timestamp) -> LiveConnection {
    let status = live.snapshot();
    let settings = live.settings();
    let maintenance = settings.maintenance(now);
    let passive = settings.suspended() || settings.health_check().mode == CheckMode::Passive || maintenance.is_inside();
    LiveConnection {
        revision: settings.revision().to_string(),
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
