//! The fields of a profile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::classification::{Classification, ResponseClass, RetryAfter};
use super::credential_mapping::CredentialMapping;
use super::environment::Environment;
use super::health_check::HealthCheckDefaults;
use super::limits::ProfileLimit;
use super::live_check::LiveCheck;
use super::matcher::ResponseMatcher;
use super::minor_units::MinorUnits;
use super::operation::Operation;
use super::parameter::{self, Parameter, ParameterError};
use super::payouts::PayoutProfile;
use super::response_view::ResponseView;
use super::retry_after::{self, retry_after};
use super::serde_duration::duration;
use super::stream::Stream;
use super::timeouts::TimeoutDefaults;
use super::webhook::WebhookVerification;
use crate::domain::breaker::Preset;

/// The largest response body where a profile sets none, in bytes: twenty times the largest page of known providers.
pub const DEFAULT_MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;
/// The highest limit that a profile may set, in bytes: with what is made of it, such a body fits into the memory for
/// responses.
pub const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
/// The lowest limit: an error, or a health check's response, is read to 64 KiB.
pub const MIN_RESPONSE_BYTES: usize = 64 * 1024;

/// Everything that is known about a provider before any connection to it exists.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The id that `spec.provider` names.
    pub id: String,
    /// The provider's display name.
    pub title: String,
    /// The base URL per environment; absent where every customer has its own.
    #[serde(default, rename = "baseURL")]
    pub base_url: BaseUrls,
    /// The breaker preset where no `BreakerPolicy` applies.
    #[serde(deserialize_with = "preset")]
    #[schemars(with = "PresetName")]
    pub breaker: Preset,
    /// Timeouts where the connection sets none.
    #[serde(default)]
    pub timeouts: TimeoutDefaults,
    /// The health check where the connection sets none.
    pub health_check: HealthCheckDefaults,
    /// How a Secret's keys map to credentials with `auth.profile`; absent where the provider has no such mapping.
    #[serde(default)]
    pub auth: Option<CredentialMapping>,
    /// Headers of every request, such as the version of the API.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The header that carries a unique request ID, by which the provider's support can find a request.
    #[serde(default = "default_correlation_header")]
    pub correlation: String,
    /// IANA time zone of the provider's day: daily limits and quotas are reset at its midnight.
    #[serde(default = "utc")]
    pub zone: String,
    /// How a webhook is verified to come from the provider.
    #[serde(default)]
    pub webhook: Option<WebhookVerification>,
    /// Why the profile has no `webhook`; documentation only.
    #[serde(default)]
    pub no_webhook: Option<String>,
    /// The largest response body, in bytes, at most 8388608 (8 MiB). A response may also have one JSON value per 8 of
    /// these bytes, and 64 levels. A larger one is not read on, and the call fails.
    #[serde(default = "default_max_response_bytes")]
    pub max_response_bytes: usize,
    /// Rate limits and quotas; all apply together.
    #[serde(default)]
    pub limits: Vec<ProfileLimit>,
    /// Decimal places of the provider's smallest unit of money, by currency, where they differ from ISO 4217.
    #[serde(default)]
    pub minor_units: MinorUnits,
    /// How responses are classified where the status is not enough: the first match decides.
    #[serde(default)]
    pub errors: Vec<ResponseMatcher>,
    /// Secret parts of a request, in addition to those of `auth`: never shown, logged or stored.
    #[serde(default)]
    pub secrets: SecretNames,
    /// The parameters that the connection's `endpoint.parameters` may set; usable as placeholders everywhere.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// The operations that a caller can request, by name.
    #[serde(default)]
    pub operations: BTreeMap<String, Operation>,
    /// How the bank is asked about payouts, and what it promises; absent: it promises nothing, and payouts with an unknown
    /// outcome wait for a person.
    #[serde(default)]
    pub payouts: Option<PayoutProfile>,
    /// The operations that `busbar check live` calls; absent where the provider has no suitable pair.
    #[serde(default)]
    pub live_check: Option<LiveCheck>,
    /// The feature switches and their defaults.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
    /// How long responses are cached where the connection sets nothing; absent: not cached.
    #[serde(default)]
    pub cache: Option<CacheDefaults>,
    /// The streams that a sync can fetch, by name.
    #[serde(default)]
    pub streams: BTreeMap<String, Arc<Stream>>,
    /// The paths of the fields that the file sets: see [`Profile::sets`].
    #[serde(skip)]
    pub(super) set_fields: BTreeSet<String>,
    /// `headers`, parsed on first use.
    #[serde(skip)]
    parsed_headers: OnceLock<HeaderMap>,
}

/// How long responses are cached.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheDefaults {
    /// How long a response is fresh.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// How long a response may be served stale while the provider is unavailable.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub max_stale: Duration,
}

/// Names whose values are secret, in addition to those that `auth` adds to requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretNames {
    /// Query parameters.
    #[serde(default)]
    pub query: Vec<String>,
    /// Headers.
    #[serde(default)]
    pub headers: Vec<String>,
}

/// Base URLs per environment.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseUrls {
    /// For `environment: Sandbox`.
    pub sandbox: Option<String>,
    /// For `environment: Production`.
    pub production: Option<String>,
}

impl Profile {
    /// The default base URL for `environment`.
    pub fn base_url(&self, environment: Environment) -> Option<&str> {
        match environment {
            Environment::Sandbox => self.base_url.sandbox.as_deref(),
            Environment::Production => self.base_url.production.as_deref(),
        }
    }

    /// Whether the profile itself sets the field at `path` (`timeouts.request`), rather than using the default that all
    /// profiles share.
    pub fn sets(&self, path: &str) -> bool {
        self.set_fields.contains(path)
    }

    /// Classifies a response received at `now`: by the first entry of `errors` that matches, else by the status.
    pub fn classify(&self, response: &ResponseView<'_>, now: Timestamp) -> Classification {
        let matcher = self.errors.iter().find(|matcher| matcher.matches(response));
        let class = matcher.map_or(ResponseClass::of_status(response.status()), |matcher| matcher.class);
        let rules = matcher.iter().flat_map(|matcher| &matcher.wait);
        let from_rules = rules.into_iter().find_map(|rule| rule.read(response, now, &self.day_zone()));
        let from_header = || retry_after(response.headers(), now);
        let retry_after = match class {
            ResponseClass::RateLimited | ResponseClass::Quota => {
                from_rules.or_else(from_header).or_else(|| self.exhausted_limit_reset(response, now))
            }
            ResponseClass::Retry => from_rules.or_else(from_header),
            _ => from_rules,
        };
        let scope = matcher.map(|matcher| matcher.scope).unwrap_or_default().into();
        Classification { class, retry_after, scope }
    }

    /// The limits of one environment.
    pub fn limits(&self, environment: Environment) -> impl Iterator<Item = &ProfileLimit> {
        self.limits.iter().filter(move |limit| limit.environment.is_none_or(|only| only == environment))
    }

    /// The effective values of the connection's parameters: those given, validated, and the defaults of the others.
    /// None is required here: an operation or stream that needs one reports it.
    pub fn endpoint_parameters(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        parameter::effective_values(&self.parameters, given)
    }

    /// The headers of every request.
    pub fn constant_headers(&self) -> &HeaderMap {
        self.parsed_headers.get_or_init(|| {
            let pairs = self.headers.iter();
            let parsed =
                pairs.filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)));
            parsed.collect()
        })
    }

    /// The most JSON values of a response: objects, lists, texts, numbers. Pages of known providers have one per 12
    /// bytes or fewer.
    pub const fn max_response_values(&self) -> usize {
        self.max_response_bytes / 8
    }

    /// Whether the operation of that name cancels payouts: only those who follow payouts may call it.
    pub fn cancels_payouts(&self, operation: &str) -> bool {
        let recall = self.payouts.as_ref().and_then(|payouts| payouts.recall.as_ref());
        recall.is_some_and(|recall| recall.operation == operation)
    }

    /// The time zone of the provider's day.
    pub fn day_zone(&self) -> TimeZone {
        TimeZone::get(&self.zone).unwrap_or(TimeZone::UTC)
    }

    /// When the limits are reset whose headers report that nothing is left.
    fn exhausted_limit_reset(&self, response: &ResponseView<'_>, now: Timestamp) -> Option<RetryAfter> {
        let date = retry_after::date(response.headers());
        let headers = self.limits.iter().filter_map(|limit| limit.headers.as_ref());
        let exhausted = headers.filter(|headers| {
            let remaining = response.header(&headers.remaining).and_then(|text| text.trim().parse::<i64>().ok());
            remaining.is_some_and(|remaining| remaining <= 0)
        });
        let resets = exhausted
            .filter_map(|headers| headers.reset.format.read(response.header(&headers.reset.name)?.trim(), date));
        resets.fold(None, |latest, reset| retry_after::later(latest, Some(reset), now))
    }
}

fn default_max_response_bytes() -> usize {
    DEFAULT_MAX_RESPONSE_BYTES
}

fn default_correlation_header() -> String {
    "x-request-id".to_owned()
}

fn utc() -> String {
    "UTC".to_owned()
}

/// The presets by the names that specs use.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Preset")]
enum PresetName {
    /// 5 consecutive failures open the circuit for 30 s.
    Api,
    /// 3 consecutive failures open it for a minute.
    Data,
    /// 5 consecutive failures, or poor health, open it for five minutes.
    Bank,
}

fn preset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Preset, D::Error> {
    Ok(match PresetName::deserialize(deserializer)? {
        PresetName::Api => Preset::Api,
        PresetName::Data => Preset::Data,
        PresetName::Bank => Preset::Bank,
    })
}
