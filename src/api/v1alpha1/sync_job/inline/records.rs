//! What an inline stream says of its records.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::maps::{CurrencyPlaces, Parameters};
use crate::api::v1alpha1::text::{PointerText, ShortText, TemplateText};

string_enum!(
    /// Kind of the records.
    HttpRecord = Document {
        /// Movements on accounts.
        Transaction = "transaction",
        /// Accounts.
        Account = "account",
        /// Balances of accounts.
        Balance = "balance",
        /// Collaterals of loans.
        Collateral = "collateral",
        /// Prices of securities.
        Quote = "quote",
        /// Values of series.
        Observation = "observation",
        /// News articles.
        Article = "article",
        /// Anything else, stored unchanged.
        Document = "document",
    }
);

string_enum!(
    /// Whether a pointer leads to a list or to one record.
    HttpShape = List {
        /// A list.
        List = "list",
        /// One record.
        One = "one",
    }
);

string_enum!(
    /// Encoding of times.
    HttpTimeEncoding = Text {
        /// RFC 3339, a date, or a format.
        Text = "text",
        /// Seconds since 1970.
        EpochSeconds = "epochSeconds",
        /// Milliseconds since 1970.
        EpochMilliseconds = "epochMilliseconds",
        /// Nanoseconds since 1970.
        EpochNanoseconds = "epochNanoseconds",
    }
);

string_enum!(
    /// Encoding of amounts.
    HttpAmount = MinorInteger {
        /// A whole number of the smallest unit.
        MinorInteger = "minorInteger",
        /// A decimal as text.
        DecimalString = "decimalString",
        /// A decimal as a JSON number, read by its digits.
        JsonNumber = "jsonNumber",
    }
);

string_enum!(
    /// Source of the currency.
    HttpCurrencySource = Field {
        /// A field of the record.
        Field = "field",
        /// A constant.
        Const = "const",
        /// A field of another response.
        Join = "join",
    }
);

string_enum!(
    /// How a credit differs from a debit.
    HttpSignKind = Signed {
        /// Incoming money is positive.
        Signed = "signed",
        /// Outgoing money is positive.
        OutflowPositive = "outflowPositive",
        /// All money is incoming.
        Unsigned = "unsigned",
        /// Another field holds the direction.
        Field = "field",
    }
);

string_enum!(
    /// How the pending transaction that a booked one replaces is found.
    HttpSupersedesKind = Pointer {
        /// The booked record holds its ID.
        Pointer = "pointer",
        /// The provider no longer lists it.
        Unlisted = "unlisted",
    }
);

/// One of several lists of a response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpList {
    /// JSON pointers to the list, tried in order; required. Example: `at: [/booked]`.
    #[schemars(length(min = 1, max = 8))]
    pub at: Vec<PointerText>,
    /// Fields added to its records; at most 16. Unset: none. Example: `add: {status: pending}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Parameters>,
    /// Whether a response may lack it. Default: false. Example: `optional: true`.
    #[serde(default)]
    pub optional: bool,
}

/// Place of a field in a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpField {
    /// JSON pointers, tried in order; required. Example: `at: [/memo]`.
    #[schemars(length(min = 1, max = 8))]
    pub at: Vec<PointerText>,
    /// Values that mean "none"; at most 8. Unset: none. Example: `missing: ["."]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub missing: Option<Vec<ShortText>>,
}

/// Fields that form the ID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpKeyOf {
    /// JSON pointers in braces with text between any two; required. Example: `template: "{/a}:{/b}"`.
    pub template: TemplateText,
    /// Fields that identify a record without an ID; at most 8. Unset: amount, currency and narration. Example:
    /// `fallback: [/reference]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub fallback: Option<Vec<PointerText>>,
    /// Whether a hash of the ID is the key, for long IDs. Default: false. Example: `hashed: true`.
    #[serde(default)]
    pub hashed: bool,
}

/// Time of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTime {
    /// JSON pointer to the time; required. Example: `pointer: /date`.
    pub pointer: PointerText,
    /// Further pointers, tried where it is missing; at most 8. Unset: none. Example: `or: [/valueDate]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub or: Option<Vec<PointerText>>,
    /// Encoding: `text` or a number since 1970. Unset: `text`. Example: `as: epochSeconds`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub encoding: Option<HttpTimeEncoding>,
    /// `strptime` format of a text. Unset: RFC 3339 or a date. Example: `format: "%d/%m/%Y"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<ShortText>,
    /// IANA time zone of a time without one. Unset: only the day counts. Example: `zone: Africa/Lagos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ShortText>,
    /// Whether only the day counts. Default: false. Example: `dayOnly: true`.
    #[serde(default)]
    pub day_only: bool,
}

/// Source of the currency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCurrency {
    /// `field`, `const` or `join`; required. Example: `kind: field`.
    pub kind: HttpCurrencySource,
    /// JSON pointer into the record; with `field`. Unset: none. Example: `pointer: /currency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerText>,
    /// ISO 4217 code; with `const`. Unset: none. Example: `code: EUR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ShortText>,
    /// Path of the other response; with `join`. Unset: none. Example: `path: /accounts/{id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<TemplateText>,
    /// JSON pointers into it; with `join`; at most 8. Unset: none. Example: `pointers: [/currency]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub pointers: Option<Vec<PointerText>>,
}

/// How a credit differs from a debit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSign {
    /// `signed`, `outflowPositive`, `unsigned` or `field`; required. Example: `kind: signed`.
    pub kind: HttpSignKind,
    /// JSON pointer to the direction; with `field`. Unset: none. Example: `pointer: /type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerText>,
    /// Its value for incoming money; with `field`. Unset: none. Example: `credit: C`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credit: Option<ShortText>,
    /// Its value for outgoing money; with `field`. Unset: none. Example: `debit: D`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debit: Option<ShortText>,
}

/// Amount of a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpMoney {
    /// JSON pointer to the amount; required. Example: `amount: /amount`.
    pub amount: PointerText,
    /// Encoding: `minorInteger`, `decimalString` or `jsonNumber`; required. Example: `repr: decimalString`.
    pub repr: HttpAmount,
    /// Source of the currency; required. Example: `currency: {kind: const, code: EUR}`.
    pub currency: HttpCurrency,
    /// How a credit differs from a debit; required. Example: `sign: {kind: signed}`.
    pub sign: HttpSign,
    /// Places of the smallest unit by currency; at most 32. Unset: ISO 4217. Example: `minorUnits: {ISK: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor_units: Option<CurrencyPlaces>,
}

/// Account of the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpAccount {
    /// Parameter of the job that names it. Unset: `pointer` is set. Example: `parameter: accountId`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<ShortText>,
    /// JSON pointer to its ID in the record. Unset: `parameter` is set. Example: `pointer: /account_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerText>,
    /// JSON pointers to its number, shown masked; at most 8. Unset: the ID. Example: `number: [/iban]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub number: Option<Vec<PointerText>>,
}

/// Whether a transaction is booked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpStatus {
    /// JSON pointer to the status; required. Example: `pointer: /status`.
    pub pointer: PointerText,
    /// Values of pending transactions; required. Example: `pending: [pending]`.
    #[schemars(length(min = 1, max = 8))]
    pub pending: Vec<ShortText>,
    /// Values of booked ones; at most 8. Unset: all others. Example: `booked: [posted]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub booked: Option<Vec<ShortText>>,
}

/// Link from a booked transaction to the pending one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSupersedes {
    /// `pointer` or `unlisted`; required. Example: `kind: pointer`.
    pub kind: HttpSupersedesKind,
    /// JSON pointer to its ID; with `pointer`. Unset: none. Example: `pointer: /pending_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerText>,
}

/// Withdrawn records of a response.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRemoved {
    /// JSON pointers to the list; required. Example: `at: [/removed]`.
    #[schemars(length(min = 1, max = 8))]
    pub at: Vec<PointerText>,
    /// JSON pointer to the ID; required. Example: `key: /id`.
    pub key: PointerText,
    /// JSON pointer to the account. Unset: the ID alone identifies it. Example: `account: /account_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<PointerText>,
}

/// Records that are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpOmit {
    /// JSON pointer to a value; required. Example: `pointer: /kind`.
    pub pointer: PointerText,
    /// Its values for records that are left out; required. Example: `values: [info]`.
    #[schemars(length(min = 1, max = 8))]
    pub values: Vec<ShortText>,
}

/// Fields of a record by canonical name.
pub type HttpFields = BTreeMap<String, HttpField>;
