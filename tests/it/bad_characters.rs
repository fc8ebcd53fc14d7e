//! Characters that are not valid in JSON: each costs at most its record, and no other record is altered. Over real
//! sockets.

use busbar::domain::run_reason::RunReason;
use busbar::ledger::RunResult;
use busbar::ledger::record::TransactionFilter;

use crate::kit::list_bank::{Answer, End, ListBank};

const LIST: &str = "record: document, records: [/data], key: /id, pagination: {kind: none}";
const ENTRIES: &str = "record: transaction, records: [/data], key: /id, pagination: {kind: none}, time: {pointer: /date}, money: {amount: /amount, repr: decimalString, currency: {kind: field, pointer: /currency}, sign: {kind: field, pointer: /type, credit: credit, debit: debit}}, fields: {narration: /text, category: /category}";

/// Characters that are not valid, and the text with which a person reads them between `a` and `b`.
const BAD: [(&[u8], &str); 16] = [
    (br"a\ud800b", "a\u{fffd}b"),
    (b"a\xe9b", "a\u{fffd}b"),
    (b"a\xc0\xafb", "a\u{fffd}\u{fffd}b"),
    // Siblings.
    (br"a\udc00b", "a\u{fffd}b"),
    (br"a\udc00\ud800b", "a\u{fffd}\u{fffd}b"),
    (br"a\uD83D\uD83D\uDE00b", "a\u{fffd}\u{1f600}b"),
    (b"a\xed\xa0\x80b", "a\u{fffd}\u{fffd}\u{fffd}b"),
    (b"a\xe0\x80\xafb", "a\u{fffd}\u{fffd}\u{fffd}b"),
    (b"a\xf5\x80\x80\x80b", "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}b"),
    (b"a\xf0\x9f\x98b", "a\u{fffd}b"),
    (b"a\x80b", "a\u{fffd}b"),
    (b"a\xff\xfeb", "a\u{fffd}\u{fffd}b"),
    (b"a\x00b", "a\u{fffd}b"),
    (b"a\x1bb", "a\u{fffd}b"),
    (br"a\qb", "a\u{fffd}qb"),
    (br"a\u12zb", "a\u{fffd}u12zb"),
];

fn answer(body: &[u8]) -> Answer {
    (200, body.to_vec())
}

async fn bank(fields: &str, body: Vec<u8>) -> ListBank {
    ListBank::start(fields, move |_| answer(&body)).await
}

/// The records of a page, as they are sent.
fn page(records: &[&[u8]]) -> Vec<u8> {
    [b"{\"data\": [", records.join(&b", "[..]).as_slice(), b"]}"].concat()
}

#[tokio::test]
async fn a_bad_character_is_replaced_in_a_text_and_no_other_record_is_altered() {
    let (before, after) = (
        &br#"{"id": "before", "n": 1.50, "t": "caf\u00e9 \ud83d\ude00"}"#[..],
        "{\"id\": \"after\", \"t\": \"\u{e9}\u{fffd}\"}",
    );
    for (bad, text) in BAD {
        let record = [b"{\"id\": \"bad\", \"n\": 2.50, \"t\": \"", bad, b"\"}"].concat();
        let bank = bank(LIST, page(&[before, &record, after.as_bytes()])).await;
        assert_eq!(bank.end().await, (RunResult::Succeeded, None, 3), "{text:?}");
        let expected = [
            ("after".to_owned(), "{\"id\":\"after\",\"t\":\"\u{e9}\u{fffd}\"}".to_owned()),
            ("bad".to_owned(), format!(r#"{{"id":"bad","n":2.50,"t":"{text}"}}"#)),
            ("before".to_owned(), "{\"id\":\"before\",\"n\":1.50,\"t\":\"caf\u{e9} \u{1f600}\"}".to_owned()),
        ];
        assert_eq!(bank.documents().await, expected, "{text:?}");
    }
}

#[tokio::test]
async fn a_bad_character_in_a_key_is_a_dead_letter() {
    for (bad, text) in BAD {
        let record = [b"{\"id\": \"", bad, b"\", \"n\": 2}"].concat();
        let bank = bank(LIST, page(&[br#"{"id": "x"}"#, &record, "{\"id\": \"\u{fffd}\"}".as_bytes()])).await;
        assert_eq!(bank.end().await, (RunResult::Succeeded, None, 2), "{text:?}");
        assert_eq!(bank.dead_letters().await, 1, "{text:?}");
        let keys: Vec<String> = bank.documents().await.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["x", "\u{fffd}"], "an ID with the replacement itself is what the provider sent");
    }
}

/// An entry, in which this follows the value of `field`.
fn entry(id: &str, field: &str, bad: &[u8]) -> Vec<u8> {
    let fields = [
        ("id", id),
        ("amount", "12.50"),
        ("currency", "EUR"),
        ("type", "debit"),
        ("date", "2026-09-01"),
        ("text", "coffee"),
        ("category", "food"),
    ];
    let parts = fields.map(|(name, value)| {
        let end = if name == field { bad } else { b"" };
        [b"\"", name.as_bytes(), b"\": \"", value.as_bytes(), end, b"\""].concat()
    });
    [b"{", parts.join(&b", "[..]).as_slice(), b"}"].concat()
}

#[tokio::test]
async fn in_money_dates_and_keys_a_bad_character_costs_the_record_and_in_texts_itself() {
    const FIELDS: [&str; 7] = ["id", "amount", "currency", "type", "date", "text", "category"];
    for (bad, text) in BAD {
        // Without the letters around it.
        let (bad, text) = (&bad[1..bad.len() - 1], &text[1..text.len() - 1]);
        let mut entries = vec![entry("plain", "", b"")];
        entries.extend(FIELDS.map(|field| entry(field, field, bad)));
        let bank = bank(ENTRIES, page(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>())).await;
        let run = bank.record().await;
        assert_eq!(run.result, Some(RunResult::Succeeded), "{text:?} {:?}", run.failure);
        assert_eq!((run.counts.rejected, bank.dead_letters().await), (5, 5), "{text:?}");
        let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|row| row.record)
            .map(|row| (row.key, row.amount.to_string(), row.narration.unwrap(), row.category.unwrap()))
            .collect();
        rows.sort();
        let row = |key: &str, narration: &str, category: &str| {
            (key.to_owned(), "-12.50".to_owned(), narration.to_owned(), category.to_owned())
        };
        let (narration, category) = (format!("coffee{text}"), format!("food{text}"));
        let expected =
            [row("category", "coffee", &category), row("plain", "coffee", "food"), row("text", &narration, "food")];
        assert_eq!(rows, expected, "{text:?}");
    }
}

#[tokio::test]
async fn an_account_number_that_is_grouped_by_bad_characters_is_masked() {
    for between in [&b"\xa0"[..], b"\xc2", br"\ud800", b"\x00"] {
        let number = [b" 0131", between, b"883", between, b"461 end"].concat();
        let records = [entry("a", "text", &number), entry("b", "category", &number)];
        let bank = bank(ENTRIES, page(&records.iter().map(Vec::as_slice).collect::<Vec<_>>())).await;
        assert_eq!(bank.record().await.counts.inserted, 2);
        let rows = bank.sync.ledger.list_transactions(&TransactionFilter::default(), 10).await.unwrap();
        let texts = rows.iter().map(|row| format!("{:?} {:?}", row.record.narration, row.record.category));
        for text in texts {
            assert!(text.contains("****3461 end") && !text.contains("883"), "{text}");
        }
    }
}

#[tokio::test]
async fn bad_characters_beside_the_records_cost_nothing() {
    for (bad, text) in BAD {
        let body = [b"{\"meta\": {\"", bad, b"\": \"", bad, b"\"}, \"data\": [{\"id\": 1}], \"x\": [\"", bad, b"\"]}"]
            .concat();
        assert_eq!(bank(LIST, body).await.end().await, (RunResult::Succeeded, None, 1), "{text:?}");
    }
}

#[tokio::test]
async fn a_mark_before_the_body_and_a_large_page_of_latin_1_are_read() {
    let with_mark = ["\u{feff}".as_bytes(), &page(&[br#"{"id": 1}"#, b"{\"id\": 2, \"t\": \"\xe9\"}"])].concat();
    assert_eq!(bank(LIST, with_mark).await.end().await, (RunResult::Succeeded, None, 2));
    // More than is parsed without a reservation of memory.
    let record = |n: usize| [format!("{{\"id\": {n}, \"t\": \"").as_bytes(), &b"caf\xe9 ".repeat(60), b"\"}"].concat();
    let records: Vec<Vec<u8>> = (0..1000).map(record).collect();
    let bank = bank(LIST, page(&records.iter().map(Vec::as_slice).collect::<Vec<_>>())).await;
    assert_eq!(bank.end().await, (RunResult::Succeeded, None, 1000));
    let documents = bank.documents().await;
    assert!(documents.iter().all(|(_, body)| body.matches("caf\u{fffd} ").count() == 59), "{:?}", documents[0]);
}

#[tokio::test]
async fn what_is_no_text_in_json_is_still_unreadable() {
    let unreadable: End = (RunResult::Failed, Some(RunReason::BodyUnreadable), 0);
    let utf_16: Vec<u8> = "\u{feff}{\"data\": []}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        utf_16,
        b"{\"data\": [{\"id\": 1, \"t\": \"caf\xc3".to_vec(),
        b"{\"data\": [{\"id\": 1\xff}]}".to_vec(),
        b"{\"data\": [{\"id\": 1}]}\0".to_vec(),
        b"<html>caf\xe9</html>".to_vec(),
    ] {
        let text = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(bank(LIST, body).await.end().await, unreadable, "{text}");
    }
}

#[tokio::test]
async fn a_page_after_a_record_with_a_bad_id_is_found_by_the_record_before_it() {
    let fields = "record: document, records: [/data], key: /id, pagination: {kind: lastRecordId, parameter: after, more: /more, sizeParameter: limit, size: 2}";
    let bank = ListBank::start(fields, |query| match query.get("after").map(String::as_str) {
        None => answer(br#"{"data": [{"id": "a"}, {"id": "b\ud800"}], "more": true}"#),
        Some("a") => answer(br#"{"data": [{"id": "b\ud800"}, {"id": "c"}], "more": true}"#),
        _ => answer(br#"{"data": [{"id": "d"}], "more": false}"#),
    })
    .await;
    assert_eq!(bank.end().await, (RunResult::Succeeded, None, 3));
    assert_eq!((bank.requested("after"), bank.dead_letters().await), (["", "a", "c"].map(str::to_owned).to_vec(), 1));
    // A token that cannot be sent back is no end.
    let fields = "record: document, records: [/data], key: /id, pagination: {kind: token, from: {kind: body, pointers: [/next]}, to: {kind: query, parameter: after}}";
    let bank = ListBank::start(fields, |_| answer(b"{\"data\": [{\"id\": 1}], \"next\": \"t\xe9\"}")).await;
    assert_eq!(bank.end().await, (RunResult::Failed, Some(RunReason::PaginationUnreadable), 1));
}
