//! The kinds of records, and the fields that each has besides key, time and money.

use schemars::JsonSchema;
use serde::Deserialize;

/// The kind of a stream's records.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordKind {
    /// A booked or pending movement on an account.
    Transaction,
    /// An account.
    Account,
    /// A balance of an account.
    Balance,
    /// A collateral of a loan; its record is also stored unchanged.
    Collateral,
    /// The price of a security at a time or over a span.
    Quote,
    /// The value of a series on a day.
    Observation,
    /// A news article.
    Article,
    /// Anything else, stored unchanged.
    Document,
}

/// A canonical field that a stream may map.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct KindField {
    /// Its name.
    pub name: &'static str,
    /// Whether every record must have it.
    pub required: bool,
}

const fn optional(name: &'static str) -> KindField {
    KindField { name, required: false }
}

const fn required(name: &'static str) -> KindField {
    KindField { name, required: true }
}

const TRANSACTION: &[KindField] = &[optional("counterparty"), optional("narration"), optional("category")];
const ACCOUNT: &[KindField] = &[
    optional("currency"),
    optional("name"),
    optional("holder"),
    optional("kind"),
    optional("status"),
    optional("institution"),
];
const BALANCE: &[KindField] = &[optional("kind")];
const COLLATERAL: &[KindField] = &[
    optional("kind"),
    optional("status"),
    optional("currency"),
    optional("value"),
    optional("net_value"),
    optional("discounted_value"),
];
const QUOTE: &[KindField] = &[
    required("symbol"),
    required("price"),
    optional("name"),
    optional("currency"),
    optional("span"),
    optional("open"),
    optional("high"),
    optional("low"),
    optional("previous_close"),
    optional("volume"),
];
const OBSERVATION: &[KindField] =
    &[required("series"), required("value"), optional("known_from"), optional("known_to")];
const ARTICLE: &[KindField] = &[
    required("url"),
    optional("title"),
    optional("source"),
    optional("author"),
    optional("description"),
    optional("content"),
];

impl RecordKind {
    /// The fields that a stream of this kind may map; those that are required it must.
    pub const fn fields(self) -> &'static [KindField] {
        match self {
            Self::Transaction => TRANSACTION,
            Self::Account => ACCOUNT,
            Self::Balance => BALANCE,
            Self::Collateral => COLLATERAL,
            Self::Quote => QUOTE,
            Self::Observation => OBSERVATION,
            Self::Article => ARTICLE,
            Self::Document => &[],
        }
    }

    /// The kind as a stream writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Account => "account",
            Self::Balance => "balance",
            Self::Collateral => "collateral",
            Self::Quote => "quote",
            Self::Observation => "observation",
            Self::Article => "article",
            Self::Document => "document",
        }
    }

    /// Whether its records have an amount of money with a currency (`money`).
    pub const fn has_money(self) -> bool {
        matches!(self, Self::Transaction | Self::Balance)
    }

    /// Whether its records belong to an account (`account`).
    pub const fn has_account(self) -> bool {
        matches!(self, Self::Transaction | Self::Balance | Self::Account)
    }

    /// Whether its records must have a time.
    pub const fn needs_time(self) -> bool {
        matches!(self, Self::Transaction | Self::Observation)
    }
}
