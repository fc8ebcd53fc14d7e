//! Types shared by several kinds: references, time windows, conditions.
//!
//! A reference is the name of an object in the same namespace, wrapped in an object, so that a `kind` can be added
//! later; it never has a `namespace` field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as MetaCondition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::rule;
pub use crate::api::v1alpha1::text::{CronText, DurationText, EntryName, Instant, ObjectName, SecretKey, ZoneText};

/// One status condition: `metav1.Condition`.
pub type Condition = MetaCondition;

/// An instant in a status; serialized as UTC in whole seconds.
pub type Time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Largest length of a condition message in bytes of JSON. Longer messages are truncated, so that status stays below 32 KiB.
pub const MESSAGE_MAX: usize = 2048;

/// Largest number of conditions per object: as many as a kind has types, of which `Reconciling` and `Stalled` exclude each
/// other.
pub const CONDITIONS_MAX: usize = 8;

/// Reference to an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalRef {
    /// Name of the object in the same namespace; required, at most 253 characters. Example: `name: bank-a`.
    pub name: ObjectName,
}

impl LocalRef {
    /// A reference to the object `name`.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into() }
    }
}

/// Reference to a Secret in the same namespace, with fixed key names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretRef {
    /// Name of the Secret in the same namespace; required, at most 253 characters. Example: `name: bank-a-credentials`.
    pub name: ObjectName,
}

impl SecretRef {
    /// A reference to the Secret `name`.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into() }
    }
}

/// Reference to one key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeyRef {
    /// Name of the Secret in the same namespace; required, at most 253 characters. Example: `name: bank-a-credentials`.
    pub name: ObjectName,
    /// Key within the Secret. Unset: the default key of the credential (`token`, `api-key` or `webhook-secret`).
    /// Example: `key: sandbox-token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretKey>,
}

impl SecretKeyRef {
    /// A reference to the Secret `name` with the default key.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into(), key: None }
    }
}

string_enum!(
    /// A switch of three states: enabled, disabled or unset.
    Switch {
        /// On.
        Enabled,
        /// Off.
        Disabled,
    }
);

string_enum!(
    /// True, false or not known yet: the values of a condition's status.
    TriState {
        /// True.
        True,
        /// False.
        False,
        /// Not known yet.
        Unknown,
    }
);

/// A time window: recurring (`schedule` and `duration`) or one-off (`startTime` and `endTime`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(
    validation = rule::exactly_one(&["schedule", "startTime"]),
    validation = rule::together("schedule", "duration"),
    validation = rule::together("startTime", "endTime"),
    validation = rule::instants_ordered("startTime", "endTime"),
)]
pub struct TimeWindow {
    /// Name of the window, unique in the list; required, at most 63 characters. Example: `name: nightly`.
    pub name: EntryName,
    /// Start of each opening as a cron expression of five fields, without `TZ=` and `@` nicknames; requires `duration`.
    /// Unset: the window is one-off and opens at `startTime`. Example: `schedule: "0 2 * * 6"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronText>,
    /// Length of each opening; from 1m to 168h. Unset: the window is one-off and ends at `endTime`.
    /// Example: `duration: 2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "168h"))]
    pub duration: Option<DurationText>,
    /// Start of a one-off window, RFC 3339 with any offset; requires `endTime`. Unset: the window recurs by `schedule`.
    /// Example: `startTime: "2030-01-31T22:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Instant>,
    /// End of a one-off window, after `startTime`. Unset: the window recurs by `schedule`.
    /// Example: `endTime: "2030-02-01T04:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Instant>,
    /// IANA time zone of `schedule`. Unset: `UTC`. Example: `timeZone: Africa/Lagos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
}

/// Schema of `status.conditions`: a list map by type with bounded strings.
pub fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": CONDITIONS_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One condition of the object, as in metav1.Condition.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 64, "description": "Type of the condition, such as Ready." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "Status of the condition: True, False or Unknown." },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition was computed from."
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "Time of the last change of the condition's status, UTC."
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                    "pattern": "^[A-Za-z]+$",
                    "description": "Reason of the closed list in docs/reference/reasons.md, safe to alert on."
                },
                "message": {
                    "type": "string",
                    "maxLength": MESSAGE_MAX,
                    "description": "Cause, field and remedy, for people. Without IDs and durations."
                }
            }
        }
    })
}
