//! The description of one stream of records: where to ask, how to page, how a record becomes canonical.
//!
//! It is the same format that a user will write inline in a `SyncJob`. Paths into a body are JSON pointers (RFC 6901);
//! where a provider is known to answer in two shapes, a list of them is tried in order. A pointer, and the name of a
//! query parameter, may hold placeholders too: that is how a stream can be described by the job that reads it.

mod check;
mod fill;
mod later;
mod money;
mod paging;
mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::canonical::TimeForm;
use super::operation::Body;
use super::parameter::Parameter;
use super::template::Template;

pub use money::{AmountRepr, Amounts, CurrencySource, Sign};
pub use paging::{LinkUse, Pagination, TokenSource, TokenTarget};
pub use template::{KeyTemplate, RecordTemplate};

/// One stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// What it brings, in a sentence.
    #[serde(default)]
    pub summary: String,
    /// What a record becomes.
    pub record: Record,
    /// What a job may set: every placeholder of the stream is one of these, or one of the profile's own.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Path below the base URL, with the job's parameters as placeholders.
    pub path: Template,
    /// Constant query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// The body, for a provider that is asked with POST; absent: GET.
    #[serde(default)]
    pub body: Option<Body>,
    /// The time range that every request asks for.
    #[serde(default)]
    pub window: Option<Window>,
    /// Pointers to the array of records; the first that leads to an array is taken. This or `lists`.
    #[serde(default)]
    pub records: Vec<String>,
    /// Several arrays of one answer, all of which are read. This or `records`.
    #[serde(default)]
    pub lists: Vec<RecordList>,
    /// How to get the next page.
    pub pagination: Pagination,
    /// Pointer to the provider's own id of a record. This or `keyOf`.
    #[serde(default)]
    pub key: String,
    /// What an id is made of, where it is more than one field. This or `key`.
    #[serde(default)]
    pub key_of: Option<KeyTemplate>,
    /// The record's booking time; a transaction has one.
    #[serde(default)]
    pub time: Option<TimeField>,
    /// The record's amount; absent for records without money.
    #[serde(default)]
    pub money: Option<Amounts>,
    /// The account that the records are on; absent for records without one.
    #[serde(default)]
    pub account: Option<Account>,
    /// Further canonical fields, by name, each with its pointer.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The order in which the provider gives records.
    #[serde(default)]
    pub order: Order,
    /// When the cursor may move.
    #[serde(default)]
    pub commit_scope: CommitScope,
}

/// One of several arrays of an answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordList {
    /// Pointers to the array; the first that leads to one is taken.
    pub at: Vec<String>,
    /// Fields put into each of its records, such as `status: pending`: what the place of a record says.
    #[serde(default)]
    pub add: BTreeMap<String, String>,
    /// Whether an answer may lack it.
    #[serde(default)]
    pub optional: bool,
}

/// What a stream's records become.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// A booked or pending movement on an account.
    Transaction,
    /// A collateral of a loan, kept whole.
    Collateral,
    /// Anything else, kept whole.
    Document,
}

/// The query parameters that bound a request in time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Parameter of the start.
    pub from: String,
    /// Parameter of the end; absent where the provider only takes a start.
    #[serde(default)]
    pub to: Option<String>,
    /// `strftime` form of both, e.g. `%d-%m-%Y`; needed unless `as` says that they are numbers.
    #[serde(default)]
    pub format: Option<String>,
    /// How both are written: `text` as `format` says, or since 1970.
    #[serde(default, rename = "as")]
    pub form: TimeForm,
    /// Whether the provider leaves out what lies at the end itself (its day, where only days are known).
    #[serde(default)]
    pub end_exclusive: bool,
    /// The first window of a new job reaches this far back, unless the job says otherwise.
    #[serde(deserialize_with = "super::duration")]
    #[schemars(with = "String")]
    pub initial: Duration,
    /// Every window starts this much before the cursor, for records that were booked late. At least the format's grain.
    #[serde(deserialize_with = "super::duration")]
    #[schemars(with = "String")]
    pub lookback: Duration,
}

/// The account that a request's records are on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// The job's parameter that names it.
    pub parameter: String,
    /// Pointers to its number in the joined answer, tried in order; shown masked. None found: the parameter is shown so.
    #[serde(default)]
    pub number: Vec<String>,
}

/// A record's time.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeField {
    /// Pointer to the time: an RFC 3339 instant or a date, unless `as` or `format` says otherwise.
    pub pointer: String,
    /// How it is written.
    #[serde(default, rename = "as")]
    pub form: TimeForm,
    /// `strptime` form of a text that is neither RFC 3339 nor ISO 8601, e.g. `%d/%m/%Y`.
    #[serde(default)]
    pub format: Option<String>,
    /// IANA time zone of a time that names none, and of the days of numbers; unset: such a text is a day only, and the
    /// days of numbers are UTC's.
    #[serde(default)]
    pub zone: Option<String>,
    /// Whether only the day is meant, whatever time is written: midnights that are no moments.
    #[serde(default)]
    pub day_only: bool,
}

/// The order of a stream's records.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Oldest first: a page's last record is a safe cursor.
    OldestFirst,
    /// Newest first: the cursor waits for the whole window.
    NewestFirst,
    /// Not promised: treated as newest first.
    #[default]
    Unknown,
}

/// When the cursor may move.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
pub enum CommitScope {
    /// Rows with each page; the high-water mark when the window is complete.
    #[default]
    Page,
    /// Everything at once, when the window is complete.
    Window,
}
