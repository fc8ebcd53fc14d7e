//! Wires the registry of connections.

use std::sync::Arc;

use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::ledger::CredentialStore;
use crate::ledger::encryption::Keyring;
use crate::provider::audit::AuditQueue;
use crate::provider::auth::refresh_token_store::RefreshTokenStore;
use crate::provider::memory::MemoryLimits;
use crate::provider::registry::RegistryOptions;
use crate::provider::rights::LicenceMeter;
use crate::settings::addresses::AddressRules;

/// What the registry of connections is built with.
///
/// # Errors
/// If a metric is registered already.
pub(super) fn registry_options(
    base: &BaseDeps<'_>,
    keys: &Keyring,
    audit: &AuditQueue,
) -> Result<RegistryOptions, AppError> {
    let BaseDeps { args, clock, metrics, ledger, .. } = base;
    Ok(RegistryOptions {
        addresses: AddressRules::allowing(args.allow_provider_addresses.iter().copied()),
        refresh_tokens: Some(RefreshTokenStore::new(Arc::clone(ledger) as Arc<dyn CredentialStore>, keys.clone())),
        licence_meter: Some(Arc::new(LicenceMeter::new(*clock, Arc::clone(ledger), audit.clone(), metrics)?)),
        day_quotas: Some(Arc::clone(ledger)),
        traces: base.traces.clone(),
        legacy_metrics: args.telemetry.compat_metrics.iter().copied().collect(),
        tasks: base.tasks.effects.clone(),
        calls_per_connection: Some(args.gateway.gateway_connection_calls),
        memory: MemoryLimits::of(args.response_memory),
    })
}
