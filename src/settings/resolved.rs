//! Validated settings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use reqwest::Url;

use super::auth::Auth;
use super::call_policy::{self, CachePolicy, RetryPolicy, Timeouts};
use super::digest::short_digest;
use super::draft::{CircuitOverride, Draft, HealthCheck};
use super::error::SettingsError;
use super::failure_criteria::FailureCriteria;
use super::fallback::FallbackTarget;
use super::tls::Tls;
use crate::domain::breaker::Policy;
use crate::domain::payout::BankPromises;
use crate::domain::quota::QuotaRules;
use crate::domain::rights::Rights;
use crate::domain::window::WindowPosition;
use crate::profile::{CheckMode, Environment, InvalidExpectation, Profile, parse_base_url};

/// Validated settings. Immutable; a change is a new value.
#[derive(Clone)]
pub struct Settings {
    draft: Draft,
    base_url: Url,
    quota: Option<QuotaRules>,
    /// Computed once: parsing certificates is expensive, and every metrics scrape needs it.
    credential_expires: Option<Timestamp>,
    revision: Arc<str>,
    verification_revision: Arc<str>,
    target: Arc<str>,
}

impl Settings {
    /// Validates a draft.
    pub fn resolve(mut draft: Draft) -> Result<Self, SettingsError> {
        draft.breaker.half_open.lease = draft.trial_lease();
        let base_url = parse_base_url(&draft.base_url).map_err(SettingsError::url("endpoint.baseURL"))?;
        draft.auth.check()?;
        draft.tls.check()?;
        draft.retry.check()?;
        let quota = call_policy::quota(&draft.limits, draft.money_reserve_percent, draft.profile.day_zone())?;
        check_health_check(&draft.health_check)?;
        let target = short_digest(&[
            &draft.owner,
            &draft.profile.id,
            draft.environment.as_str(),
            base_url.as_str(),
            &format!("{:?}", draft.parameters),
            &draft.auth_reference,
            &draft.auth.shape(),
        ]);
        draft.promises.target.clone_from(&target);
        let verification_revision = short_digest(&[&target, &draft.credential_revision, &draft.tls.shape()]);
        let revision = short_digest(&[
            &verification_revision,
            &format!("{:?}{:?}{:?}", draft.timeouts, draft.health_check, draft.breaker),
            &format!("{:?}{}{:?}", draft.failure_criteria, draft.suspended, draft.circuit_override),
            &format!("{:?}{:?}{:?}{}", draft.retry, draft.cache, draft.limits, draft.money_reserve_percent),
            &draft.maintenance.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
            &format!("{:?}{:?}{:?}", draft.rights, draft.fallback, draft.features),
            &format!("{:?}", draft.promises),
        ]);
        let credential_expires = draft.tls.expires();
        let (revision, verification_revision) = (revision.into(), verification_revision.into());
        let target = target.into();
        Ok(Self { draft, base_url, quota, credential_expires, revision, verification_revision, target })
    }

    /// UID of the object that the credentials belong to; empty outside a cluster.
    pub fn owner(&self) -> &str {
        &self.draft.owner
    }

    /// The provider's profile.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.draft.profile
    }

    /// The provider's id, for metrics.
    pub fn provider(&self) -> &str {
        &self.draft.profile.id
    }

    /// The provider's environment.
    pub fn environment(&self) -> Environment {
        self.draft.environment
    }

    /// The base URL.
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// The provider's host, with the port unless it is the scheme's default.
    pub fn host(&self) -> String {
        let host = self.base_url.host_str().unwrap_or_default();
        self.base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Values of the profile's parameters.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.draft.parameters
    }

    /// The credentials.
    pub fn auth(&self) -> &Auth {
        &self.draft.auth
    }

    /// When the client certificate expires.
    pub fn credential_expires(&self) -> Option<Timestamp> {
        self.credential_expires
    }

    /// Name, UID and version of the Secret that holds the credentials; empty without one.
    pub fn credential_revision(&self) -> &str {
        &self.draft.credential_revision
    }

    /// TLS in addition to the system's roots.
    pub fn tls(&self) -> &Tls {
        &self.draft.tls
    }

    /// Timeouts.
    pub fn timeouts(&self) -> Timeouts {
        self.draft.timeouts
    }

    /// How a failed try is retried.
    pub fn retry(&self) -> RetryPolicy {
        self.draft.retry
    }

    /// The quota; `None` without limits.
    pub fn quota(&self) -> Option<&QuotaRules> {
        self.quota.as_ref()
    }

    /// How long responses are cached; `None`: not cached.
    pub fn cache(&self) -> Option<CachePolicy> {
        self.draft.cache.filter(CachePolicy::is_enabled)
    }

    /// The health check.
    pub fn health_check(&self) -> &HealthCheck {
        &self.draft.health_check
    }

    /// The breaker's policy; the lease of a trial is at least as long as one try.
    pub fn breaker(&self) -> &Policy {
        &self.draft.breaker
    }

    /// The manual override of the circuit; may have expired.
    pub fn circuit_override(&self) -> Option<CircuitOverride> {
        self.draft.circuit_override
    }

    /// Whether `now` is inside a maintenance window, and until when.
    pub fn maintenance(&self, now: Timestamp) -> WindowPosition {
        WindowPosition::at(&self.draft.maintenance, now)
    }

    /// Which results of a call count as failures of the provider.
    pub fn failure_criteria(&self) -> &FailureCriteria {
        &self.draft.failure_criteria
    }

    /// Whether the connection is suspended.
    pub fn suspended(&self) -> bool {
        self.draft.suspended
    }

    /// Whether the operator sends probes: the health check is active and the connection is not suspended.
    pub fn probes_enabled(&self) -> bool {
        !self.draft.suspended && self.draft.health_check.mode == CheckMode::Active
    }

    /// Licence profiles; `None`: every authenticated caller is allowed.
    pub fn rights(&self) -> Option<&Rights> {
        self.draft.rights.as_deref()
    }

    /// Fallbacks, in order of preference.
    pub fn fallback(&self) -> &[FallbackTarget] {
        &self.draft.fallback
    }

    /// Whether a feature switch of the profile is on; an unknown one is off.
    pub fn feature(&self, name: &str) -> bool {
        self.draft.features.get(name).copied().unwrap_or(false)
    }

    /// What the bank promises about payouts: what an attempt through it may rest on.
    pub fn promises(&self) -> &BankPromises {
        &self.draft.promises
    }

    /// Changes with every field.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// Changes with the owner, the provider, the endpoint, the credentials and TLS: what a verification depends on.
    pub fn verification_revision(&self) -> &Arc<str> {
        &self.verification_revision
    }

    /// Changes with the owner, the endpoint and the way to authenticate, not with the content of a Secret: what a passed
    /// health check shows to work.
    pub fn target(&self) -> &Arc<str> {
        &self.target
    }
}

fn check_health_check(check: &HealthCheck) -> Result<(), SettingsError> {
    check.expected_content.validate().map_err(|invalid| {
        let field = match invalid {
            InvalidExpectation::ContentType => "healthCheck.expectedContentType",
            InvalidExpectation::Pointer => "healthCheck.expectedJSONPointer",
        };
        SettingsError::new(field, invalid.to_string())
    })?;
    if check.mode != CheckMode::Active {
        return Ok(());
    }
    match &check.path {
        Some(path) if path.starts_with('/') => {}
        Some(_) => return Err(SettingsError::new("healthCheck.path", "must start with /")),
        None => {
            let problem = "the provider has no default health check: set a path, or mode: Passive";
            return Err(SettingsError::new("healthCheck.path", problem));
        }
    }
    if check.interval.is_zero() || check.timeout.is_zero() || check.timeout > check.interval {
        let problem = "must be above zero and at most healthCheck.interval";
        return Err(SettingsError::new("healthCheck.timeout", problem));
    }
    Ok(())
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("provider", &self.provider())
            .field("host", &self.host())
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
