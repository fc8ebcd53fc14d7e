//! A record's money: the encoding of the amount, its currency and its direction.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::profile::minor_units::MinorUnits;
use crate::profile::template::Template;

/// The amount of a record.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amounts {
    /// JSON pointer to the amount.
    pub amount: String,
    /// The encoding of the amount.
    pub repr: AmountRepr,
    /// The source of the currency.
    pub currency: CurrencySource,
    /// How a credit differs from a debit.
    pub sign: Sign,
    /// Decimal places of the provider's smallest unit, by currency, where this stream's differ from those of the profile.
    #[serde(default)]
    pub minor_units: MinorUnits,
}

/// The encoding of an amount.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AmountRepr {
    /// A whole number of the currency's smallest unit: that of ISO 4217, unless `minorUnits` states the provider's own.
    MinorInteger,
    /// A decimal as text.
    DecimalString,
    /// A decimal as a JSON number: parsed by its digits, never as a float.
    JsonNumber,
}

/// The source of an amount's currency.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CurrencySource {
    /// A field of the record.
    Field {
        /// JSON pointer into the record.
        pointer: String,
    },
    /// A constant.
    Const {
        /// ISO 4217 code.
        code: String,
    },
    /// A field of another response, requested once per run: the account's.
    Join {
        /// Path below the base URL, with the job's parameters as placeholders.
        path: Template,
        /// JSON pointers into that response, tried in order.
        pointers: Vec<String>,
    },
}

/// How a credit differs from a debit.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Sign {
    /// The amount has no sign; another field holds the direction.
    Field {
        /// JSON pointer into the record.
        pointer: String,
        /// Its value for incoming money.
        credit: String,
        /// Its value for outgoing money.
        debit: String,
    },
    /// The amount is signed; incoming money is positive.
    Signed,
    /// The amount is signed; outgoing money is positive.
    OutflowPositive,
    /// The amount has no sign and no direction: it is incoming.
    Unsigned,
}
