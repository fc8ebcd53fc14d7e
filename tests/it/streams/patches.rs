//! Plaid's changes since a cursor, and the secret in their bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{KEY, Provider};
use crate::kit::walk_bank::page;

fn change(id: &str, account: &str, pending: bool, replaces: &Value) -> Value {
    json!({"transaction_id": id, "account_id": account, "amount": 12.3, "iso_currency_code": "USD", "date": "2026-09-01",
           "name": "COFFEE", "pending": pending, "pending_transaction_id": replaces})
}

#[tokio::test]
async fn plaid_changes_are_rows_of_their_accounts_with_the_token_in_the_body_only() {
    let round = Arc::new(AtomicU64::new(0));
    let bank = Provider::start(("plaid", "transactions", ""), &[], {
        let round = Arc::clone(&round);
        move |seen| {
            assert_eq!((seen.method.as_str(), seen.sent("/access_token")), ("POST", json!(KEY)));
            let (added, removed) = match round.load(Ordering::SeqCst) {
                0 => (
                    vec![
                        change("P", "a", true, &Value::Null),
                        change("same", "a", false, &Value::Null),
                        change("same", "b", false, &Value::Null),
                    ],
                    vec![],
                ),
                1 => (
                    vec![change("B", "a", false, &json!("P"))],
                    vec![json!({"transaction_id": "same", "account_id": "b"})],
                ),
                _ => (vec![], vec![]),
            };
            let cursor = format!("c{}", round.load(Ordering::SeqCst));
            page(json!({"added": added, "modified": [], "removed": removed, "next_cursor": cursor, "has_more": false}))
        }
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 3);
    assert_eq!(
        bank.moves().await,
        ["2026-09-01 -12.30 USD booked", "2026-09-01 -12.30 USD booked", "2026-09-01 -12.30 USD pending"]
    );
    round.store(1, Ordering::SeqCst);
    bank.run().await;
    let statuses = bank.moves().await;
    assert_eq!(statuses.iter().filter(|row| row.ends_with("booked")).count(), 2, "{statuses:?}");
    assert!(!statuses.iter().any(|row| row.ends_with("pending")), "{statuses:?}");
    round.store(2, Ordering::SeqCst);
    bank.run().await;
    let cursors: Vec<_> = bank.requests().iter().map(|seen| seen.sent("/cursor")).collect();
    assert_eq!(cursors, [Value::Null, json!("c0"), json!("c1")]);
    assert!(bank.requests().iter().all(|seen| !seen.target.contains(KEY)), "never in the URL");
}

#[tokio::test]
async fn plaid_accounts_and_balances_are_read_with_the_items_token() {
    let answer = |seen: &crate::kit::walk_bank::Seen| {
        assert_eq!(seen.sent("/access_token"), json!(KEY));
        page(json!({"accounts": [{"account_id": "a", "name": "Checking", "mask": "0000", "subtype": "checking",
            "type": "depository",
            "balances": {"current": 110.5, "available": 100, "iso_currency_code": "USD"}}], "request_id": "r"}))
    };
    let accounts = Provider::start(("plaid", "accounts", ""), &[], answer).await;
    accounts.run().await;
    assert_eq!(accounts.columns("accounts", &["name", "kind", "currency"]).await, ["a Checking checking USD"]);
    // What is owed on a credit card or a loan is no balance of it.
    let with_debts = move |_: &crate::kit::walk_bank::Seen| {
        let account = |id: &str, kind: &str| {
            json!({"account_id": id, "name": id, "type": kind, "subtype": null,
                   "balances": {"current": 110.5, "available": null, "iso_currency_code": "USD"}})
        };
        page(json!({"accounts": [account("a", "depository"), account("c", "credit"), account("l", "loan")]}))
    };
    let balances = Provider::start(("plaid", "balances", ""), &[], with_debts).await;
    balances.run().await;
    assert_eq!(balances.columns("balances", &["kind", "amount", "currency"]).await, ["current current 110.50 USD"]);
}

#[tokio::test]
async fn a_connection_without_the_items_token_calls_nobody() {
    let mut bank = Provider::start(("plaid", "accounts", ""), &[], |_| page(json!({"accounts": []}))).await;
    let profile = crate::kit::connections::builtin_profile("plaid");
    let mut draft = crate::kit::connections::profile_draft("plaid", bank.plan.endpoint.base_url.as_str());
    let known = |key: &str| (key != "access-token").then(|| crate::kit::connections::secret(KEY));
    draft.auth =
        busbar::settings::Auth::from_profile(profile.auth.as_ref().unwrap(), "", &draft.parameters, known).unwrap();
    bank.connection = crate::kit::connections::connect(draft);
    assert_eq!(bank.any_run().await.result, Some(busbar::ledger::RunResult::Failed));
    assert!(bank.requests().is_empty());
}

#[tokio::test]
async fn pages_that_only_withdraw_are_not_empty_pages() {
    let bank = Provider::start(("plaid", "transactions", ""), &[], |seen| {
        let page_no = seen.sent("/cursor").as_str().and_then(|cursor| cursor.parse().ok()).unwrap_or(0_u64);
        let added = if page_no == 0 { vec![change("kept", "a", false, &Value::Null)] } else { vec![] };
        let removed = if page_no == 0 { vec![] } else { vec![json!({"transaction_id": format!("x{page_no}")})] };
        page(json!({"added": added, "removed": removed, "next_cursor": (page_no + 1).to_string(), "has_more": page_no < 20}))
    })
    .await;
    assert_eq!(bank.run().await.counts.pages, 21);
    assert_eq!(bank.moves().await.len(), 1);
}
