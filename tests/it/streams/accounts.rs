//! Accounts, balances and transactions of banks: Open Banking UK, GoCardless, Mono, Stripe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{Provider, text};
use crate::kit::walk_bank::page;

const ACCOUNT: [(&str, &str); 1] = [("accountId", "acc-1")];
const OBUK: &str = "open-banking-uk";

#[tokio::test]
async fn open_banking_accounts_and_balances_are_rows_with_masked_numbers() {
    let bank = Provider::start((OBUK, "accounts", ""), &[], |_| {
        page(json!({"Data": {"Account": [{"AccountId": "acc-1", "Status": "Enabled", "Currency": "GBP",
            "AccountSubType": "CurrentAccount", "Nickname": "Bills",
            "Account": [{"SchemeName": "UK.OBIE.SortCodeAccountNumber", "Identification": "60161331926819",
                         "Name": "Ada Lovelace"}]}]}, "Links": {"Self": "/x"}, "Meta": {}}))
    })
    .await;
    bank.run().await;
    assert_eq!(
        bank.columns("accounts", &["account", "currency", "name", "holder", "kind", "status"]).await,
        ["acc-1 ****6819 GBP Bills Ada Lovelace CurrentAccount Enabled"]
    );
    let balances = Provider::start((OBUK, "balances", ""), &ACCOUNT, |_| {
        let balance = |kind: &str, amount: &str, side: &str| {
            json!({"AccountId": "acc-1", "Type": kind, "CreditDebitIndicator": side, "DateTime": "2026-09-01T10:00:00+01:00",
                   "Amount": {"Amount": amount, "Currency": "GBP"}})
        };
        let all = [balance("InterimBooked", "12345678901.5", "Debit"), balance("Expected", "0.00", "Credit")];
        page(json!({"Data": {"Balance": all}, "Links": {}, "Meta": {}}))
    })
    .await;
    balances.run().await;
    assert_eq!(
        balances.columns("balances", &["kind", "amount", "amount_minor", "currency", "as_of_on", "as_of_ms"]).await,
        [
            "Expected:GBP Expected 0.00 0 GBP 2026-09-01 1788253200000",
            "InterimBooked:GBP InterimBooked -12345678901.50 -1234567890150 GBP 2026-09-01 1788253200000"
        ]
    );
}

/// A transaction of Open Banking UK on this day.
fn booking(day: &str, amount: &str) -> Value {
    json!({"AccountId": "acc-1", "CreditDebitIndicator": "Debit", "Status": "BOOK",
           "BookingDateTime": format!("{day}T10:00:00+01:00"), "ValueDateTime": format!("{day}T00:00:00+01:00"),
           "Amount": {"Amount": amount, "Currency": "GBP"}, "TransactionInformation": "COFFEE"})
}

#[tokio::test]
async fn open_banking_tells_pending_from_booked_and_leaves_out_what_is_no_movement() {
    let round = Arc::new(AtomicU64::new(0));
    let bank = Provider::start((OBUK, "transactions", ""), &ACCOUNT, {
        let round = Arc::clone(&round);
        move |_| {
            let with = |id: &str, status: &str| {
                let mut record = booking("2026-09-01", "3.50");
                (record["TransactionId"], record["Status"]) = (json!(id), json!(status));
                record
            };
            let settled = if round.load(Ordering::SeqCst) == 0 { "PDNG" } else { "BOOK" };
            let all = [with("a", settled), with("b", "BOOK"), with("c", "INFO"), with("d", "Odd")];
            page(json!({"Data": {"Transaction": all}, "Links": {}, "Meta": {}}))
        }
    })
    .await;
    let run = bank.run().await;
    assert_eq!((run.counts.inserted, run.counts.rejected), (2, 1));
    assert_eq!(bank.moves().await, ["2026-09-01 -3.50 GBP booked", "2026-09-01 -3.50 GBP pending"]);
    assert_eq!(bank.letters().await, ["StatusUnknown /Status"]);
    round.store(1, Ordering::SeqCst);
    assert_eq!(bank.run().await.counts.updated, 1);
    assert_eq!(bank.moves().await, ["2026-09-01 -3.50 GBP booked", "2026-09-01 -3.50 GBP booked"]);
}

#[tokio::test]
async fn gocardless_pending_rows_that_are_listed_no_more_are_superseded() {
    let round = Arc::new(AtomicU64::new(0));
    let bank = Provider::start(("gocardless", "transactions", "/api/v2"), &ACCOUNT, {
        let round = Arc::clone(&round);
        move |_| {
            let payment = |id: Value, day: &str| {
                json!({"transactionId": id, "bookingDate": day, "transactionAmount": {"amount": "-9.90", "currency": "EUR"},
                       "remittanceInformationUnstructured": "COFFEE"})
            };
            let (booked, pending) = match round.load(Ordering::SeqCst) {
                0 => (vec![], vec![payment(json!("p-1"), "2026-09-01"), payment(json!("p-2"), "2026-09-01")]),
                // The bank gives the booked one another ID; two bookings of two days share one.
                _ => (
                    vec![payment(json!("b-1"), "2026-09-02"), payment(json!("b-1"), "2026-09-03")],
                    vec![payment(json!("p-2"), "2026-09-01")],
                ),
            };
            page(json!({"transactions": {"booked": booked, "pending": pending}}))
        }
    })
    .await;
    bank.run().await;
    assert_eq!(bank.moves().await, ["2026-09-01 -9.90 EUR pending", "2026-09-01 -9.90 EUR pending"]);
    round.store(1, Ordering::SeqCst);
    bank.run().await;
    let after = [
        "2026-09-01 -9.90 EUR pending",
        "2026-09-01 -9.90 EUR superseded",
        "2026-09-02 -9.90 EUR booked",
        "2026-09-03 -9.90 EUR booked",
    ];
    assert_eq!(bank.moves().await, after);
    assert_eq!(bank.run().await.counts.inserted, 0);
    assert_eq!(bank.moves().await, after, "and stay so");
}

#[tokio::test]
async fn gocardless_details_and_balances_are_rows_of_the_account_that_was_asked_for() {
    let bank = Provider::start(("gocardless", "accounts", "/api/v2"), &ACCOUNT, |_| {
        page(json!({"account": {"iban": "GB29NWBK60161331926819", "currency": "eur", "ownerName": "Ada",
            "product": "Giro", "status": "enabled"}}))
    })
    .await;
    bank.run().await;
    assert_eq!(
        bank.columns("accounts", &["account", "currency", "name", "holder", "status"]).await,
        ["acc-1 ****6819 EUR Giro Ada enabled"]
    );
    let balances = Provider::start(("gocardless", "balances", "/api/v2"), &ACCOUNT, |_| {
        page(json!({"balances": [
            {"balanceAmount": {"amount": "-12.50", "currency": "EUR"}, "balanceType": "closingBooked",
             "referenceDate": "2026-09-01"},
            {"balanceAmount": {"amount": "7", "currency": "JPY"}, "balanceType": "interimAvailable"}]}))
    })
    .await;
    balances.run().await;
    assert_eq!(
        balances.columns("balances", &["amount", "amount_minor", "as_of_on", "as_of_ms", "granularity"]).await,
        ["closingBooked:EUR -12.50 -1250 2026-09-01 - day", "interimAvailable:JPY 7 7 - - -"]
    );
}

#[tokio::test]
async fn mono_accounts_and_balances_are_rows() {
    let bank = Provider::start(("mono", "accounts", "/v2"), &[], |_| {
        page(json!({"status": "successful", "data": [{"id": "m-1", "name": "SAVINGS", "account_number": "0131883461",
            "currency": "ngn", "type": "SAVINGS", "institution": {"name": "GTBank"}}], "meta": {"total": 1, "next": null}}))
    })
    .await;
    bank.run().await;
    assert_eq!(bank.columns("accounts", &["account", "currency", "institution"]).await, ["m-1 ****3461 NGN GTBank"]);
    let balances = Provider::start(("mono", "balances", "/v2"), &ACCOUNT, |seen| {
        assert_eq!(seen.path, "/v2/accounts/acc-1/balance");
        text(r#"{"data": {"id": "acc-1", "account_number": "0131883461", "balance": 9007199254740993, "currency": "NGN"}}"#)
    })
    .await;
    balances.run().await;
    assert_eq!(
        balances.columns("balances", &["account", "amount", "amount_minor"]).await,
        ["current ****3461 90071992547409.93 9007199254740993"]
    );
}

#[tokio::test]
async fn stripe_balance_transactions_come_newest_first_and_charges_are_documents() {
    let bank = Provider::start(("stripe", "balance-transactions", "/v1"), &[], |seen| {
        let one = |n: u64, currency: &str, amount: i64| {
            json!({"id": format!("txn_{n}"), "created": 1_788_220_800 + n, "available_on": 1_788_307_200, "amount": amount,
                   "currency": currency, "type": "charge", "description": "Order 7"})
        };
        let (data, more) = match seen.query("starting_after") {
            "" => (vec![one(3, "jpy", 500), one(2, "kwd", -5120)], true),
            _ => (vec![one(1, "usd", 9_007_199_254_740_993)], false),
        };
        page(json!({"object": "list", "data": data, "has_more": more}))
    })
    .await;
    assert_eq!(bank.run().await.counts.inserted, 3);
    assert_eq!(
        bank.moves().await,
        ["2026-09-01 -5.120 KWD booked", "2026-09-01 500 JPY booked", "2026-09-01 90071992547409.93 USD booked"]
    );
    assert_eq!(bank.requests()[1].query("starting_after"), "txn_2");
    let charges = Provider::start(("stripe", "charges", "/v1"), &[], |_| {
        page(json!({"data": [{"id": "ch_1", "created": 1_788_220_800, "amount": 5}], "has_more": false}))
    })
    .await;
    assert_eq!(charges.run().await.counts.inserted, 1);
}
