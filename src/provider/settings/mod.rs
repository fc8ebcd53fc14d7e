//! What one connection needs, resolved and checked: the spec over the profile, the policy, the Secrets' values.
//!
//! The controllers fill a [`Draft`]; [`Settings::resolve`] checks it and stamps two revisions. `verdict_revision` changes
//! with what a verification of the credentials speaks about (provider, endpoint, auth, TLS); `revision` with anything.
//! Both are built from the Secrets' resource versions, never from their values.

mod access;
mod auth;
mod der;
mod manners;
mod same;
mod text;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;

use crate::domain::breaker::{OverrideMode, Policy};
use crate::domain::quota::{Limit, Rules};
use crate::domain::rights::Rights;
use crate::domain::window::{Place, Window};
use crate::provider::classify::{Classify, StatusPattern};
use crate::provider::profile::{CheckMode, Environment, Profile};
use text::digest;
pub(crate) use text::digest as text_digest;

pub use access::StandIn;
pub use auth::{Auth, DEFAULT_REFRESH_BEFORE, Placement, TokenClient};
pub use manners::{CachePolicy, Retry, STALL, Timeouts};
pub(crate) use text::parse_url;
pub use text::with_path;
pub use tls::{ClientCertificate, MinVersion, Tls};

/// The health check in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// Probes, or real calls only.
    pub mode: CheckMode,
    /// Between two probes.
    pub interval: Duration,
    /// Of one probe.
    pub timeout: Duration,
    /// Path and query below the base URL.
    pub path: Option<String>,
    /// Statuses that count as well.
    pub expected_statuses: Vec<StatusPattern>,
    /// Good checks in a row until Healthy.
    pub healthy_threshold: u32,
    /// Bad checks in a row until Unhealthy, slow ones until Degraded.
    pub unhealthy_threshold: u32,
    /// Slower than this is slow.
    pub latency_threshold: Option<Duration>,
}

/// An overlay on the circuit that a person set.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CircuitOverride {
    /// What is enforced.
    pub mode: OverrideMode,
    /// From then on it has no effect.
    pub until: Timestamp,
}

/// What a controller found out about a connection. Every field may be set freely; [`Settings::resolve`] judges.
#[derive(Clone)]
pub struct Draft {
    /// The provider's profile.
    pub profile: Arc<Profile>,
    /// Which of its worlds.
    pub environment: Environment,
    /// Where it is.
    pub base_url: String,
    /// Values of the profile's placeholders.
    pub parameters: BTreeMap<String, String>,
    /// The credentials.
    pub auth: Auth,
    /// Name, UID and resourceVersion of the Secret the credentials come from; empty without one.
    pub credential_revision: String,
    /// TLS beyond the system's roots.
    pub tls: Tls,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// How a failed try is repeated.
    pub retry: Retry,
    /// How often the provider may be asked; all apply together.
    pub limits: Vec<Limit>,
    /// The share of each limit that is for money only.
    pub money_reserve_percent: u8,
    /// How long answers are kept; unset, they are not.
    pub cache: Option<CachePolicy>,
    /// The health check.
    pub health_check: HealthCheck,
    /// The breaker's rules.
    pub breaker: Policy,
    /// What a person wants of this circuit for a while.
    pub circuit_override: Option<CircuitOverride>,
    /// When the provider is not to be disturbed: no probes, no syncs, no payouts.
    pub maintenance: Vec<Window>,
    /// What counts against the provider.
    pub classify: Classify,
    /// No probes, and calls answer `suspended`.
    pub suspended: bool,
    /// Licence profiles; unset: open to whoever may call.
    pub rights: Option<Arc<Rights>>,
    /// Who stands in, in order.
    pub fallback: Vec<StandIn>,
    /// The profile's switches, each as it is.
    pub features: BTreeMap<String, bool>,
}

impl Draft {
    /// The profile's own settings: what a connection that sets nothing gets. The base URL is empty where the profile
    /// has none.
    pub fn new(profile: Arc<Profile>, environment: Environment) -> Self {
        let check = &profile.health_check;
        let health_check = HealthCheck {
            mode: check.mode,
            interval: check.interval,
            timeout: check.timeout,
            path: check.path.clone(),
            expected_statuses: check.expected_statuses.clone(),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            latency_threshold: None,
        };
        let t = profile.timeouts;
        Self {
            environment,
            base_url: profile.base_url(environment).unwrap_or_default().to_owned(),
            parameters: BTreeMap::new(),
            auth: Auth::None,
            credential_revision: String::new(),
            tls: Tls::default(),
            timeouts: Timeouts {
                connect: t.connect,
                request: t.request,
                total: t.total,
                first_byte: t.first_byte,
                read: t.read,
            },
            retry: Retry::default(),
            limits: manners::limits_of(&profile, environment),
            money_reserve_percent: 0,
            cache: profile.cache.map(|cache| CachePolicy { ttl: cache.ttl, max_stale: cache.max_stale }),
            health_check,
            breaker: Policy::preset(profile.breaker),
            circuit_override: None,
            maintenance: Vec::new(),
            classify: Classify::default(),
            suspended: false,
            rights: None,
            fallback: Vec::new(),
            features: profile.features.clone(),
            profile,
        }
    }
}

/// Settings that were checked. Read-only; a change is a new value.
#[derive(Clone)]
pub struct Settings {
    draft: Draft,
    base_url: Url,
    quota: Option<Rules>,
    /// Read once: certificates are long, and scrapes are many.
    credential_expires: Option<Timestamp>,
    revision: Arc<str>,
    verdict_revision: Arc<str>,
}

/// A setting that cannot be used: which field, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct SettingsError {
    /// The field, as it is called in `spec`.
    pub field: &'static str,
    /// What is wrong and what to do. Never holds a value of a Secret.
    pub problem: String,
}

impl SettingsError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl Settings {
    /// Checks a draft.
    pub fn resolve(draft: Draft) -> Result<Self, SettingsError> {
        let base_url = parse_url("endpoint.baseURL", &draft.base_url)?;
        draft.auth.check()?;
        draft.tls.check()?;
        draft.retry.check()?;
        let quota = manners::quota(&draft.limits, draft.money_reserve_percent, draft.profile.day_zone())?;
        let check = &draft.health_check;
        if check.mode == CheckMode::Active {
            match &check.path {
                Some(path) if path.starts_with('/') => {}
                Some(_) => return Err(SettingsError::new("healthCheck.path", "must start with /")),
                None => {
                    let problem = "the provider has no check of its own: set a path, or mode: Passive";
                    return Err(SettingsError::new("healthCheck.path", problem));
                }
            }
            if check.interval.is_zero() || check.timeout.is_zero() || check.timeout > check.interval {
                let problem = "must be above zero and at most healthCheck.interval";
                return Err(SettingsError::new("healthCheck.timeout", problem));
            }
        }
        let verdict_revision = digest(&[
            &draft.profile.id,
            draft.environment.as_str(),
            base_url.as_str(),
            &format!("{:?}", draft.parameters),
            &draft.auth.shape(),
            &draft.credential_revision,
            &draft.tls.shape(),
        ]);
        let revision = digest(&[
            &verdict_revision,
            &format!("{:?}{:?}{:?}", draft.timeouts, draft.health_check, draft.breaker),
            &format!("{:?}{}{:?}", draft.classify, draft.suspended, draft.circuit_override),
            &format!("{:?}{:?}{:?}{}", draft.retry, draft.cache, draft.limits, draft.money_reserve_percent),
            &draft.maintenance.iter().map(ToString::to_string).collect::<Vec<_>>().join(";"),
            &format!("{:?}{:?}{:?}", draft.rights, draft.fallback, draft.features),
        ]);
        let credential_expires = draft.tls.expires();
        let (revision, verdict_revision) = (revision.into(), verdict_revision.into());
        Ok(Self { draft, base_url, quota, credential_expires, revision, verdict_revision })
    }

    /// The provider's profile.
    pub fn profile(&self) -> &Arc<Profile> {
        &self.draft.profile
    }

    /// The provider's id, for metrics.
    pub fn provider(&self) -> &str {
        &self.draft.profile.id
    }

    /// Which of the provider's worlds.
    pub fn environment(&self) -> Environment {
        self.draft.environment
    }

    /// Where the provider is.
    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// Host and, where it is not the scheme's own, port of the provider.
    pub fn host(&self) -> String {
        let host = self.base_url.host_str().unwrap_or_default();
        self.base_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Values of the profile's placeholders.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.draft.parameters
    }

    /// The credentials.
    pub fn auth(&self) -> &Auth {
        &self.draft.auth
    }

    /// When the client certificate ends.
    pub fn credential_expires(&self) -> Option<Timestamp> {
        self.credential_expires
    }

    /// Name and version of the Secret the credentials come from; empty without one.
    pub fn credential_revision(&self) -> &str {
        &self.draft.credential_revision
    }

    /// TLS beyond the system's roots.
    pub fn tls(&self) -> &Tls {
        &self.draft.tls
    }

    /// Time-outs.
    pub fn timeouts(&self) -> Timeouts {
        self.draft.timeouts
    }

    /// How a failed try is repeated.
    pub fn retry(&self) -> Retry {
        self.draft.retry
    }

    /// How often the provider may be asked; none if no limit is known.
    pub fn quota(&self) -> Option<&Rules> {
        self.quota.as_ref()
    }

    /// How long answers are kept; none if they are not.
    pub fn cache(&self) -> Option<CachePolicy> {
        self.draft.cache.filter(CachePolicy::keeps)
    }

    /// The health check.
    pub fn health_check(&self) -> &HealthCheck {
        &self.draft.health_check
    }

    /// The breaker's rules.
    pub fn breaker(&self) -> &Policy {
        &self.draft.breaker
    }

    /// What a person wants of this circuit for a while; perhaps past its time.
    pub fn circuit_override(&self) -> Option<CircuitOverride> {
        self.draft.circuit_override
    }

    /// Whether `now` is within a maintenance window, and until when.
    pub fn maintenance(&self, now: Timestamp) -> Place {
        Place::of(&self.draft.maintenance, now)
    }

    /// What counts against the provider.
    pub fn classify(&self) -> &Classify {
        &self.draft.classify
    }

    /// Whether the connection is suspended.
    pub fn suspended(&self) -> bool {
        self.draft.suspended
    }

    /// Whether the operator probes: active, and not suspended.
    pub fn probed(&self) -> bool {
        !self.draft.suspended && self.draft.health_check.mode == CheckMode::Active
    }

    /// Changes with every change.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    /// Changes with the provider, the endpoint, the credentials and TLS: what a verification speaks about.
    pub fn verdict_revision(&self) -> &Arc<str> {
        &self.verdict_revision
    }
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

#[cfg(test)]
mod tests;
