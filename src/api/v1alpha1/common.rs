//! What several kinds share: references, windows, conditions.
//!
//! A reference is always the name of an object in the same namespace, inside an object of its own, so that a `kind` can
//! be added later; it never gets a `namespace` field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as MetaCondition;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::rule;
pub use crate::api::v1alpha1::text::{CronText, DurationText, EntryName, Instant, ObjectName, SecretKey, ZoneText};

/// One condition of a status: the type of Kubernetes itself.
pub type Condition = MetaCondition;

/// An instant in a status; prints as UTC in whole seconds.
pub type Time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The longest message a condition may carry, in bytes. Writers shorten beyond it: status stays below 32 KiB.
pub const MESSAGE_MAX: usize = 2048;

/// The most conditions one object can have.
pub const CONDITIONS_MAX: usize = 16;

/// Another object of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalRef {
    /// Name of the object, in this namespace; required. At most 253 characters. Example: `name: bank-a`.
    pub name: ObjectName,
}

impl LocalRef {
    /// A reference to the object called `name`.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into() }
    }
}

/// A Secret of this namespace, all of whose keys have fixed names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretRef {
    /// Name of the Secret, in this namespace; required. At most 253 characters. Example: `name: bank-a-credentials`.
    pub name: ObjectName,
}

impl SecretRef {
    /// A reference to the Secret called `name`.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into() }
    }
}

/// One key of a Secret of this namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeyRef {
    /// Name of the Secret, in this namespace; required. At most 253 characters. Example: `name: bank-a-credentials`.
    pub name: ObjectName,
    /// Key within the Secret. Unset: the key that this kind of credential is always kept under (`token`, `api-key`,
    /// `webhook-secret`). Example: `key: sandbox-token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretKey>,
}

impl SecretKeyRef {
    /// A reference to the Secret called `name`, under the usual key.
    pub fn to(name: impl Into<ObjectName>) -> Self {
        Self { name: name.into(), key: None }
    }
}

closed_enum!(
    /// A switch that Git can leave unset.
    Switch {
        /// On.
        Enabled,
        /// Off.
        Disabled,
    }
);

closed_enum!(
    /// A yes, a no, or not known yet: the same words as a condition's status.
    Tri {
        /// Yes.
        True,
        /// No.
        False,
        /// Not known yet.
        Unknown,
    }
);

/// A stretch of time that comes again (`schedule` and `duration`) or comes once (`startTime` and `endTime`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(
    validation = rule::exactly_one(&["schedule", "startTime"]),
    validation = rule::together("schedule", "duration"),
    validation = rule::together("startTime", "endTime"),
    validation = rule::instants_ordered("startTime", "endTime"),
)]
pub struct Window {
    /// Name of the window, unique in its list; required. At most 63 characters. Example: `name: nightly`.
    pub name: EntryName,
    /// When the window opens: five cron fields, no `TZ=`, no `@`; needs `duration`. Unset: the window comes once, at
    /// `startTime`. Example: `schedule: "0 2 * * 6"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<CronText>,
    /// How long it stays open after each opening; from 1m to 168h. Unset: the window comes once and ends at `endTime`.
    /// Example: `duration: 2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::duration("1m", "168h"))]
    pub duration: Option<DurationText>,
    /// When a window that comes once begins, RFC 3339 with any offset; needs `endTime`. Unset: the window comes again by
    /// `schedule`. Example: `startTime: "2030-01-31T22:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Instant>,
    /// When a window that comes once ends; after `startTime`. Unset: the window comes again by `schedule`.
    /// Example: `endTime: "2030-02-01T04:00:00Z"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Instant>,
    /// IANA time zone of `schedule`. Unset: `UTC`. Example: `timeZone: Africa/Lagos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<ZoneText>,
}

/// The schema of `status.conditions`: a list-map by type, every text bounded.
pub fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": CONDITIONS_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state, as kstatus reads it.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": { "type": "string", "maxLength": 64, "description": "Which aspect this is, such as Ready." },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"], "description": "True, False or Unknown." },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that this condition speaks of."
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the condition's status last changed, UTC."
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 128,
                    "pattern": "^[A-Za-z]+$",
                    "description": "One word of the closed list in docs/reference/reasons.md, safe to alert on."
                },
                "message": {
                    "type": "string",
                    "maxLength": MESSAGE_MAX,
                    "description": "What is so, which field it comes from, and what to do. Free of ids and durations."
                }
            }
        }
    })
}
