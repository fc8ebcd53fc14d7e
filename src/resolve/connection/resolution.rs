//! A connection's spec, profile, policy and Secrets as validated settings. Pure.

use std::sync::Arc;

use jiff::Timestamp;

use crate::api::v1alpha1::BreakerPolicy;
use crate::api::v1alpha1::provider_connection::{PolicyStatus, ProviderConnectionSpec};
use crate::domain::key::ObjectKey;
use crate::profile::Profile;
use crate::resolve::breaker_policy::BreakerRules;
use crate::resolve::connection::checks::{check_operator_allows, profile, spec_error, unused_fields};
use crate::resolve::connection::draft::draft;
use crate::resolve::operator::OperatorOptions;
use crate::resolve::policy_selection::select_policy;
use crate::resolve::secrets::{ReferencedSecret, ReferencedSecrets};
use crate::resolve::spec_error::SpecError;
use crate::settings::{Draft, Settings};

/// What a connection is resolved from.
#[derive(Clone, Debug)]
pub struct ConnectionSources<'a> {
    /// Namespace and name of the object.
    pub key: &'a ObjectKey,
    /// Its UID; empty outside a cluster.
    pub uid: &'a str,
    /// Its spec.
    pub spec: &'a ProviderConnectionSpec,
    /// The loaded profile that `spec.provider` names.
    pub profile: Option<&'a Arc<Profile>>,
    /// The stored policy that [`policy_name`](crate::resolve::policy_selection::policy_name) names.
    pub policy: Option<&'a BreakerPolicy>,
    /// The Secrets that the spec references, as they were read.
    pub secrets: ReferencedSecrets<'a>,
    /// What the operator's flags permit.
    pub operator: OperatorOptions<'a>,
}

/// What a connection comes to.
#[derive(Clone, Debug)]
pub struct ConnectionResolution {
    /// The connection, or why its spec cannot be used.
    pub connection: Result<ResolvedConnection, SpecError>,
    /// The breaker policy in effect; known also where something else prevents the use of the spec.
    pub policy: Option<Arc<PolicyStatus>>,
    /// Set fields that this version does not use.
    pub unused_fields: Vec<&'static str>,
}

/// A usable connection. Clones share the values.
#[derive(Clone, Debug)]
pub struct ResolvedConnection {
    /// Its validated settings.
    pub settings: Arc<Settings>,
    /// What the status reports of them.
    pub desired: Arc<DesiredConnection>,
}

/// The connection that the spec describes, as far as the status reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredConnection {
    /// Revision of the settings.
    pub revision: Arc<str>,
    /// Host of the base URL.
    pub host: String,
    /// Resource version of the credential's Secret.
    pub credential: Option<String>,
    /// Expiry of the client certificate.
    pub credential_expires: Option<Timestamp>,
    /// Whether the spec references any Secret.
    pub uses_secrets: bool,
    /// Whether calls carry a credential.
    pub authenticates: bool,
    /// Digest of owner, endpoint and way to authenticate.
    pub target: Arc<str>,
    /// Whether health checks compare the status only.
    pub checks_status_only: bool,
    /// Whether stuck payouts through it can be followed.
    pub payouts: PayoutSupport,
}

/// Whether stuck payouts through a connection can be followed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum PayoutSupport {
    /// The bank can be asked for their status, or to cancel them.
    Followed,
    /// It cannot, although `spec.payouts` is set: they wait for a person.
    ManualOnly,
    /// It cannot, and `spec.payouts` is not set.
    NotStated,
}

/// Resolves a `ProviderConnection`.
pub fn connection(sources: &ConnectionSources<'_>) -> ConnectionResolution {
    let ConnectionSources { key, spec, profile: loaded, policy, .. } = sources;
    let selected = profile(&spec.provider, *loaded).and_then(|profile| {
        let selected = select_policy(spec, key, profile, *policy)?;
        Ok((Arc::clone(profile), selected))
    });
    let (connection, policy) = match selected {
        Ok((profile, selected)) => (resolved(sources, profile, selected.rules), Some(Arc::new(selected.status))),
        Err(error) => (Err(error), None),
    };
    ConnectionResolution { connection, policy, unused_fields: unused_fields(spec, loaded.map(AsRef::as_ref)) }
}

fn resolved(
    sources: &ConnectionSources<'_>,
    profile: Arc<Profile>,
    rules: BreakerRules,
) -> Result<ResolvedConnection, SpecError> {
    let ConnectionSources { uid, spec, secrets, operator, .. } = sources;
    let draft = Draft { owner: Arc::from(*uid), ..draft(spec, profile, rules, secrets)? };
    let settings = Settings::resolve(draft).map_err(|e| spec_error(&e))?;
    check_operator_allows(spec, &settings, *operator)?;
    let desired = Arc::new(desired(spec, &settings, secrets));
    Ok(ResolvedConnection { settings: Arc::new(settings), desired })
}

fn desired(spec: &ProviderConnectionSpec, settings: &Settings, secrets: &ReferencedSecrets<'_>) -> DesiredConnection {
    let payouts = match (settings.promises().is_manual_only(), spec.payouts.is_some()) {
        (false, _) => PayoutSupport::Followed,
        (true, true) => PayoutSupport::ManualOnly,
        (true, false) => PayoutSupport::NotStated,
    };
    let version = |secret: &ReferencedSecret<'_>| secret.state.data().map(|data| data.resource_version.clone());
    DesiredConnection {
        revision: Arc::clone(settings.revision()),
        host: settings.host(),
        credential: secrets.auth.as_ref().or(secrets.tls.as_ref()).and_then(version),
        credential_expires: settings.credential_expires(),
        uses_secrets: secrets.auth.is_some() || secrets.tls.is_some(),
        authenticates: settings.has_credential(),
        target: Arc::clone(settings.target()),
        checks_status_only: settings.health_check().compares_status_only(),
        payouts,
    }
}
