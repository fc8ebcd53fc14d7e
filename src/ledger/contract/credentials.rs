//! Stored credentials.

use futures::future::join;
use jiff::Timestamp;

use super::OpenLedger;
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::StoredCredential;

fn credential(version: i64, text: &str) -> StoredCredential {
    StoredCredential { version, secret: "bank@7".to_owned(), ciphertext: text.as_bytes().to_vec() }
}

pub(crate) async fn a_credential_is_replaced_only_with_the_expected_version(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (bank, other) = (ObjectKey::new("ns", "bank"), ObjectKey::new("ns", "other"));
    assert!(ledger.load_credential(&bank).await.unwrap().is_none());
    for (key, version, text, expected) in [
        (&bank, 3, "x", None),
        (&bank, 0, "a", Some(1)),
        (&bank, 0, "x", None),
        (&bank, 1, "b", Some(2)),
        (&bank, 1, "x", None),
        (&other, 0, "c", Some(1)),
    ] {
        let stored = ledger.store_credential(key, &credential(version, text), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(stored, expected, "{key}: {text} for version {version}");
    }
    ledger.close().await;
    let ledger = store.writer().await;
    assert!(ledger.load_credential(&bank).await.unwrap().unwrap() == credential(2, "b"));
}

pub(crate) async fn of_two_concurrent_replacements_one_is_stored(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let (bank, now) = (ObjectKey::new("ns", "bank"), Timestamp::UNIX_EPOCH);
    for version in 0..10 {
        let (a, b) = (credential(version, "a"), credential(version, "b"));
        let stored = join(one.store_credential(&bank, &a, now), two.store_credential(&bank, &b, now)).await;
        let (a, b) = (stored.0.unwrap(), stored.1.unwrap());
        assert!(a.is_some() != b.is_some(), "version {version}: {a:?} and {b:?}");
        assert_eq!(a.or(b), Some(version + 1));
    }
}
