//! What a stream says of a record besides its key, time and money: its fields, its status, and what became of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

/// The place of a canonical field in a record: one JSON pointer, or several with the values that mean "none".
#[derive(Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamField {
    /// JSON pointers, tried in order; null counts as missing.
    pub at: Vec<String>,
    /// Values that mean "no value", such as `.`.
    #[serde(default)]
    pub missing: Vec<String>,
}

impl<'de> Deserialize<'de> for StreamField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Full {
            at: Vec<String>,
            #[serde(default)]
            missing: Vec<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a JSON pointer, or a map with at and missing")]
        enum Form {
            Pointer(String),
            Full(Full),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Pointer(pointer) => Self { at: vec![pointer], missing: Vec::new() },
            Form::Full(Full { at, missing }) => Self { at, missing },
        })
    }
}

/// Whether a transaction is booked.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatusField {
    /// JSON pointer to the status; a boolean is `true` or `false`.
    pub pointer: String,
    /// Its values for a transaction that may still change or disappear.
    pub pending: Vec<String>,
    /// Its values for a booked transaction; empty: all others. A record with neither is rejected.
    #[serde(default)]
    pub booked: Vec<String>,
}

/// How the pending transaction that a booked one replaces is found. It is kept, with status `superseded`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Supersedes {
    /// The booked record holds its ID.
    Pointer {
        /// JSON pointer to the ID, in the same form as the key.
        pointer: String,
    },
    /// The provider lists all pending transactions of the account in each response: one that it no longer lists was
    /// booked or cancelled.
    Unlisted,
}

/// The list of withdrawn records of a response: their rows are removed.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovedList {
    /// JSON pointers to the list; the first that leads to one is used. A response without one withdraws nothing.
    pub at: Vec<String>,
    /// JSON pointer to the ID of a withdrawn record, which is that of the row.
    pub key: String,
    /// JSON pointer to the account of a withdrawn record; unset: the ID alone identifies it.
    #[serde(default)]
    pub account: Option<String>,
}

/// Records that are left out.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OmittedRecords {
    /// JSON pointer to a value of the record.
    pub pointer: String,
    /// Its values for records that are left out.
    pub values: Vec<String>,
}

/// The fields of a stream's records, by canonical name.
pub(super) type StreamFields = BTreeMap<String, StreamField>;
