//! Parses a provider's response into a page: records, next page, total. Pure.
//!
//! A link to the next page is never followed: only its parameter is used, because some providers return links to other
//! hosts, and following one would let the provider choose where credentials are sent.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::domain::run_reason::RunReason;
use crate::profile::json;
use crate::profile::{Pagination, Stream, TokenSource};

/// A page of records.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records, as the provider sent them.
    pub records: Vec<Value>,
    /// Position of the next page; `None` at the end.
    pub next: Option<String>,
    /// The provider's total of records in the window.
    pub total: Option<u64>,
}

/// Parses the body of the page that was requested at `position`.
pub fn parse(body: &[u8], stream: &Stream, position: &str) -> Result<Page, RunReason> {
    let mut body = parse_body(body)?;
    let (total, next_page) = (total(&body, &stream.pagination), next_page(&body, &stream.pagination)?);
    let records = records(&mut body, stream).ok_or(RunReason::SchemaDrifted)?;
    let next = match (&stream.pagination, next_page) {
        (Pagination::Offset { .. }, _) => next_offset(position, records.len() as u64, total)?,
        (Pagination::LastRecordId { .. }, NextPage::AfterLastRecord) => {
            let id = records.last().and_then(|record| text(record.pointer(&stream.key)?));
            Some(id.ok_or(RunReason::PaginationUnreadable)?)
        }
        (_, NextPage::Position(next)) => Some(next),
        (_, NextPage::AfterLastRecord | NextPage::End) => None,
    };
    Ok(Page { records, next, total })
}

/// The records of a response, from one list or several; `None` if a required list is missing. A missing array is schema
/// drift, not an empty page.
fn records(body: &mut Value, stream: &Stream) -> Option<Vec<Value>> {
    // The first pointer that leads to an array.
    let mut take = |pointers: &[String]| {
        let found = pointers.iter().find(|pointer| body.pointer(pointer).is_some_and(Value::is_array))?;
        match body.pointer_mut(found)?.take() {
            Value::Array(records) => Some(records),
            _ => None,
        }
    };
    if stream.lists.is_empty() {
        return take(&stream.records);
    }
    let (mut all, mut found) = (Vec::new(), false);
    for list in &stream.lists {
        let Some(mut records) = take(&list.at) else {
            if list.optional {
                continue;
            }
            return None;
        };
        found = true;
        for fields in records.iter_mut().filter_map(Value::as_object_mut) {
            fields.extend(list.add.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
        }
        all.append(&mut records);
    }
    found.then_some(all)
}

/// Parses the body of a successful response as JSON. The caller has checked the classification.
pub fn parse_body(body: &[u8]) -> Result<Value, RunReason> {
    json::parse(body).map_err(|_| RunReason::BodyUnreadable)
}

/// The next page according to the response's body.
enum NextPage {
    /// There is none.
    End,
    /// There is one, which starts after the last record.
    AfterLastRecord,
    /// The page with this number or token.
    Position(String),
}

fn next_page(body: &Value, pagination: &Pagination) -> Result<NextPage, RunReason> {
    let unreadable = || RunReason::PaginationUnreadable;
    // A missing flag is an error: a truncated list must not look complete.
    let more = |pointer: &str| body.pointer(pointer).and_then(Value::as_bool).ok_or_else(unreadable);
    match pagination {
        Pagination::Page { parameter, next, .. } => {
            Ok(page_number(body, parameter, next)?.map_or(NextPage::End, NextPage::Position))
        }
        Pagination::LastRecordId { more: at, .. } => {
            Ok(if more(at)? { NextPage::AfterLastRecord } else { NextPage::End })
        }
        Pagination::Token { from: TokenSource::Body { pointers }, more: at, .. } => {
            let token = pointers.iter().find_map(|pointer| text(body.pointer(pointer)?));
            match (at.as_deref().map(more).transpose()?, token) {
                (Some(false), _) | (None, None) => Ok(NextPage::End),
                (Some(true), None) => Err(unreadable()),
                (_, Some(token)) => Ok(NextPage::Position(token)),
            }
        }
        // Jobs with such a stream are rejected at validation; here a truncated list would look complete.
        Pagination::Token { .. } | Pagination::NextUrl { .. } | Pagination::LinkHeader { .. } => Err(unreadable()),
        Pagination::Offset { .. } | Pagination::None => Ok(NextPage::End),
    }
}

/// A non-blank string, or a number, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn page_number(body: &Value, parameter: &str, next: &[String]) -> Result<Option<String>, RunReason> {
    let value = next.iter().filter_map(|pointer| body.pointer(pointer)).find(|value| !value.is_null());
    let text = match value {
        None => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(RunReason::PaginationUnreadable),
    };
    let token = if text.bytes().all(|b| b.is_ascii_digit()) { Some(text) } else { query_value(&text, parameter) };
    match token.as_deref().map(str::parse::<u64>) {
        Some(Ok(page)) => Ok(Some(page.to_string())),
        _ => Err(RunReason::PaginationUnreadable),
    }
}

/// The offset after a page; `None` at the end, which is the total if there is one, else an empty page.
fn next_offset(position: &str, read: u64, total: Option<u64>) -> Result<Option<String>, RunReason> {
    let offset: u64 = position.parse().map_err(|_| RunReason::PaginationUnreadable)?;
    let next = offset.saturating_add(read);
    let more = read > 0 && total.is_none_or(|total| next < total);
    Ok(more.then(|| next.to_string()))
}

fn total(body: &Value, pagination: &Pagination) -> Option<u64> {
    let (Pagination::Page { total, .. } | Pagination::Offset { total, .. }) = pagination else { return None };
    total.iter().find_map(|pointer| body.pointer(pointer)?.as_u64())
}

/// The value of a query parameter in an absolute or relative URL.
fn query_value(url: &str, parameter: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let query = query.split('#').next().unwrap_or(query);
    query.split('&').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (percent_decode_str(name).decode_utf8().ok()? == parameter)
            .then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tests::stream;

    fn page(body: &str) -> Result<Page, RunReason> {
        parse(body.as_bytes(), &stream(10), "1")
    }

    #[test]
    fn flat_and_nested_bodies_parse_to_the_same_page() {
        let flat = page(r#"{"data": [1, 2], "meta": {"total": 7, "next": "https://x/v2/acc/transactions?page=2"}}"#);
        let nested =
            page(r#"{"data": {"transactions": [1, 2], "paging": {"total": 7, "next": "/t?limit=2&page=2#x"}}}"#);
        assert_eq!(flat, nested);
        let flat = flat.unwrap();
        assert_eq!((flat.records.len(), flat.next.as_deref(), flat.total), (2, Some("2"), Some(7)));
    }

    #[test]
    fn a_missing_next_page_is_the_end_of_the_list() {
        for meta in ["{}", r#"{"next": null}"#, r#"{"next": ""}"#] {
            assert_eq!(page(&format!(r#"{{"data": [], "meta": {meta}}}"#)).unwrap().next, None, "{meta}");
        }
        for (next, token) in
            [("3", "3"), ("\"3\"", "3"), ("\"?page=%33\"", "3"), ("\"https://evil.test/?page=003\"", "3")]
        {
            let body = format!(r#"{{"data": [], "meta": {{"next": {next}}}}}"#);
            assert_eq!(page(&body).unwrap().next.as_deref(), Some(token), "{next}");
        }
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
            (r#"{"data": null}"#, RunReason::SchemaDrifted),
            (r#"{"data": [], "meta": {"next": "https://x/?cursor=2"}}"#, RunReason::PaginationUnreadable),
            (r#"{"data": [], "meta": {"next": "?page=-1"}}"#, RunReason::PaginationUnreadable),
            (r#"{"data": [], "meta": {"next": ["2"]}}"#, RunReason::PaginationUnreadable),
        ] {
            assert_eq!(page(body), Err(reason), "{body}");
        }
        assert_eq!(page("\u{feff}{\"data\": []}").unwrap().records.len(), 0, "a byte order mark is ignored");
    }

    #[test]
    fn numbers_keep_all_digits() {
        let page = page(r#"{"data": [123456789012345678901234567890.10]}"#).unwrap();
        assert_eq!(page.records[0].to_string(), "123456789012345678901234567890.10");
    }
}
