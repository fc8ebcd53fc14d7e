//! A provider's health check, where a connection sets none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::expected_content::ExpectedContent;
use super::invalid_field::InvalidField;
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
    /// Media type of the expected response, such as `application/json` (which includes `+json`) or `text/*`; absent: any.
    #[serde(default)]
    pub expected_content_type: Option<String>,
    /// JSON pointer to a value that the expected response has, other than null; empty: its body is JSON; absent: the body
    /// is not read. Without it and the content type, a page of HTML with an expected status passes.
    #[serde(default, rename = "expectedJSONPointer")]
    pub expected_json_pointer: Option<String>,
}

impl HealthCheckDefaults {
    /// What is expected besides the status.
    pub fn expected_content(&self) -> ExpectedContent {
        ExpectedContent {
            content_type: self.expected_content_type.clone(),
            pointer: self.expected_json_pointer.clone(),
        }
    }

    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), InvalidField> {
        let invalid = self.expected_content().validate();
        invalid.map_err(|invalid| InvalidField::new([invalid.field()], invalid.to_string()))
    }
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
