//! Bodies of every form as pages.

use bytes::Bytes;

use super::*;
use crate::profile::json::MAX_TREE_VALUES;
use crate::sync::tests::stream;

fn page_of(body: &[u8], stream: &Stream) -> Result<Page, RunReason> {
    let requested = PageRequest { position: "1", read_before: 0, total_before: None, header: None };
    parse(&BodyText::of(&Bytes::copy_from_slice(body)), stream, requested)
}

fn page(body: &str) -> Result<Page, RunReason> {
    page_of(body.as_bytes(), &stream(10))
}

fn records(page: &Page) -> Result<Vec<String>, RunReason> {
    let mut all = Vec::new();
    page.each_record(|record| {
        all.push(match record {
            Record::Parsed(value) => value.to_string(),
            Record::Repaired(value) => format!("repaired {value}"),
            Record::TooLarge(_) => "too large".to_owned(),
        });
    })?;
    Ok(all)
}

#[test]
fn flat_and_nested_bodies_parse_to_the_same_page() {
    let flat = page(r#"{"data": [1, 2], "meta": {"total": 7, "next": "https://x/v2/acc/transactions?page=2"}}"#);
    let nested = page(r#"{"data": {"transactions": [1, 2], "paging": {"total": 7, "next": "/t?limit=2&page=2#x"}}}"#);
    assert_eq!(flat, nested);
    let flat = flat.unwrap();
    assert_eq!((flat.records, flat.next, flat.total), (2, NextPage::At("2".to_owned()), Some(7)));
}

#[test]
fn an_unreadable_body_is_an_error_and_not_an_empty_page() {
    for (body, reason) in [
        ("", RunReason::BodyUnreadable),
        ("<html>", RunReason::BodyUnreadable),
        (r#"{"data": [1, 2"#, RunReason::BodyUnreadable),
        (r#"{"data": [{"amount": NaN}]}"#, RunReason::BodyUnreadable),
        ("{}", RunReason::SchemaDrifted),
        (r#"{"data": {"items": []}}"#, RunReason::SchemaDrifted),
        (r#"{"data": ""}"#, RunReason::SchemaDrifted),
        (r#"{"data": {}}"#, RunReason::SchemaDrifted),
        (r#"{"data": false}"#, RunReason::SchemaDrifted),
        ("null", RunReason::SchemaDrifted),
    ] {
        assert_eq!(page(body), Err(reason), "{body}");
    }
    assert_eq!(page("\u{feff}{\"data\": []}").unwrap().records, 0, "a byte order mark is ignored");
}

#[test]
fn numbers_keep_all_digits() {
    let page = page(r#"{"data": [123456789012345678901234567890.10]}"#).unwrap();
    assert_eq!(records(&page).unwrap(), ["123456789012345678901234567890.10"]);
}

#[test]
fn a_record_that_is_too_large_is_not_parsed_and_the_others_are() {
    let (long, wide) = ("x".repeat(MAX_RECORD_BYTES), vec!["0"; MAX_TREE_VALUES + 1].join(","));
    let page = page(&format!(r#"{{"data": [1, "{long}", [{wide}], {{"a": 2}}]}}"#)).unwrap();
    assert_eq!(page.records, 4);
    assert_eq!(records(&page).unwrap(), ["1", "too large", "too large", r#"{"a":2}"#]);
}

#[test]
fn the_memory_of_a_page_counts_its_records_and_not_only_its_bytes() {
    let page = page(&format!(r#"{{"data": [{}]}}"#, vec!["{}"; 1000].join(","))).unwrap();
    assert!(page.memory() >= 1000 * RECORD_OVERHEAD, "{}", page.memory());
}

#[test]
fn what_stands_for_an_empty_list_is_said_by_the_stream() {
    use EmptyForm::{BlankText, EmptyObject, Missing, NullValue};
    let default = stream(10);
    assert_eq!(page_of(br#"{"data": null, "meta": {"total": 3}}"#, &default).unwrap().total, Some(3));
    for (body, form) in [
        (r#"{"data": null}"#, NullValue),
        (r#"{"data": {"transactions": null}}"#, NullValue),
        (r#"{"data": " "}"#, BlankText),
        (r#"{"data": {}}"#, EmptyObject),
        ("{}", Missing),
    ] {
        let of =
            |forms: &[EmptyForm]| page_of(body.as_bytes(), &Stream { empty_as: forms.to_vec(), ..default.clone() });
        assert_eq!(of(&[form]), Ok(Page::default()), "{body}");
        assert_eq!(of(&[]), Err(RunReason::SchemaDrifted), "{body}");
    }
}

#[test]
fn a_character_that_is_not_valid_concerns_its_record_only() {
    let body = b"{\"data\": [{\"n\": \"\\ud800\"}, {\"n\": \"caf\xe9\"}, {\"n\": \"fine \xf0\x9f\x98\x80\", \"a\": 1.50}], \"x\xc0\": \"\xff\"}";
    let page = page_of(body, &stream(10)).unwrap();
    assert_eq!(
        records(&page).unwrap(),
        ["repaired {\"n\":\"\u{fffd}\"}", "repaired {\"n\":\"caf\u{fffd}\"}", "{\"a\":1.50,\"n\":\"fine \u{1f600}\"}"]
    );
}

#[test]
fn a_bad_character_outside_of_a_text_makes_the_body_unreadable() {
    for body in [&b"{\"data\": [1\xff]}"[..], b"\xff\xfe{\0\"\0", b"{\"data\": [\"caf\xc3"] {
        assert_eq!(page_of(body, &stream(10)), Err(RunReason::BodyUnreadable));
    }
}
