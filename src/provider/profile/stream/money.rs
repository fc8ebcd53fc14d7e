//! A record's money: how the amount is written, in which currency, and which way it went.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::provider::profile::template::Template;

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
    /// A decimal as a JSON number: read by its digits, never as a float.
    JsonNumber,
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
    /// Nowhere: it is always the same.
    Const {
        /// ISO 4217 code.
        code: String,
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
    /// The amount is signed, money out is positive.
    OutflowPositive,
    /// The amount has no sign and no direction: it is what came in.
    Unsigned,
}
