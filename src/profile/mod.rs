//! Profiles: what a provider is, as data. One YAML file per provider, compiled in or read from a folder.
//!
//! Only the files in `builtin/` name providers. A profile gives defaults (base URL, timeouts, breaker preset, health
//! check), maps the keys of a Secret to credentials, classifies responses, and describes the operations of the gateway
//! and the streams of a sync. A field that a connection sets takes precedence over its profile. This layer reads files
//! and bytes only: it makes no calls and knows neither Kubernetes nor the call path.

mod body;
mod builtin;
mod canonical;
mod catalog;
mod classification;
mod credential_mapping;
mod definition;
mod environment;
mod error;
mod expected_content;
mod header_name;
mod health_check;
mod invalid_field;
pub mod json;
pub mod json_text;
mod limits;
mod live_check;
mod mapping;
mod matcher;
mod minor_units;
mod operation;
mod parameter;
mod parse;
mod payouts;
pub mod reference;
mod response_view;
mod retry_after;
mod secrets;
mod serde_duration;
mod status_pattern;
mod stream;
mod template;
mod time_encoding;
mod timeouts;
mod url;
mod validate;
mod webhook;
mod yaml_position;

pub use body::RequestBody;
pub use canonical::{CanonicalField, CanonicalRecord, FieldKind};
pub use catalog::{CUSTOM_PREFIX, Profiles};
pub use classification::{Classification, ResponseClass, RetryAfter};
pub use credential_mapping::{CredentialMapping, SecretBody, SecretHeader, SecretQuery, TokenBase, TokenCall};
pub use definition::{
    BaseUrls, CacheDefaults, DEFAULT_MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES, MIN_RESPONSE_BYTES, Profile, SecretNames,
};
pub use environment::Environment;
pub use error::{MAX_FILE_BYTES, MAX_FILES, ProfileError};
pub use expected_content::{ExpectedContent, InvalidExpectation};
pub use health_check::{CheckMode, HealthCheckDefaults};
pub use limits::{LimitHeaders, LimitScope, LimitUnit, ProfileLimit, ResetHeader};
pub use live_check::LiveCheck;
pub use mapping::{FieldSource, Mapping, MappingError, RecordFilter, RecordShape};
pub use matcher::{HeaderMatcher, JsonMatcher, ResponseMatcher};
pub use minor_units::MinorUnits;
pub use operation::{Operation, OperationRequest};
pub use parameter::{MAX_VALUE_LENGTH, Parameter, ParameterError, ParameterKind};
pub use payouts::{NotFoundMeaning, PayoutInquiry, PayoutProfile, PayoutRecall, PayoutStatus, RecallResult};
pub use response_view::{MAX_ERROR_BODY, ResponseView};
pub use retry_after::{RetryAfterFormat, RetryAfterRule, retry_after};
pub use status_pattern::{InvalidStatus, StatusPattern};
pub use stream::{
    AccountSource, AmountRepr, Amounts, AvailableRange, CommitScope, CurrencySource, EmptyForm, EndSign, InlineContext,
    KeyTemplate, KindField, LinkUse, OmittedRecords, Pagination, RecordKind, RecordList, RecordOrder, RecordTemplate,
    RemovedList, Sign, StatusField, Stream, StreamField, Supersedes, TimeField, TokenSource, TokenTarget,
    WHOLE_DAY_MARGIN, WindowParameters, WindowPlace,
};
pub use template::{Template, TemplateError};
pub use time_encoding::TimeEncoding;
pub use timeouts::TimeoutDefaults;
pub use url::{InvalidUrl, parse_base_url};
pub use webhook::{WebhookScheme, WebhookVerification};

#[cfg(test)]
mod tests;
