//! A provider's health check, where a connection sets none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::serde_duration::duration;
use super::status_pattern::StatusPattern;

/// A profile's health check.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheckDefaults {
    /// Whether the operator sends probes, or derives health from real calls only (the default of metered data).
    #[serde(default)]
    pub mode: CheckMode,
    /// Time between two probes.
    #[serde(default = "default_interval", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Timeout of one probe.
    #[serde(default = "default_timeout", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Path and query below the base URL; absent where the provider has no suitable GET.
    pub path: Option<String>,
    /// Statuses that count as success.
    #[serde(default = "default_expected_statuses")]
    pub expected_statuses: Vec<StatusPattern>,
}

/// Whether health comes from probes or from real calls.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
pub enum CheckMode {
    /// Probes on an interval.
    #[default]
    Active,
    /// Real calls only.
    Passive,
}

fn default_interval() -> Duration {
    Duration::from_secs(30)
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_expected_statuses() -> Vec<StatusPattern> {
    vec![StatusPattern::Class(2)]
}
