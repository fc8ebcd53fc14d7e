//! The fields of a stream.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::amounts::Amounts;
use super::key_template::KeyTemplate;
use super::list_end::{EmptyForm, EndSign};
use super::pagination::Pagination;
use super::record_fields::{OmittedRecords, RemovedList, StatusField, StreamFields, Supersedes};
use super::record_kind::RecordKind;
use crate::profile::body::RequestBody;
use crate::profile::mapping::RecordShape;
use crate::profile::parameter::Parameter;
use crate::profile::serde_duration::{duration, optional_duration};
use crate::profile::template::Template;
use crate::profile::time_encoding::TimeEncoding;

/// One stream of records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// What it contains, in a sentence.
    #[serde(default)]
    pub summary: String,
    /// The kind of its records.
    pub record: RecordKind,
    /// The parameters that a job may set: every placeholder is one of these or one of the profile's own.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Path below the base URL, with the job's parameters as placeholders.
    pub path: Template,
    /// Query parameters of every request.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// The body, for a provider that requires POST; absent: GET.
    #[serde(default)]
    pub body: Option<RequestBody>,
    /// The query parameters of the time window.
    #[serde(default)]
    pub window: Option<WindowParameters>,
    /// JSON pointers to the array of records; the first that leads to an array is used. Excludes `lists`.
    #[serde(default)]
    pub records: Vec<String>,
    /// Whether `records` leads to an array or to one record.
    #[serde(default)]
    pub shape: RecordShape,
    /// Several arrays of one response, all of which are read. Excludes `records`.
    #[serde(default)]
    pub lists: Vec<RecordList>,
    /// Fields added to every record, such as `series: "{series}"` for a record that does not say what it is of.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Records that are left out, because they are none of this kind.
    #[serde(default)]
    pub omit: Option<OmittedRecords>,
    /// The list of withdrawn records, of a provider that sends changes instead of records.
    #[serde(default)]
    pub removed: Option<RemovedList>,
    /// How to request the next page.
    pub pagination: Pagination,
    /// Further signs of the end of the list, for responses that do not say whether there is another page. Without one,
    /// a walk that ends so is not complete.
    #[serde(default)]
    pub end_as: Vec<EndSign>,
    /// What the provider sends instead of an empty list; anything else that is not a list is schema drift. Unset:
    /// `[nullValue, noContent]`.
    #[serde(default = "EmptyForm::usual")]
    pub empty_as: Vec<EmptyForm>,
    /// JSON pointer to the provider's ID of a record. Excludes `keyOf`.
    #[serde(default)]
    pub key: String,
    /// The fields that form the ID, where it is more than one. Excludes `key`.
    #[serde(default)]
    pub key_of: Option<KeyTemplate>,
    /// The record's time: of booking, of a quote, of publication; required for transactions and observations.
    #[serde(default)]
    pub time: Option<TimeField>,
    /// From when a transaction counts for interest.
    #[serde(default)]
    pub value_time: Option<TimeField>,
    /// Whether a transaction is booked; unset: all are.
    #[serde(default)]
    pub status: Option<StatusField>,
    /// How the pending transaction that a booked one replaces is found. Unset: a booked transaction has the ID of the
    /// pending one.
    #[serde(default)]
    pub supersedes: Option<Supersedes>,
    /// The amount of a transaction or balance.
    #[serde(default)]
    pub money: Option<Amounts>,
    /// The account of the records; absent for records without one.
    #[serde(default)]
    pub account: Option<AccountSource>,
    /// Other canonical fields, by name, each with its JSON pointer, or with several (`at`) and the values that mean
    /// "none" (`missing`).
    #[serde(default)]
    pub fields: StreamFields,
    /// The order in which the provider returns records.
    #[serde(default)]
    pub order: RecordOrder,
    /// When the cursor advances.
    #[serde(default)]
    pub commit_scope: CommitScope,
}

/// One of several arrays of a response.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordList {
    /// JSON pointers to the array; the first that leads to an array is used.
    pub at: Vec<String>,
    /// Fields added to each of its records, such as `status: pending`.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Whether a response may lack it.
    #[serde(default)]
    pub optional: bool,
}

/// The query parameters that bound a request in time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowParameters {
    /// Where both are: parameters of the query, or placeholders of the path.
    #[serde(default, rename = "in")]
    pub place: WindowPlace,
    /// Parameter of the start.
    pub from: String,
    /// Parameter of the end; absent where the provider accepts only a start.
    #[serde(default)]
    pub to: Option<String>,
    /// `strftime` format of both, such as `%d-%m-%Y`; required unless `as` says that they are numbers.
    #[serde(default)]
    pub format: Option<String>,
    /// The encoding of both: `text` in `format`, or a number since 1970.
    #[serde(default, rename = "as")]
    pub encoding: TimeEncoding,
    /// Whether the provider excludes records at the end itself (its day, where only days are known).
    #[serde(default)]
    pub end_exclusive: bool,
    /// How far back the first window of a new job starts, unless the job sets it.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub initial: Duration,
    /// How long before the cursor every window starts, for records that were booked late. At least the format's
    /// granularity.
    #[serde(deserialize_with = "duration")]
    #[schemars(with = "String")]
    pub lookback: Duration,
    /// How long before now every window ends, of a provider that shows new records late or changes them shortly after:
    /// the next window reads them. Unset: a window ends now.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub safety_lag: Option<Duration>,
    /// Where a response states which part of the requested range the provider can show, such as that of a consent. It is
    /// compared with the window.
    #[serde(default)]
    pub available: Option<AvailableRange>,
}

/// Where a response states the range that the provider can show. Each is an instant or a day.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AvailableRange {
    /// JSON pointer to its start.
    #[serde(default)]
    pub from: Option<String>,
    /// JSON pointer to its end.
    #[serde(default)]
    pub to: Option<String>,
}

/// Where a request holds the bounds of its window.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WindowPlace {
    /// Query parameters.
    #[default]
    Query,
    /// Placeholders of the path.
    Path,
}

/// The account of a request's records.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccountSource {
    /// The job's parameter that names it. Excludes `pointer`.
    #[serde(default)]
    pub parameter: Option<String>,
    /// JSON pointer to its ID in the record, where a response has records of several accounts. Excludes `parameter`.
    #[serde(default)]
    pub pointer: Option<String>,
    /// JSON pointers to its number, tried in order, in the joined response, or in the record where `pointer` is set or
    /// no response is joined; shown masked. None found: the ID is shown masked instead.
    #[serde(default)]
    pub number: Vec<String>,
}

/// The time of a record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeField {
    /// JSON pointer to the time: an RFC 3339 instant or a date, unless `as` or `format` is set.
    pub pointer: String,
    /// Further JSON pointers, tried in order where that value is missing.
    #[serde(default)]
    pub or: Vec<String>,
    /// The encoding.
    #[serde(default, rename = "as")]
    pub encoding: TimeEncoding,
    /// `strptime` format of a text that is neither RFC 3339 nor ISO 8601, such as `%d/%m/%Y`.
    #[serde(default)]
    pub format: Option<String>,
    /// IANA time zone of a time that names none, and of the days of numbers; unset: such a text is only a day, and the
    /// days of numbers are in UTC.
    #[serde(default)]
    pub zone: Option<String>,
    /// Whether only the day is meaningful, even if a time is written: a midnight that is not an instant.
    #[serde(default)]
    pub day_only: bool,
}

/// The order of a stream's records.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordOrder {
    /// Oldest first: a page's last record is a safe cursor.
    OldestFirst,
    /// Newest first: the cursor advances only when the window is complete.
    NewestFirst,
    /// Not guaranteed: treated as newest first.
    #[default]
    Unknown,
}

/// When the cursor advances.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
pub enum CommitScope {
    /// Rows with each page; the high-water mark when the window is complete.
    #[default]
    Page,
    /// Everything at once, when the window is complete.
    Window,
}
