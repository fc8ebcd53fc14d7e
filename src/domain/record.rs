//! Canonical transactions, and the dead letters of records that are none. Masked before they reach the ledger; money is
//! exact.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use crate::domain::rejection_reason::RejectionReason;

/// Version of [`TransactionRecord::content_hash`]; incremented when its input changes, so that old hashes never match.
const CONTENT_HASH_VERSION: u8 = 2;

/// Precision of a provider's times.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Only the day is meaningful.
    Day,
    /// An instant.
    Instant,
}

impl Granularity {
    /// All values.
    pub const ALL: [Self; 2] = [Self::Day, Self::Instant];

    /// The stored value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Instant => "instant",
        }
    }
}

/// When a transaction was booked: the day, the instant if the provider gave one, and the provider's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookingTime {
    /// The booking day in the provider's time zone.
    pub on: Date,
    /// The instant, if the text holds one.
    pub at: Option<Timestamp>,
    /// The provider's text, unchanged.
    pub text: String,
    /// Its precision.
    pub granularity: Granularity,
}

/// Origin of a key.
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

    /// The stored value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Derived => "derived",
        }
    }
}

/// Booking status of a transaction.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RowStatus {
    /// Booked on the account.
    Booked,
    /// May still change or disappear.
    Pending,
    /// Replaced by a booked row.
    Superseded,
}

impl RowStatus {
    /// All values.
    pub const ALL: [Self; 3] = [Self::Booked, Self::Pending, Self::Superseded];

    /// The stored value.
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
    /// Opaque token of the account: distinguishes accounts without revealing the number.
    pub account_token: String,
    /// The provider's id (case-sensitive), or a derived key.
    pub key: String,
    /// Origin of the key.
    pub key_quality: KeyQuality,
    /// The masked account number, for display.
    pub account: String,
    /// When it was booked.
    pub booked: BookingTime,
    /// From when it counts for interest, if the provider says.
    pub valued: Option<BookingTime>,
    /// In units of the currency; credit is positive.
    pub amount: Decimal,
    /// In the provider's smallest unit of the currency: that of ISO 4217, unless its profile states another.
    pub amount_minor: i128,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Its booking status.
    pub status: RowStatus,
    /// The counterparty, masked as configured.
    pub counterparty: Option<String>,
    /// The narration, masked as configured.
    pub narration: Option<String>,
    /// The provider's category.
    pub category: Option<String>,
    /// The key of the pending transaction of the same account that this booked one replaces.
    pub supersedes: Option<String>,
}

impl TransactionRecord {
    /// Whether the content is equal, whatever its spelling: an amount is compared as a number, and a time that is an
    /// instant as that. The identity is not compared.
    pub fn has_content_of(&self, other: &Self) -> bool {
        let spelled_alike = |record: &Self| Self {
            account_token: String::new(),
            key: String::new(),
            amount: record.amount.normalize(),
            booked: without_spelling(&record.booked),
            valued: record.valued.as_ref().map(without_spelling),
            ..record.clone()
        };
        spelled_alike(self) == spelled_alike(other)
    }

    /// Hash of everything except identity; equal hashes mean that no write is needed. Different hashes do not mean a
    /// different content: the ledger compares the fields then.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update([CONTENT_HASH_VERSION]);
        let minor = self.amount_minor.to_string();
        let amount = self.amount.to_string();
        let booked = day_and_instant(&self.booked);
        let parts = [
            Some(self.key_quality.as_str()),
            Some(self.account.as_str()),
            Some(self.booked.text.as_str()),
            Some(self.booked.granularity.as_str()),
            Some(booked.as_str()),
            Some(amount.as_str()),
            Some(minor.as_str()),
            Some(self.currency.as_str()),
            Some(self.status.as_str()),
            self.counterparty.as_deref(),
            self.narration.as_deref(),
            self.category.as_deref(),
        ];
        for part in parts {
            // Length-prefixed: "ab"+"c" must differ from "a"+"bc", and absent from empty.
            match part {
                None => hash.update([0]),
                Some(text) => {
                    hash.update([1]);
                    hash.update((text.len() as u64).to_be_bytes());
                    hash.update(text.as_bytes());
                }
            }
        }
        let of_value =
            |time: &BookingTime| format!("{}{}{}", time.granularity.as_str(), day_and_instant(time), time.text);
        let valued = self.valued.as_ref().map(of_value);
        for (mark, text) in [(2, valued.as_deref()), (3, self.supersedes.as_deref())] {
            if let Some(text) = text {
                hash.update([mark]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        }
        hash.finalize().into()
    }
}

/// The day and the instant of a time. They change where its text does not: with the time zone that a profile states.
fn day_and_instant(time: &BookingTime) -> String {
    let millis = time.at.map(|at| at.as_millisecond().to_string());
    format!("{} {};", time.on, millis.unwrap_or_default())
}

/// A time that is an instant is that, whatever its text.
fn without_spelling(time: &BookingTime) -> BookingTime {
    BookingTime { text: if time.at.is_some() { String::new() } else { time.text.clone() }, ..time.clone() }
}

/// A rejected record: the reason, the field and the record's structure. Never its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why it was rejected.
    pub reason: RejectionReason,
    /// JSON pointer of the invalid field.
    pub path: String,
    /// The record's field names and types.
    pub sample: String,
    /// Identifies the same rejected record when it is read again.
    pub fingerprint: String,
    /// Its index in the page.
    pub index: u32,
    /// The page's number in its window.
    pub page_no: u32,
}
