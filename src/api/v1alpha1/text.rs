//! Formatted strings: durations, decimals, instants, names. Each keeps its text unchanged.
//!
//! These types validate nothing in Rust: the API server does, by the pattern and length in the schema. Parsing is done
//! in
//! `domain`, so that an invalid text that an older API server accepted results in a status with a reason and not in an
//! object that cannot be decoded.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Declares a transparent string type with its own schema.
macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $schema:tt) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl std::ops::Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(
    /// A duration such as `30s`, `1h30m` or `250ms`. Never reformatted: `60m` stays `60m`.
    DurationText,
    { "type": "string", "maxLength": 28, "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$" }
);
text!(
    /// A non-negative exact decimal such as `"0.30"`: money, a rate, a factor. Never a float.
    DecimalText,
    { "type": "string", "maxLength": 25, "pattern": "^[0-9]{1,15}(\\.[0-9]{1,8})?$" }
);
text!(
    /// An exact decimal that may be negative, such as `"-1.5"`.
    SignedDecimalText,
    { "type": "string", "maxLength": 25, "pattern": "^-?[0-9]{1,15}(\\.[0-9]{1,8})?$" }
);
text!(
    /// An instant in RFC 3339 with any offset, such as `"2030-01-31T18:00:00+01:00"`.
    Instant,
    { "type": "string", "maxLength": 64, "format": "date-time" }
);
text!(
    /// The name of an object in the same namespace.
    ObjectName,
    { "type": "string", "minLength": 1, "maxLength": 253,
      "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" }
);
text!(
    /// The key of a Secret's `data`.
    SecretKey,
    { "type": "string", "minLength": 1, "maxLength": 253, "pattern": "^[-._a-zA-Z0-9]+$" }
);
text!(
    /// The name of a list entry; unique within the list.
    EntryName,
    { "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$" }
);
text!(
    /// An identifier of a profile: a stream, an operation, an action.
    Word,
    { "type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[A-Za-z][-A-Za-z0-9_.]*$" }
);
text!(
    /// An ISO 4217 code in capitals.
    CurrencyCode,
    { "type": "string", "maxLength": 3, "pattern": "^[A-Z]{3}$" }
);
text!(
    /// An ISO 3166-1 alpha-2 code in capitals. Quote it: unquoted `NO` is a boolean in YAML.
    CountryCode,
    { "type": "string", "maxLength": 2, "pattern": "^[A-Z]{2}$" }
);
text!(
    /// A payment rail as the bank calls it, such as `SEPA` or `RTGS`.
    Rail,
    { "type": "string", "minLength": 1, "maxLength": 32, "pattern": "^[A-Za-z0-9][-A-Za-z0-9_.]*$" }
);
text!(
    /// A status code such as `"204"`, or a class such as `5xx`.
    StatusMatch,
    { "type": "string", "maxLength": 3, "pattern": "^[1-5](xx|[0-9]{2})$" }
);
text!(
    /// A cron expression of five fields: minute, hour, day of month, month, day of week. Quote it.
    CronText,
    { "type": "string", "maxLength": 128, "pattern": "^[0-9A-Za-z*,/?#-]+( +[0-9A-Za-z*,/?#-]+){4}$" }
);
text!(
    /// A time zone of the IANA database, such as `Africa/Lagos`.
    ZoneText,
    { "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z][-A-Za-z0-9_+/]*$" }
);
text!(
    /// A JSON pointer (RFC 6901): empty, or `/` before each name.
    PointerText,
    { "type": "string", "maxLength": 256 }
);
text!(
    /// A text with `{placeholders}` of the job's parameters.
    TemplateText,
    { "type": "string", "minLength": 1, "maxLength": 1024 }
);
text!(
    /// The name of a query parameter or header, or a value in a response.
    ShortText,
    { "type": "string", "maxLength": 128 }
);
text!(
    /// A URL without query, fragment and user info.
    UrlText,
    { "type": "string", "maxLength": 2048, "pattern": "^https?://[^/?#@\\s]+(/[^?#@\\s]*)?$" }
);
text!(
    /// Reason for a manual change; shown in events and in the audit log.
    ReasonText,
    { "type": "string", "minLength": 1, "maxLength": 256 }
);
text!(
    /// A Kubernetes quantity of CPU or memory: `500m`, `256Mi`, or a plain number.
    QuantityText,
    { "x-kubernetes-int-or-string": true, "maxLength": 32,
      "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$" }
);
