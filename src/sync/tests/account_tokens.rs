//! Tokens of accounts, and the key that they depend on.

use std::path::Path;

use super::*;
use crate::ledger::encryption::Keyring;
use crate::ledger::{RowIdentity, StoredCredential};
use crate::sync::account_scope::AccountScope;
use crate::sync::account_tokens::{AccountTokens, stored_key};
use crate::sync::key::{account_digest, rederived_key};

const ACCOUNT: &str = "acc-000000001";

async fn token(harness: &SyncHarness, keys: &Keyring) -> Option<String> {
    let key = AccountTokens::new(keys.clone())
        .key(&*harness.ledger, &harness.token_lease().await, harness.now())
        .await
        .ok()?;
    Some(key.account("team", "bank-a", ACCOUNT))
}

fn put_key(directory: &Path, name: &str, byte: u8) {
    std::fs::write(directory.join(name), [byte; 32]).unwrap();
}

/// What the version before keyed tokens would have stored.
async fn unkey(harness: &SyncHarness) {
    let bare = account_digest("team", "bank-a", ACCOUNT);
    let replace = Arc::new(move |record: &TransactionRecord| {
        Some(RowIdentity { account_token: bare.clone(), record_key: rederived_key(record, &bare) })
    });
    harness.ledger.replace_identities(&harness.token_lease().await, 0, 1000, replace).await.unwrap();
    let stored = harness.ledger.load_credential(&stored_key()).await.unwrap().unwrap();
    let stored = StoredCredential { secret: "converting".into(), ..stored };
    harness.ledger.store_credential(&stored_key(), &stored, harness.now()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_account_token_is_a_keyed_hash_that_differs_between_ledgers() {
    let one = SyncHarness::new(ScriptedBank::with(5)).await;
    let two = SyncHarness::new(ScriptedBank::with(5)).await;
    for harness in [&one, &two] {
        assert_eq!(harness.run(&plan(10)).await.counts.inserted, 5);
    }
    let tokens = [one.rows().await[0].record.account_token.clone(), two.rows().await[0].record.account_token.clone()];
    assert_ne!(tokens[0], tokens[1], "the same account");
    for token in &tokens {
        assert!(!token.contains(&account_digest("team", "bank-a", ACCOUNT)) && token.len() == 35, "{token}");
    }
    assert_eq!(token(&one, &Keyring::none()).await.unwrap(), tokens[0], "also after a restart");

    let key = one.account_tokens.key(&*one.ledger, &one.token_lease().await, one.now()).await.unwrap();
    assert_ne!(key.account("team", "bank-b", ACCOUNT), tokens[0]);
    assert_ne!(key.account("a", "bc", "d"), key.account("ab", "c", "d"));
    assert_ne!(key.digest("a", "b"), key.digest("ab", ""));
}

#[tokio::test]
async fn the_key_of_account_tokens_survives_a_rotation_of_the_operators_key() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let plain = token(&harness, &Keyring::none()).await;
    let stored = async || harness.ledger.load_credential(&stored_key()).await.unwrap().unwrap().ciphertext;
    assert_eq!(stored().await[0], 0, "as it is, without a key of the operator");

    let directory = tempfile::tempdir().unwrap();
    put_key(directory.path(), "1", 1);
    let keys = Keyring::open(directory.path()).unwrap();
    let running = AccountTokens::new(keys.clone());
    running.key(&*harness.ledger, &harness.token_lease().await, harness.now()).await.unwrap();
    let first = stored().await;
    assert!(first[0] != 0 && keys.is_newest(&first), "encrypted with the first run after that");

    put_key(directory.path(), "2", 2);
    keys.reload().unwrap();
    running.key(&*harness.ledger, &harness.token_lease().await, harness.now()).await.unwrap();
    assert!(stored().await != first && keys.is_newest(&stored().await), "the next run encrypts it with the new key");
    std::fs::remove_file(directory.path().join("1")).unwrap();
    assert_eq!(token(&harness, &Keyring::open(directory.path()).unwrap()).await, plain);

    assert_eq!(token(&harness, &Keyring::none()).await, None, "and not without it");
    let other = tempfile::tempdir().unwrap();
    put_key(other.path(), "1", 3);
    assert_eq!(token(&harness, &Keyring::open(other.path()).unwrap()).await, None);
}

#[tokio::test]
async fn tokens_of_masked_values_survive_a_rotation_of_the_operators_key() {
    let harness = SyncHarness::new(ScriptedBank::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let token = async |keys: &Keyring| {
        let lease = harness.token_lease().await;
        let key = AccountTokens::new(keys.clone()).key(&*harness.ledger, &lease, harness.now()).await.unwrap();
        let scope = |namespace: &str| AccountScope {
            key: key.clone(),
            namespace: namespace.to_owned(),
            connection: "bank-a".to_owned(),
        };
        let masked = |namespace: &str| scope(namespace).mask_key().token("GB29NWBK60161331926819").unwrap();
        assert_ne!(masked("team"), masked("other"), "a namespace has tokens of its own");
        masked("team")
    };
    let before = token(&Keyring::none()).await;
    for (name, byte) in [("1", 1), ("2", 2), ("3", 3)] {
        put_key(directory.path(), name, byte);
        assert_eq!(token(&Keyring::open(directory.path()).unwrap()).await, before, "{name}");
    }
    assert!(before.starts_with("tok_") && !before.contains("6819"));
}

#[tokio::test]
async fn a_run_fails_if_the_key_of_account_tokens_cannot_be_decrypted() {
    let mut harness = SyncHarness::new(ScriptedBank::with(5)).await;
    let directory = tempfile::tempdir().unwrap();
    put_key(directory.path(), "1", 1);
    harness.account_tokens = AccountTokens::new(Keyring::open(directory.path()).unwrap());
    harness.run(&plan(10)).await;
    harness.account_tokens = AccountTokens::default();
    let report = harness.run(&plan(10)).await;
    assert_eq!(
        (report.result, report.reason),
        (RunResult::Failed, Some(crate::domain::run_reason::RunReason::KeyMissing))
    );
    assert_eq!(harness.bank.pages_served(), 1, "nothing was fetched");
}

#[tokio::test]
async fn rows_with_tokens_of_an_earlier_version_are_converted_and_stay_one_row() {
    let bank = ScriptedBank::with(20);
    for amount in [7, 7, 8] {
        bank.push("", amount, "debit", "2026-09-10T00:00:00.000Z", "no id");
    }
    let mut harness = SyncHarness::new(bank).await;
    let plan = plan(10);
    assert_eq!(harness.run(&plan).await.counts.inserted, 23);
    let before: Vec<_> = harness.rows().await.into_iter().map(|row| row.record).collect();
    unkey(&harness).await;
    assert!(harness.rows().await.iter().all(|row| !before.contains(&row.record)));

    harness.account_tokens = AccountTokens::default();
    let report = harness.run(&plan).await;
    assert_eq!((report.counts.inserted, report.counts.updated), (0, 0), "{report:?}");
    let after: Vec<_> = harness.rows().await.into_iter().map(|row| row.record).collect();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_cursor_whose_source_was_hashed_without_a_key_is_kept() {
    let harness = SyncHarness::new(ScriptedBank::with(40)).await;
    let plan = plan(10);
    harness.run(&plan).await;
    let (key, lease) = (harness.cursor_key(&plan).await, harness.lease().await);
    let stored = async || harness.ledger.load_cursor(&key).await.unwrap().unwrap();
    let unkeyed = plan.cursor_hash(&plan.partitions[0]).unwrap();
    let mut state = stored().await;
    assert!(!unkeyed.same_source(&state.spec_hash), "the path names an account");
    state.spec_hash = unkeyed.text();
    let page = crate::ledger::PageCommit {
        cursor: &key,
        lease: &lease,
        run: RunId(Uuid::new_v4()),
        state: &state,
        rows: &[],
        documents: &[],
        records: &[],
        removed: &[],
        pending: None,
        scope: crate::ledger::page::CommitScope::Page,
        dead_letters: &[],
        raw: None,
        events: None,
        replayed: None,
        fetched: 0,
        conflicting: 0,
        pages: 0,
        now: harness.now(),
    };
    harness.ledger.commit_page(page).await.unwrap();
    assert!(harness.run(&plan).await.counts.fetched < 40, "only the lookback is read again");
    assert!(!unkeyed.same_source(&stored().await.spec_hash));
}
