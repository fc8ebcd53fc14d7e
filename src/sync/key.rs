//! Row identity: the key by which a record that is read twice stays one row. Pure.
//!
//! The key is the provider's id, trimmed; if it is blank, a hash of stable fields with an ordinal among identical
//! records of one account and day, so that two identical transactions stay two rows and a second read adds no third.
//! The ordinal counts over the whole window, because identical records may be on different pages.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Add;

use sha2::{Digest, Sha256};

use crate::domain::document::DocumentRecord;
use crate::domain::hash::short_hex;
use crate::domain::record::{KeyQuality, RowStatus, TransactionRecord};
use crate::domain::records::CanonicalRecord;

/// Version of [`derived_key`]; a change gives every row without an id a new identity.
const DERIVED_KEY_VERSION: u8 = 1;

/// Maximum length of an id in bytes; longer ids are rejected.
pub const MAX_KEY: usize = 512;

/// Most different records without an ID in one window: they are counted in memory, in 4 MB, until it is complete.
const MAX_ORDINALS: usize = 200_000;

/// Number of identical records without an id in the window so far, by derived key.
#[derive(Clone, Debug, Default)]
pub struct Ordinals(HashMap<u64, u32>);

impl Ordinals {
    /// Whether there are too many of them to keep.
    pub fn is_full(&self) -> bool {
        self.0.len() > MAX_ORDINALS
    }

    /// Whether the window contained any record without an id.
    pub fn is_used(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Records of a page that were dropped, because another one has the same key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Duplicates {
    /// All of them.
    pub dropped: u64,
    /// Those whose content differed from that of the record which took their place.
    pub conflicting: u64,
}

impl Add for Duplicates {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { dropped: self.dropped + more.dropped, conflicting: self.conflicting + more.conflicting }
    }
}

impl Duplicates {
    fn count(&mut self, has_same_content: bool) {
        self.dropped += 1;
        self.conflicting += u64::from(!has_same_content);
    }
}

/// A record whose key may have to be derived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unkeyed<T> {
    /// The record; its key is empty if it has none.
    pub record: T,
    /// What its key is derived from, where the stream says; unset: the record's stable fields.
    pub base: Option<String>,
}

impl<T> From<T> for Unkeyed<T> {
    fn from(record: T) -> Self {
        Self { record, base: None }
    }
}

/// A record that has a key within an account.
pub trait Keyed {
    /// The token of its account; empty without one.
    fn account_token(&self) -> &str;
    /// Its key; empty if it must be derived.
    fn key(&self) -> &str;
    /// Sets a derived key.
    fn set_key(&mut self, key: String);
    /// What a derived key begins with, after the mark.
    fn base(&self) -> String;
    /// Whether the content is equal, whatever its spelling.
    fn is_equal(&self, other: &Self) -> bool;
    /// Whether `earlier` of the same page, which has the same key, is kept instead of this one.
    fn yields_to(&self, _earlier: &Self) -> bool {
        false
    }
}

impl Keyed for TransactionRecord {
    fn account_token(&self) -> &str {
        &self.account_token
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn set_key(&mut self, key: String) {
        self.key = key;
    }

    fn base(&self) -> String {
        derived_key(self)
    }

    fn is_equal(&self, other: &Self) -> bool {
        self.has_content_of(other)
    }

    /// A booked record does not become pending again; only the order of the page's lists puts it first.
    fn yields_to(&self, earlier: &Self) -> bool {
        self.status == RowStatus::Pending && earlier.status == RowStatus::Booked
    }
}

impl Keyed for DocumentRecord {
    fn account_token(&self) -> &'static str {
        ""
    }

    fn key(&self) -> &str {
        &self.key
    }

    fn set_key(&mut self, key: String) {
        self.key = key;
    }

    fn base(&self) -> String {
        self.derived_key_base()
    }

    fn is_equal(&self, other: &Self) -> bool {
        self.content_hash() == other.content_hash()
    }
}

impl Keyed for CanonicalRecord {
    fn account_token(&self) -> &str {
        &self.identity().account_token
    }

    fn key(&self) -> &str {
        &self.identity().key
    }

    fn set_key(&mut self, key: String) {
        self.identity_mut().key = key;
    }

    fn base(&self) -> String {
        hex::encode(&self.content_hash()[..8])
    }

    fn is_equal(&self, other: &Self) -> bool {
        self.content_hash() == other.content_hash()
    }
}

/// Derives the keys of records without one, and drops all but the last of the records with the same key, or all but the
/// last booked one.
///
/// Returns the records in order and what was dropped.
pub fn dedupe<T: Keyed>(
    records: impl IntoIterator<Item = impl Into<Unkeyed<T>>>,
    ordinals: &mut Ordinals,
) -> (Vec<T>, Duplicates) {
    let mut keyed: Vec<T> = records
        .into_iter()
        .map(|unkeyed| {
            let Unkeyed { mut record, base } = unkeyed.into();
            if record.key().is_empty() {
                let base = base.unwrap_or_else(|| record.base());
                let ordinal = ordinals.0.entry(ordinal_of(&base)).or_insert(0);
                record.set_key(format!("~{base}-{ordinal}"));
                *ordinal += 1;
            }
            record
        })
        .collect();
    let mut duplicates = Duplicates::default();
    let mut is_kept = vec![true; keyed.len()];
    let mut positions: HashMap<(&str, &str), usize> = HashMap::with_capacity(keyed.len());
    for (position, record) in keyed.iter().enumerate() {
        match positions.entry((record.account_token(), record.key())) {
            Entry::Vacant(entry) => _ = entry.insert(position),
            Entry::Occupied(mut entry) => {
                let earlier = &keyed[*entry.get()];
                duplicates.count(record.is_equal(earlier));
                let dropped = if record.yields_to(earlier) { position } else { entry.insert(position) };
                is_kept[dropped] = false;
            }
        }
    }
    if duplicates.dropped > 0 {
        let mut is_kept = is_kept.into_iter();
        keyed.retain(|_| is_kept.next().unwrap_or(true));
    }
    (keyed, duplicates)
}

/// The key of a record whose ID is too long to be one.
pub fn hashed_key(id: &str) -> String {
    hex::encode(&Sha256::digest(id.as_bytes())[..16])
}

/// The hash that a derived key shows, which is the smaller number.
fn ordinal_of(base: &str) -> u64 {
    u64::from_str_radix(base, 16).unwrap_or_default()
}

/// Hash of the fields that a provider does not edit.
fn derived_key(record: &TransactionRecord) -> String {
    let mut hash = Sha256::new();
    hash.update([DERIVED_KEY_VERSION]);
    let (on, minor) = (record.booked.on.to_string(), record.amount_minor.to_string());
    let narration = record.narration.as_deref().unwrap_or("");
    for part in [&record.account_token, &on, &minor, &record.currency, narration] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    // 64 bits suffice: only records of one account and day can collide.
    short_hex(hash)
}

/// The record's key with another account token, on which derived keys depend.
pub(super) fn rederived_key(record: &TransactionRecord, account_token: &str) -> String {
    match record.key.rsplit_once('-') {
        Some((_, ordinal)) if record.key_quality == KeyQuality::Derived => {
            let renamed = TransactionRecord { account_token: account_token.to_owned(), ..record.clone() };
            format!("~{}-{ordinal}", derived_key(&renamed))
        }
        _ => record.key.clone(),
    }
}

/// Digest of an account, scoped by namespace and connection. Not stored: it could be found by hashing all numbers; see
/// [`TokenKey`](super::account_tokens::TokenKey).
pub(super) fn account_digest(namespace: &str, connection: &str, account: &str) -> String {
    let mut hash = Sha256::new();
    for part in [namespace, connection, account] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tests::record;

    fn without_id(minor: i64) -> TransactionRecord {
        TransactionRecord { key_quality: KeyQuality::Derived, ..record("", minor) }
    }

    #[test]
    fn the_last_record_with_the_same_id_wins() {
        let page = vec![record("a", 1), record("b", 2), record("a", 3), record("b", 2)];
        let (rows, duplicates) = dedupe::<TransactionRecord>(page, &mut Ordinals::default());
        let kept: Vec<_> = rows.iter().map(|r| (r.key.as_str(), r.amount_minor)).collect();
        assert_eq!(kept, vec![("a", 3), ("b", 2)]);
        assert_eq!(duplicates, Duplicates { dropped: 2, conflicting: 1 }, "`b` is the same record twice");
    }

    #[test]
    fn a_booked_record_wins_over_a_pending_one_whatever_the_order() {
        let of = |status, minor| TransactionRecord { status, ..record("a", minor) };
        for page in [
            vec![of(RowStatus::Booked, 1), of(RowStatus::Pending, 2)],
            vec![of(RowStatus::Pending, 2), of(RowStatus::Booked, 1)],
        ] {
            let (rows, duplicates) = dedupe::<TransactionRecord>(page, &mut Ordinals::default());
            let kept: Vec<_> = rows.iter().map(|row| (row.status, row.amount_minor)).collect();
            assert_eq!(kept, vec![(RowStatus::Booked, 1)]);
            assert_eq!(duplicates, Duplicates { dropped: 1, conflicting: 1 });
        }
    }

    #[test]
    fn identical_records_without_an_id_keep_stable_distinct_keys() {
        let read = |page: Vec<TransactionRecord>| {
            let (rows, duplicates) = dedupe::<TransactionRecord>(page, &mut Ordinals::default());
            assert_eq!(duplicates, Duplicates::default());
            rows.into_iter().map(|r| r.key).collect::<Vec<_>>()
        };
        let first = read(vec![without_id(5), without_id(5), without_id(6)]);
        let again = read(vec![without_id(6), without_id(5), without_id(5)]);
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
        let sorted = |mut keys: Vec<String>| {
            keys.sort();
            keys
        };
        assert_eq!(sorted(first), sorted(again));
    }

    #[test]
    fn records_without_an_id_are_counted_up_to_a_limit() {
        let mut ordinals = Ordinals::default();
        ordinals.0.extend((0..MAX_ORDINALS as u64).map(|base| (base, 1)));
        assert!(!ordinals.is_full());
        dedupe::<TransactionRecord>(vec![without_id(5)], &mut ordinals);
        assert!(ordinals.is_full());
    }

    #[test]
    fn identical_records_on_two_pages_of_a_window_stay_two() {
        let mut ordinals = Ordinals::default();
        let (one, _) = dedupe::<TransactionRecord>(vec![without_id(5)], &mut ordinals);
        let (two, _) = dedupe::<TransactionRecord>(vec![without_id(5)], &mut ordinals);
        assert_ne!(one, two);
    }
}
