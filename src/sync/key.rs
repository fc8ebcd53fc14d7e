//! Identity: what makes two readings of a record the same row. Pure.
//!
//! The provider's id, trimmed; where it is blank, a hash of what does not change, with an ordinal among identical
//! records of one account and day, so that two honest twins stay two and a second reading adds no third. The ordinal
//! counts through a whole window, because twins may lie on two pages.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::plan::{hex, short_hex};
use crate::ledger::{DocumentRecord, TransactionRecord};

/// Raised with the recipe of [`fallback`]: another recipe is another identity for every row without an id.
const KEY_RECIPE: u8 = 1;

/// Longer ids are no ids.
pub const MAX_KEY: usize = 512;

/// How many identical records without an id a window has shown so far.
#[derive(Clone, Debug, Default)]
pub struct Ordinals(HashMap<String, u32>);

impl Ordinals {
    /// Whether the window has shown any record without an id.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Fills the keys of the records that came without one, and drops all but the last of those that share one.
///
/// Returns the rows in their order and how many were dropped.
pub fn settle(records: Vec<TransactionRecord>, ordinals: &mut Ordinals) -> (Vec<TransactionRecord>, u64) {
    let mut place: HashMap<(String, String), usize> = HashMap::new();
    let mut rows: Vec<Option<TransactionRecord>> = Vec::with_capacity(records.len());
    let mut dropped = 0;
    for mut record in records {
        if record.key.is_empty() {
            let base = fallback(&record);
            let ordinal = ordinals.0.entry(base.clone()).or_insert(0);
            record.key = format!("~{base}-{ordinal}");
            *ordinal += 1;
        }
        let identity = (record.account_token.clone(), record.key.clone());
        if let Some(earlier) = place.insert(identity, rows.len())
            && let Some(slot) = rows.get_mut(earlier)
        {
            *slot = None;
            dropped += 1;
        }
        rows.push(Some(record));
    }
    (rows.into_iter().flatten().collect(), dropped)
}

/// The same for documents: what has no id is told apart by all that it holds.
pub fn settle_documents(documents: Vec<DocumentRecord>, ordinals: &mut Ordinals) -> (Vec<DocumentRecord>, u64) {
    let mut place: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Option<DocumentRecord>> = Vec::with_capacity(documents.len());
    let mut dropped = 0;
    for mut document in documents {
        if document.key.is_empty() {
            let base = hex(&document.content_hash(), 8);
            let ordinal = ordinals.0.entry(base.clone()).or_insert(0);
            document.key = format!("~{base}-{ordinal}");
            *ordinal += 1;
        }
        if let Some(earlier) = place.insert(document.key.clone(), kept.len())
            && let Some(slot) = kept.get_mut(earlier)
        {
            *slot = None;
            dropped += 1;
        }
        kept.push(Some(document));
    }
    (kept.into_iter().flatten().collect(), dropped)
}

/// A hash of the fields that a provider does not edit.
fn fallback(record: &TransactionRecord) -> String {
    let mut hash = Sha256::new();
    hash.update([KEY_RECIPE]);
    let (on, minor) = (record.booked.on.to_string(), record.amount_minor.to_string());
    let narration = record.narration.as_deref().unwrap_or("");
    for part in [&record.account_token, &on, &minor, &record.currency, narration] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    // 64 bits among the identical-looking records of one account and day are plenty.
    short_hex(hash)
}

/// Tells accounts apart without telling which: scoped, so that the same account id elsewhere gives another token.
pub fn account_token(namespace: &str, connection: &str, account: &str) -> String {
    let mut hash = Sha256::new();
    for part in [namespace, connection, account] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize(), 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::KeyQuality;
    use crate::sync::tests::record;

    fn without_id(minor: i64) -> TransactionRecord {
        TransactionRecord { key_quality: KeyQuality::Derived, ..record("", minor) }
    }

    #[test]
    fn the_last_of_those_that_share_an_id_wins() {
        let (rows, dropped) = settle(vec![record("a", 1), record("b", 2), record("a", 3)], &mut Ordinals::default());
        let kept: Vec<_> = rows.iter().map(|r| (r.key.as_str(), r.amount_minor)).collect();
        assert_eq!((kept, dropped), (vec![("b", 2), ("a", 3)], 1));
    }

    #[test]
    fn honest_twins_stay_two_and_are_recognised_again() {
        let read = |page: Vec<TransactionRecord>| {
            let (rows, dropped) = settle(page, &mut Ordinals::default());
            assert_eq!(dropped, 0);
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
    fn twins_on_two_pages_of_a_window_stay_two() {
        let mut ordinals = Ordinals::default();
        let (one, _) = settle(vec![without_id(5)], &mut ordinals);
        let (two, _) = settle(vec![without_id(5)], &mut ordinals);
        assert_ne!(one, two);
    }

    #[test]
    fn an_account_token_tells_nothing_and_belongs_to_its_connection() {
        let token = account_token("team", "bank-a", "0131883461");
        assert!(!token.contains("3461") && token.len() == 24);
        assert_ne!(token, account_token("team", "bank-b", "0131883461"));
        assert_ne!(account_token("a", "bc", "d"), account_token("ab", "c", "d"));
    }
}
