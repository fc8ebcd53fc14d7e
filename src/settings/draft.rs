//! Settings before they are validated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::auth::Auth;
use super::call_policy::{self, CachePolicy, RetryPolicy, Timeouts};
use super::failure_criteria::FailureCriteria;
use super::fallback::FallbackTarget;
use super::tls::Tls;
use crate::domain::breaker::{OverrideMode, Policy};
use crate::domain::payout::BankPromises;
use crate::domain::quota::Limit;
use crate::domain::rights::Rights;
use crate::domain::window::TimeWindow;
use crate::profile::{CheckMode, Environment, ExpectedContent, PayoutProfile, Profile, StatusPattern};

/// The effective health check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// Probes, or real calls only.
    pub mode: CheckMode,
    /// Time between two probes.
    pub interval: Duration,
    /// Timeout of one probe.
    pub timeout: Duration,
    /// Path and query below the base URL.
    pub path: Option<String>,
    /// Statuses that count as success.
    pub expected_statuses: Vec<StatusPattern>,
    /// What is expected besides the status.
    pub expected_content: ExpectedContent,
    /// Consecutive successful checks until Healthy.
    pub healthy_threshold: u32,
    /// Consecutive failed checks until Unhealthy, or slow ones until Degraded.
    pub unhealthy_threshold: u32,
    /// A check that takes longer is slow.
    pub latency_threshold: Option<Duration>,
}

impl HealthCheck {
    /// Whether probes are sent that compare the status only: any page with an expected status passes.
    pub fn compares_status_only(&self) -> bool {
        self.mode == CheckMode::Active && self.expected_content.is_any()
    }
}

/// A manual override of the circuit.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CircuitOverride {
    /// The enforced state.
    pub mode: OverrideMode,
    /// When the override expires.
    pub until: Timestamp,
}

/// Settings before they are validated. Every field may be set freely; `Settings::resolve` validates them.
#[derive(Clone)]
pub struct Draft {
    /// UID of the object that the credentials belong to; empty outside a cluster. Another object of the same name is
    /// another owner: nothing that one of them obtained is used for the other.
    pub owner: Arc<str>,
    /// The provider's profile.
    pub profile: Arc<Profile>,
    /// The provider's environment.
    pub environment: Environment,
    /// The base URL.
    pub base_url: String,
    /// Values of the profile's parameters.
    pub parameters: BTreeMap<String, String>,
    /// The credentials.
    pub auth: Auth,
    /// Name, UID and resourceVersion of the Secret that holds the credentials; empty without one.
    pub credential_revision: String,
    /// The Secret that the spec references for `auth`: field, name and key.
    pub auth_reference: String,
    /// TLS in addition to the system's roots.
    pub tls: Tls,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// How a failed try is retried.
    pub retry: RetryPolicy,
    /// Rate limits and quotas; all apply together.
    pub limits: Vec<Limit>,
    /// The share of each limit that is reserved for `Money` calls.
    pub money_reserve_percent: u8,
    /// How long responses are cached; unset: not cached.
    pub cache: Option<CachePolicy>,
    /// The health check.
    pub health_check: HealthCheck,
    /// The breaker's policy.
    pub breaker: Policy,
    /// A manual override of the circuit.
    pub circuit_override: Option<CircuitOverride>,
    /// Maintenance windows: no probes, no syncs, no payouts.
    pub maintenance: Vec<TimeWindow>,
    /// Which results of a call count as failures of the provider.
    pub failure_criteria: FailureCriteria,
    /// Suspended: no probes, and calls fail with `suspended`.
    pub suspended: bool,
    /// Licence profiles; unset: every authenticated caller is allowed.
    pub rights: Option<Arc<Rights>>,
    /// Fallbacks, in order of preference.
    pub fallback: Vec<FallbackTarget>,
    /// The state of each feature switch of the profile.
    pub features: BTreeMap<String, bool>,
    /// What the bank promises about payouts: by the profile, narrowed by the connection.
    pub promises: BankPromises,
}

impl Draft {
    /// The lease of a trial in force: the policy's, but never shorter than one try. A policy is shared by connections
    /// with different timeouts, and a trial that is lost while it is still in flight could never close the circuit.
    pub fn trial_lease(&self) -> Duration {
        self.breaker.half_open.lease.max(self.timeouts.request)
    }

    /// The profile's own settings: those of a connection that sets nothing. The base URL is empty where the profile has
    /// none.
    pub fn new(profile: Arc<Profile>, environment: Environment) -> Self {
        let check = &profile.health_check;
        let health_check = HealthCheck {
            mode: check.mode,
            interval: check.interval,
            timeout: check.timeout,
            path: check.path.clone(),
            expected_statuses: check.expected_statuses.clone(),
            expected_content: check.expected_content(),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            latency_threshold: None,
        };
        let t = profile.timeouts;
        Self {
            owner: Arc::from(""),
            environment,
            base_url: profile.base_url(environment).unwrap_or_default().to_owned(),
            parameters: BTreeMap::new(),
            auth: Auth::None,
            credential_revision: String::new(),
            auth_reference: String::new(),
            tls: Tls::default(),
            timeouts: Timeouts {
                connect: t.connect,
                request: t.request,
                total: t.total,
                first_byte: t.first_byte,
                read: t.read,
            },
            retry: RetryPolicy::default(),
            limits: call_policy::profile_limits(&profile, environment),
            money_reserve_percent: 0,
            cache: profile.cache.map(|cache| CachePolicy { ttl: cache.ttl, max_stale: cache.max_stale }),
            health_check,
            breaker: Policy::preset(profile.breaker),
            circuit_override: None,
            maintenance: Vec::new(),
            failure_criteria: FailureCriteria::default(),
            suspended: false,
            rights: None,
            fallback: Vec::new(),
            features: profile.features.clone(),
            promises: profile.payouts.as_ref().map(PayoutProfile::promises).unwrap_or_default(),
            profile,
        }
    }
}
