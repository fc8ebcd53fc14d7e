//! The description of one stream of records: where to ask, how to page, how a record becomes canonical.
//!
//! It is the same format that a user will write inline in a `SyncJob`. Paths into a body are JSON pointers (RFC 6901);
//! where a provider is known to answer in two shapes, a list of them is tried in order. A pointer, and the name of a
//! query parameter, may hold placeholders too: that is how a stream can be described by the job that reads it.

mod check;
mod fill;

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::parameter::Parameter;
use super::template::Template;

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
    /// The time range that every request asks for.
    #[serde(default)]
    pub window: Option<Window>,
    /// Pointers to the array of records; the first that leads to an array is taken.
    pub records: Vec<String>,
    /// How to get the next page.
    pub pagination: Pagination,
    /// Pointer to the provider's own id of a record.
    pub key: String,
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
    /// Parameter of the end.
    pub to: String,
    /// `strftime` form of both, e.g. `%d-%m-%Y`.
    pub format: String,
    /// The first window of a new job reaches this far back, unless the job says otherwise.
    #[serde(deserialize_with = "super::duration")]
    #[schemars(with = "String")]
    pub initial: Duration,
    /// Every window starts this much before the cursor, for records that were booked late. At least the format's grain.
    #[serde(deserialize_with = "super::duration")]
    #[schemars(with = "String")]
    pub lookback: Duration,
}

/// How one page leads to the next.
///
/// Kinds that the walk does not know yet (`token`, `lastRecordId`, `nextUrl`, `linkHeader`) are not in the format: a
/// profile that names one is refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Pagination {
    /// Numbered pages, where the body links to the next one. Only the number is taken out of that link: it is never
    /// followed, because providers are known to print links that lead elsewhere.
    Page {
        /// The query parameter, in requests and in the link.
        parameter: String,
        /// The first page's number.
        first: u64,
        /// Pointers to the next page's link or number; no value or an empty one is the end.
        next: Vec<String>,
        /// Pointers to the count of all records of the window, which shows a list that changes under the walk.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// A list that is read from a place on. The next place is what was read so far, not what was asked for: a server may
    /// give less than it is asked for.
    Offset {
        /// The query parameter of the place.
        parameter: String,
        /// The first place.
        #[serde(default)]
        first: u64,
        /// Pointers to the count of all records. It tells the end, and shows a list that changes under the walk; without
        /// one, an empty page is the end, and a record that vanishes meanwhile may hide its neighbour.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// The whole answer is one page.
    None,
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
    /// Pointer to an RFC 3339 instant or a date.
    pub pointer: String,
}

/// A record's money.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amounts {
    /// Pointer to the amount.
    pub amount: String,
    /// How the amount is written.
    pub repr: AmountRepr,
    /// Where the currency is told.
    pub currency: CurrencySource,
    /// How a credit differs from a debit.
    pub sign: Sign,
}

/// How an amount is written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AmountRepr {
    /// A whole number of the currency's smallest unit.
    MinorInteger,
    /// A decimal as text.
    DecimalString,
}

/// Where the currency of an amount is told.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CurrencySource {
    /// In the record.
    Field {
        /// Pointer into the record.
        pointer: String,
    },
    /// In another answer, asked once per run: the account's.
    Join {
        /// Path below the base URL, with the job's parameters as placeholders.
        path: Template,
        /// Pointers into that answer, tried in order.
        pointers: Vec<String>,
    },
}

/// How a credit differs from a debit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Sign {
    /// The amount has no sign; another field says which way the money went.
    Field {
        /// Pointer into the record.
        pointer: String,
        /// Its value where money came in.
        credit: String,
        /// Its value where money went out.
        debit: String,
    },
    /// The amount is signed, money in is positive.
    Signed,
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
