//! Canonical records: what a provider's data looks like once it is ours. Masked before it gets here; money exact.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

/// Raised when the recipe of [`TransactionRecord::content_hash`] changes, so that old hashes never match by accident.
const CONTENT_RECIPE: u8 = 1;

/// How finely the provider tells time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Only the day means something.
    Day,
    /// A moment.
    Instant,
}

impl Granularity {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Day, Self::Instant];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Instant => "instant",
        }
    }
}

/// When something was booked: the day, the moment if one was told, and the provider's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booked {
    /// The booking day in the provider's zone.
    pub on: Date,
    /// The moment, if the text named one.
    pub at: Option<Timestamp>,
    /// As the provider wrote it.
    pub text: String,
    /// How much of it to believe.
    pub granularity: Granularity,
}

/// Where a key comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KeyQuality {
    /// The provider's id.
    Provider,
    /// A hash of stable fields with an ordinal among identical records.
    Derived,
}

impl KeyQuality {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Provider, Self::Derived];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Derived => "derived",
        }
    }
}

/// Whether a transaction stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// It is on the account.
    Booked,
    /// It may still change or vanish.
    Pending,
    /// A booked row has taken its place.
    Superseded,
}

impl RowStatus {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Booked, Self::Pending, Self::Superseded];

    /// The stored word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booked => "booked",
            Self::Pending => "pending",
            Self::Superseded => "superseded",
        }
    }
}

/// One transaction on one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    /// Tells accounts apart without telling which: an opaque token.
    pub account_token: String,
    /// The provider's id (case-sensitive), or a derived key.
    pub key: String,
    /// Which of both.
    pub key_quality: KeyQuality,
    /// The account for people, masked.
    pub account: String,
    /// When.
    pub booked: Booked,
    /// In units of the currency; credit is positive.
    pub amount: Decimal,
    /// In the currency's smallest unit.
    pub amount_minor: i128,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Whether it stands.
    pub status: RowStatus,
    /// The other side, masked as configured.
    pub counterparty: Option<String>,
    /// The text, masked as configured.
    pub narration: Option<String>,
    /// The provider's category.
    pub category: Option<String>,
}

impl TransactionRecord {
    /// A hash of everything but identity: equal hashes mean that there is nothing to write.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_RECIPE]);
        let minor = self.amount_minor.to_string();
        let amount = self.amount.to_string();
        let parts = [
            Some(self.key_quality.as_str()),
            Some(self.account.as_str()),
            Some(self.booked.text.as_str()),
            Some(self.booked.granularity.as_str()),
            Some(amount.as_str()),
            Some(minor.as_str()),
            Some(self.currency.as_str()),
            Some(self.status.as_str()),
            self.counterparty.as_deref(),
            self.narration.as_deref(),
            self.category.as_deref(),
        ];
        for part in parts {
            // A length before each part: "ab"+"c" must differ from "a"+"bc", and absent from empty.
            match part {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        hash.finalize().into()
    }
}

/// A record that could not become a row: why, where, and its shape. Never its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// A closed word.
    pub reason: &'static str,
    /// The field that is wrong.
    pub path: String,
    /// The record's fields and their types.
    pub sample: String,
    /// Recognises the same bad record when it is read again.
    pub fingerprint: String,
    /// Its place in the page.
    pub index: u32,
    /// The page's number in its window.
    pub page_no: u32,
}

/// Which transactions to read. Unset fields match all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// The namespace.
    pub namespace: Option<String>,
    /// The connection's name.
    pub connection: Option<String>,
    /// The stream's name.
    pub stream: Option<String>,
    /// The partition's name.
    pub partition: Option<String>,
    /// First booking day, inclusive.
    pub from: Option<Date>,
    /// Last booking day, inclusive.
    pub to: Option<Date>,
}

/// A transaction as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTransaction {
    /// Namespace of its stream.
    pub namespace: String,
    /// Connection of its stream.
    pub connection: String,
    /// Partition of its stream.
    pub partition: String,
    /// The record.
    pub record: TransactionRecord,
    /// 1 when first seen, one more with every change.
    pub revision: u32,
    /// The run that last changed it.
    pub run_id: String,
    /// First seen.
    pub created: Timestamp,
    /// Last changed.
    pub updated: Timestamp,
}
