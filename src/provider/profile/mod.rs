//! Profiles: what a provider looks like, as data. One YAML file per provider, compiled in.
//!
//! No other file of Busbar names a provider. A profile gives defaults (base URL, time-outs, breaker preset, health
//! check), says how the keys of a Secret become credentials, and describes the streams a sync can fetch. Whatever a
//! connection sets itself wins over its profile. The format is the least that the built-in ones need.

mod auth;
mod builtin;
mod canonical;
mod check;
mod errors;
mod limits;
mod live_check;
mod locate;
mod mapping;
mod operation;
mod parameter;
pub mod reference;
mod secrets;
mod set;
mod stream;
mod template;
mod timeouts;
mod wait;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::domain::breaker::Preset;
use crate::domain::duration::parse_duration;
use crate::provider::call::Answer;
use crate::provider::classify::{Class, Reading, StatusPattern};

pub use auth::{MissingKey, ProfileAuth, SecretHeader, SecretQuery, TokenBase, TokenCall};
pub use canonical::{CanonicalField, CanonicalRecord, FieldKind, TimeForm};
pub use errors::{HeaderRule, JsonRule, MAX_ERROR_BODY, Matcher};
pub use limits::{LimitHeaders, LimitScope, LimitUnit, ProfileLimit, ResetHeader};
pub use live_check::LiveCheck;
pub use mapping::{FieldSource, Keep, Mapping, MappingError, Shape};
pub use operation::{Body, Operation};
pub use parameter::{MAX_VALUE, Parameter, ParameterError, ParameterKind};
pub use set::{MAX_FILE, MAX_FILES, OWN, ProfileError, Profiles};
pub use stream::{
    AmountRepr, Amounts, CommitScope, CurrencySource, KeyTemplate, LinkUse, Order, Pagination, Record, RecordList,
    RecordTemplate, Sign, Stream, TimeField, TokenSource, TokenTarget, Window,
};
pub use template::{Template, TemplateError};
pub use timeouts::ProfileTimeouts;
pub(crate) use wait::retry_after;
pub use wait::{WaitForm, WaitRule};
pub use webhook::{Webhook, WebhookScheme};

use errors::Seen;

/// Everything known about one provider before any connection to it exists.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The id that `spec.provider` names.
    pub id: String,
    /// The provider's own name, for people.
    pub title: String,
    /// Where the provider is, per environment; absent where every customer has an address of his own.
    #[serde(default, rename = "baseURL")]
    pub base_url: BaseUrls,
    /// The breaker's constants where no `BreakerPolicy` speaks.
    #[serde(deserialize_with = "preset")]
    #[schemars(with = "PresetName")]
    pub breaker: Preset,
    /// Time-outs where the connection sets none.
    #[serde(default)]
    pub timeouts: ProfileTimeouts,
    /// The health check where the connection sets none.
    pub health_check: ProfileCheck,
    /// How a Secret's keys become credentials under `auth.profile`; absent where the provider has no such mapping.
    #[serde(default)]
    pub auth: Option<ProfileAuth>,
    /// Headers of every request, such as the version of the API.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The header in which every request carries an id of its own, so that the provider's support can find it.
    #[serde(default = "correlation")]
    pub correlation: String,
    /// IANA time zone of the provider's day: daily limits and quotas are renewed at its midnight.
    #[serde(default = "wait::utc")]
    pub zone: String,
    /// How a webhook proves that it is the provider's.
    #[serde(default)]
    pub webhook: Option<Webhook>,
    /// Why there is no `webhook`: said in its place, for whoever looks for one.
    #[serde(default)]
    pub no_webhook: Option<String>,
    /// How often the provider may be asked; several apply at once.
    #[serde(default)]
    pub limits: Vec<ProfileLimit>,
    /// What an answer means, where its status does not tell: the first that fits decides.
    #[serde(default)]
    pub errors: Vec<Matcher>,
    /// What is secret in a request beside what `auth` puts there: never shown, logged or stored.
    #[serde(default)]
    pub secrets: ProfileSecrets,
    /// What the connection's `endpoint.parameters` may set, by name: placeholders everywhere may use them.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What a caller can ask for, by name.
    #[serde(default)]
    pub operations: BTreeMap<String, Operation>,
    /// What `busbar check live` asks; absent where the provider has no pair of operations fit for it.
    #[serde(default)]
    pub live_check: Option<LiveCheck>,
    /// The feature switches, and whether each is on where a connection says nothing.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
    /// How long answers may be kept where the connection says nothing; absent: they are not kept.
    #[serde(default)]
    pub cache: Option<ProfileCache>,
    /// What a sync can fetch, by name.
    #[serde(default)]
    pub streams: BTreeMap<String, Arc<Stream>>,
    /// The fields that the file itself sets, by path: see [`Profile::states`].
    #[serde(skip)]
    stated: BTreeSet<String>,
    /// `headers`, read.
    #[serde(skip)]
    constant: OnceLock<HeaderMap>,
}

/// How long answers are good.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileCache {
    /// As good as fresh.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub ttl: Duration,
    /// Better than nothing, while the provider cannot be asked.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub max_stale: Duration,
}

/// Names whose values are secret, beside those that `auth` puts into requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileSecrets {
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

/// A profile's health check.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileCheck {
    /// Whether the operator asks, or only listens to real calls (the default of metered data).
    #[serde(default)]
    pub mode: CheckMode,
    /// How often.
    #[serde(default = "check_interval", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// How long one check may take.
    #[serde(default = "check_timeout", deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Path and query below the base URL; absent where the provider has nothing fit to ask with a GET.
    pub path: Option<String>,
    /// Statuses that count as well.
    #[serde(default = "check_statuses")]
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

/// Which of a provider's worlds a connection talks to.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
pub enum Environment {
    /// Test data, no money.
    Sandbox,
    /// The real thing.
    Production,
}

impl Environment {
    /// The name used in specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "Sandbox",
            Self::Production => "Production",
        }
    }
}

impl Profile {
    /// The default base URL for `environment`.
    pub fn base_url(&self, environment: Environment) -> Option<&str> {
        match environment {
            Environment::Sandbox => self.base_url.sandbox.as_deref(),
            Environment::Production => self.base_url.production.as_deref(),
        }
    }

    /// Whether the profile itself says something about `path` (`timeouts.request`), rather than leaving it to the
    /// defaults that all profiles share.
    pub fn states(&self, path: &str) -> bool {
        self.stated.contains(path)
    }

    /// What an answer means: the first matcher of `errors` that fits decides, or else the status. `now` is when the
    /// answer came.
    pub fn read(&self, answer: &Answer, now: Timestamp) -> Reading {
        let status = answer.status.as_u16();
        let seen = Seen::new(status, &answer.headers, &answer.body);
        let matcher = self.errors.iter().find(|matcher| matcher.fits(&seen));
        let class = matcher.map_or(Class::of_status(status), |matcher| matcher.class);
        let told =
            matcher.and_then(|matcher| matcher.wait.iter().find_map(|rule| rule.read(&seen, now, &self.day_zone())));
        let wait = match class {
            Class::RateLimited | Class::Quota => {
                told.or_else(|| wait::retry_after(&answer.headers)).or_else(|| self.spent(&seen, now))
            }
            Class::Retry => told.or_else(|| wait::retry_after(&answer.headers)),
            _ => told,
        };
        let scope = matcher.map(|matcher| matcher.scope).unwrap_or_default().into();
        Reading { class, wait, scope }
    }

    /// The limits of one of the provider's worlds.
    pub fn limits(&self, environment: Environment) -> impl Iterator<Item = &ProfileLimit> {
        self.limits.iter().filter(move |limit| limit.environment.is_none_or(|only| only == environment))
    }

    /// The values of the connection's parameters in force: those given, checked, and the defaults of the rest. None is
    /// required by itself: whoever needs one says so.
    pub fn endpoint_parameters(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        parameter::admit(&self.parameters, given)
    }

    /// The headers of every request.
    pub fn constant_headers(&self) -> &HeaderMap {
        self.constant.get_or_init(|| {
            let pairs = self.headers.iter();
            let parsed =
                pairs.filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?)));
            parsed.collect()
        })
    }

    /// Where the provider's days begin.
    pub fn day_zone(&self) -> TimeZone {
        TimeZone::get(&self.zone).unwrap_or(TimeZone::UTC)
    }

    /// When the limits are renewed of which the answer's headers say that nothing is left.
    fn spent(&self, seen: &Seen<'_>, now: Timestamp) -> Option<crate::provider::classify::Wait> {
        let date = wait::date(seen.headers);
        let headers = self.limits.iter().filter_map(|limit| limit.headers.as_ref());
        let none_left = headers.filter(|headers| seen.header(&headers.remaining) == Some("0"));
        let resets = none_left.filter_map(|headers| headers.reset.form.read(seen.header(&headers.reset.name)?, date));
        resets.fold(None, |longest, reset| wait::longer(longest, Some(reset), now))
    }
}

fn correlation() -> String {
    "x-request-id".to_owned()
}

fn check_interval() -> Duration {
    Duration::from_secs(30)
}

fn check_timeout() -> Duration {
    Duration::from_secs(5)
}

fn check_statuses() -> Vec<StatusPattern> {
    vec![StatusPattern::Class(2)]
}

/// Reads a duration in the text form that the custom resources use.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

/// The presets by the names that specs use.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Preset")]
enum PresetName {
    /// 5 failures in a row open the circuit for 30 s.
    Api,
    /// 3 failures in a row open it for a minute.
    Data,
    /// 5 failures in a row, or bad health, open it for five minutes.
    Bank,
}

fn preset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Preset, D::Error> {
    Ok(match PresetName::deserialize(deserializer)? {
        PresetName::Api => Preset::Api,
        PresetName::Data => Preset::Data,
        PresetName::Bank => Preset::Bank,
    })
}

#[cfg(test)]
mod tests;
