//! What bodies say about the next page, by kind of pagination.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::profile::Profile;
use crate::sync::body_text::BodyText;
use crate::sync::page::{self, Page};

/// The page at `position` of a stream with this pagination, two records a page.
fn page(fields: &str, position: &str, read_before: u64, body: &Value) -> Page {
    let stream = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{record: document, path: /rows, records: [/data], key: /id, {fields}}}\n"
    );
    let profile = Profile::parse("x.yaml", &stream).unwrap();
    let requested = PageRequest { position, read_before, total_before: None, header: None };
    page::parse(&BodyText::of(&Bytes::from(body.to_string())), &profile.streams["rows"], requested).unwrap()
}

fn next(fields: &str, position: &str, body: &Value) -> String {
    // What was read before the page is given by an offset only.
    match page(fields, position, position.parse().unwrap_or(0), body).next {
        NextPage::End => "end".to_owned(),
        NextPage::At(next) => next,
        NextPage::Unreadable => "unreadable".to_owned(),
    }
}

const SIZE: &str = "sizeParameter: limit, size: 2";

#[test]
fn a_page_without_a_usable_number_is_the_end_and_an_unreadable_one_is_not() {
    let fields =
        format!("pagination: {{kind: page, parameter: page, first: 1, next: [/next], total: [/total], {SIZE}}}");
    for (value, expected) in [
        (json!(null), "end"),
        (json!(""), "end"),
        (json!(" "), "end"),
        (json!(false), "end"),
        (json!("false"), "end"),
        (json!("null"), "end"),
        (json!("None"), "end"),
        (json!(0), "end"),
        (json!("0"), "end"),
        (json!(-1), "end"),
        (json!("-1"), "end"),
        (json!(-7), "end"),
        (json!([]), "end"),
        (json!({}), "end"),
        (json!("?page=0"), "end"),
        (json!("?page=-1"), "end"),
        (json!(3), "3"),
        (json!("3"), "3"),
        (json!(3.0), "3"),
        (json!(true), "3"),
        (json!("true"), "3"),
        (json!("/rows?limit=2&page=3#x"), "3"),
        (json!("https://evil.test/?page=003"), "3"),
        (json!("?page=%33"), "3"),
        (json!(2), "2"),
        (json!(2.5), "unreadable"),
        (json!("next"), "unreadable"),
        (json!("https://x/?cursor=2"), "unreadable"),
        (json!(["2"]), "unreadable"),
        (json!({"page": 2}), "unreadable"),
        (json!("99999999999999999999999"), "unreadable"),
    ] {
        assert_eq!(next(&fields, "2", &json!({"data": [1, 2], "next": value})), expected, "{value}");
    }
    assert_eq!(next(&fields, "2", &json!({"data": [1, 2]})), "end");
    let too_long = format!("?page=3&x={}", "x".repeat(5000));
    assert_eq!(next(&fields, "2", &json!({"data": [1, 2], "next": too_long})), "unreadable", "it would be stored");
    let from_zero = fields.replace("first: 1", "first: 0");
    assert_eq!(next(&from_zero, "2", &json!({"data": [], "next": 0})), "0", "the first page, which leads back");
}

#[test]
fn an_offset_ends_at_a_total_that_can_be_one_and_else_at_an_empty_page() {
    let fields = format!("pagination: {{kind: offset, parameter: from, total: [/total], {SIZE}}}");
    for (position, body, expected) in [
        ("0", json!({"data": [1, 2], "total": 5}), "2"),
        ("2", json!({"data": [1, 2], "total": 4}), "end"),
        ("2", json!({"data": [1], "total": "3"}), "end"),
        ("2", json!({"data": [1, 2], "total": 4.0}), "end"),
        // No totals.
        ("2", json!({"data": [1, 2], "total": 0}), "4"),
        ("2", json!({"data": [1, 2], "total": -1}), "4"),
        ("2", json!({"data": [1, 2], "total": 3}), "4"),
        ("2", json!({"data": [1, 2], "total": null}), "4"),
        ("2", json!({"data": [1, 2], "total": "many"}), "4"),
        ("2", json!({"data": [1, 2], "total": 4.5}), "4"),
        ("2", json!({"data": [], "total": 0}), "end"),
        ("2", json!({"data": [], "total": 9}), "end"),
        // It could count the page.
        ("0", json!({"data": [1, 2], "total": 2}), "2"),
        ("0", json!({"data": [1], "total": 1}), "end"),
    ] {
        assert_eq!(next(&fields, position, &body), expected, "{position} {body}");
    }
    let from_one = fields.replace("parameter: from", "parameter: from, first: 1");
    assert_eq!(next(&from_one, "3", &json!({"data": [1, 2], "total": 5})), "5", "four of five are read");
    let short = format!("{fields}, endAs: [shortPage]");
    assert_eq!(next(&short, "2", &json!({"data": [1]})), "end");
    assert_eq!(next(&short, "2", &json!({"data": [1], "total": 9})), "3", "the total contradicts");
}

#[test]
fn a_total_below_what_was_read_is_none() {
    let fields =
        format!("pagination: {{kind: page, parameter: page, first: 1, next: [/next], total: [/a, /b], {SIZE}}}");
    for (body, total) in [
        (json!({"data": [1], "a": 11}), Some(11)),
        (json!({"data": [1], "a": 10}), None),
        (json!({"data": [1], "a": 0, "b": "12"}), Some(12)),
        (json!({"data": [1], "a": 1e2}), Some(100)),
        (json!({"data": [1], "a": true, "b": [12]}), None),
    ] {
        assert_eq!(page(&fields, "6", 10, &body).total, total, "{body}");
    }
}

#[test]
fn a_missing_flag_is_no_end_while_there_are_records() {
    let fields = format!("pagination: {{kind: lastRecordId, parameter: after, more: /more, {SIZE}}}");
    for (more, expected) in [
        (json!(true), "b"),
        (json!("true"), "b"),
        (json!(1), "b"),
        (json!("1"), "b"),
        (json!(false), "end"),
        (json!("False"), "end"),
        (json!(0), "end"),
        (json!("0"), "end"),
        (json!(null), "b"),
        (json!("maybe"), "b"),
        (json!([]), "b"),
        (json!(2), "b"),
    ] {
        assert_eq!(next(&fields, "", &json!({"data": [{"id": "a"}, {"id": "b"}], "more": more})), expected, "{more}");
    }
    let short = format!("{fields}, endAs: [shortPage]");
    for (fields, body, expected) in [
        (&fields, json!({"data": [{"id": "a"}]}), "a"),
        (&fields, json!({"data": []}), "end"),
        (&fields, json!({"data": null}), "end"),
        (&fields, json!({"data": [], "more": true}), "unreadable"),
        (&fields, json!({"data": [{}], "more": true}), "unreadable"),
        (&short, json!({"data": [{"id": "a"}]}), "end"),
        (&short, json!({"data": [{"id": "a"}], "more": true}), "a"),
        (&short, json!({"data": [{"id": "a"}, {"id": "b"}]}), "b"),
    ] {
        assert_eq!(next(fields, "", &body), expected, "{body}");
    }
}

#[test]
fn the_last_record_whose_id_can_be_sent_leads_to_the_next_page() {
    let fields = format!("pagination: {{kind: lastRecordId, parameter: after, more: /more, {SIZE}}}");
    let text = r#"{"data": [{"id": "a", "n": "\ud800"}, {"id": "b\udc00"}], "more": true}"#;
    let stream = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{}}\nstreams:\n  rows: {{record: document, path: /rows, records: [/data], key: /id, {fields}}}\n"
    );
    let profile = Profile::parse("x.yaml", &stream).unwrap();
    let requested = PageRequest { position: "", read_before: 0, total_before: None, header: None };
    let page = |text: &'static str| {
        page::parse(&BodyText::of(&Bytes::from_static(text.as_bytes())), &profile.streams["rows"], requested).unwrap()
    };
    assert_eq!(page(text).next, NextPage::At("a".to_owned()));
    assert_eq!(page(r#"{"data": [{"id": "b\udc00"}], "more": true}"#).next, NextPage::Unreadable);
    assert_eq!(page(r#"{"data": [{"id": "a"}, {}], "more": true}"#).next, NextPage::Unreadable);
}

#[test]
fn a_token_leads_on_and_what_is_none_is_the_end_unless_a_flag_contradicts() {
    let paging = |more: &str| {
        format!(
            "pagination: {{kind: token, from: {{kind: body, pointers: [/next]}}, to: {{kind: query, parameter: after}}, {more}{SIZE}}}"
        )
    };
    let (without, with) = (paging(""), paging("more: /more, "));
    let nothing = [json!(null), json!(""), json!(" "), json!(false), json!("null"), json!(0), json!("0"), json!(-1)];
    for token in nothing.into_iter().chain([json!([]), json!({})]) {
        let body = |more: Value| json!({"data": [1], "next": token, "more": more});
        assert_eq!(next(&without, "t", &body(json!(null))), "end", "{token}");
        assert_eq!(next(&with, "t", &body(json!("false"))), "end", "{token}");
        assert_eq!(next(&with, "t", &body(json!(true))), "unreadable", "{token}");
        assert_eq!(next(&with, "t", &body(json!(null))), "unreadable", "{token}: neither says that this is the end");
    }
    for token in [json!({"cursor": "x"}), json!(["x"]), json!(true)] {
        assert_eq!(next(&without, "t", &json!({"data": [1], "next": token})), "unreadable", "{token}");
    }
    for token in ["b&c=d", "-12", "1e5", "nullable"] {
        assert_eq!(next(&without, "t", &json!({"data": [1], "next": token})), token);
        assert_eq!(
            next(&with, "t", &json!({"data": [1], "next": token})),
            token,
            "without the flag, the token decides"
        );
        assert_eq!(next(&with, "t", &json!({"data": [1], "next": token, "more": 0})), "end");
    }
    assert_eq!(next(&with, "t", &json!({"data": []})), "end");
    assert_eq!(next(&format!("{with}, endAs: [shortPage]"), "t", &json!({"data": [1]})), "end");
}
