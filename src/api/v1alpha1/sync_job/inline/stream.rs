//! The inline stream.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::paging::{HttpBody, HttpPagination, HttpWindow};
use super::records::{
    HttpAccount, HttpFields, HttpKeyOf, HttpList, HttpMoney, HttpOmit, HttpRecord, HttpRemoved, HttpShape, HttpStatus,
    HttpSupersedes, HttpTime,
};
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::sync_job::run_policy::CommitScope;
use crate::api::v1alpha1::text::{PointerText, TemplateText, Word};

string_enum!(
    /// Order of the records.
    HttpOrder {
        /// Oldest first.
        OldestFirst = "oldestFirst",
        /// Newest first.
        NewestFirst = "newestFirst",
        /// Not guaranteed.
        Unknown = "unknown",
    }
);

string_enum!(
    /// Sign of the end of a list.
    HttpEndSign {
        /// A page with fewer records than requested.
        ShortPage = "shortPage",
        /// A page equal to the one before.
        RepeatedPage = "repeatedPage",
        /// A next page that is not after the current one.
        SameNext = "sameNext",
    }
);

string_enum!(
    /// What stands for an empty list.
    HttpEmptyForm {
        /// `null`.
        NullValue = "nullValue",
        /// Status 204 or 205.
        NoContent = "noContent",
        /// Status 200 without a body.
        EmptyBody = "emptyBody",
        /// A blank text.
        BlankText = "blankText",
        /// An object without members.
        EmptyObject = "emptyObject",
        /// A response without the list.
        Missing = "missing",
        /// A response of class `notFound`.
        NotFound = "notFound",
    }
);

/// Inline stream in the profile's stream format (docs/profiles.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpStream {
    /// Name of the stream, which is not one of the profile's; required, immutable. Example: `name: invoices`.
    #[x_kube(validation = rule::immutable("name"))]
    pub name: Word,
    /// Kind of the records. Unset: `document`. Example: `record: transaction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<HttpRecord>,
    /// Path below the base URL, with the job's parameters as placeholders; required. Example: `path: /v1/invoices`.
    pub path: TemplateText,
    /// Query parameters of every request; at most 16. Unset: none. Example: `query: {state: open}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Parameters>,
    /// Body of a POST. Unset: GET. Example: `body: {kind: json, fields: {}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<HttpBody>,
    /// Query parameters of the time window. Unset: everything is read each time. Example: `window: {from: since, format:
    /// "%Y-%m-%d", initial: 720h, lookback: 24h}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<HttpWindow>,
    /// JSON pointers to the list of records; at most 8. Unset: `lists` is set. Example: `records: [/data]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub records: Option<Vec<PointerText>>,
    /// Whether `records` leads to a list or to one record. Unset: `list`. Example: `shape: one`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<HttpShape>,
    /// Several lists of one response; at most 8. Unset: `records` is set. Example: `lists: [{at: [/booked]}]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub lists: Option<Vec<HttpList>>,
    /// Fields added to every record; at most 16. Unset: none. Example: `add: {source: web}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Parameters>,
    /// Records that are left out. Unset: none. Example: `omit: {pointer: /kind, values: [info]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub omit: Option<HttpOmit>,
    /// Withdrawn records. Unset: none. Example: `removed: {at: [/removed], key: /id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<HttpRemoved>,
    /// How the next page is requested; required. Example: `pagination: {kind: none}`.
    pub pagination: HttpPagination,
    /// Further signs of the end; at most 8. Unset: none. Example: `endAs: [shortPage]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub end_as: Option<Vec<HttpEndSign>>,
    /// What stands for an empty list; at most 8. Unset: `nullValue` and `noContent`. Example: `emptyAs: [missing]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub empty_as: Option<Vec<HttpEmptyForm>>,
    /// JSON pointer to the ID. Unset: `keyOf` is set. Example: `key: /id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PointerText>,
    /// Fields that form the ID. Unset: `key` is set. Example: `keyOf: {template: "{/a}:{/b}"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_of: Option<HttpKeyOf>,
    /// Time of a record. Unset: none. Example: `time: {pointer: /date}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<HttpTime>,
    /// Value date of a transaction. Unset: none. Example: `valueTime: {pointer: /valueDate}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_time: Option<HttpTime>,
    /// Amount of a transaction or balance. Unset: none. Example: `money: {amount: /amount, repr: jsonNumber, currency:
    /// {kind: const, code: EUR}, sign: {kind: signed}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<HttpMoney>,
    /// Account of the records. Unset: none. Example: `account: {parameter: accountId}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<HttpAccount>,
    /// Whether a transaction is booked. Unset: all are. Example: `status: {pointer: /status, pending: [pending]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<HttpStatus>,
    /// How the pending transaction is found. Unset: by its own ID. Example: `supersedes: {kind: unlisted}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<HttpSupersedes>,
    /// Other fields by canonical name; at most 24. Unset: none. Example: `fields: {narration: {at: [/memo]}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 24))]
    pub fields: Option<HttpFields>,
    /// Order of the records. Unset: `unknown`. Example: `order: newestFirst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<HttpOrder>,
    /// Scope of a commit. Unset: `Page`. Example: `commitScope: Page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_scope: Option<CommitScope>,
}
