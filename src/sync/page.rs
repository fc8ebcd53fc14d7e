//! Parses a provider's response into a page: records, next page, total. Pure.
//!
//! No tree of the whole response is built: its parts are slices of it, and the records are parsed one by one.
//!
//! A link to the next page is never followed: only its parameter is used, because some providers return links to other
//! hosts, and following one would let the provider choose where credentials are sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::domain::run_reason::RunReason;
use crate::profile::json::{self, JsonError, MAX_TREE_VALUES, Scan};
use crate::profile::{Pagination, Stream, TokenSource};

/// Longest position of a next page, and longest text of an account, in bytes: it is stored with the cursor, and sent.
const MAX_TEXT: usize = 4096;
/// Largest record, in bytes; real ones have a few kilobytes.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;
/// Memory of a converted record in addition to its texts: a row, its entry while duplicates are dropped, and its copy
/// while it is committed.
const RECORD_OVERHEAD: usize = 1280;

/// A page of records, none of which is parsed yet: a list of a million small ones would take a gigabyte.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The lists of records, as parts of the response's body.
    pub lists: Vec<RecordList>,
    /// The number of their records.
    pub records: usize,
    /// Position of the next page; `None` at the end.
    pub next: Option<String>,
    /// The provider's total of records in the window.
    pub total: Option<u64>,
}

/// A list of records.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordList {
    slice: Bytes,
    /// Fields that are added to each record.
    add: BTreeMap<String, String>,
}

/// A record of a page.
pub enum Record<'a> {
    /// As the provider sent it.
    Parsed(&'a Value),
    /// Its text, which is too large to be parsed.
    TooLarge(&'a str),
}

impl Page {
    /// The memory of the page when its records are converted and committed, in bytes.
    pub fn memory(&self) -> usize {
        let texts: usize = self.lists.iter().map(|list| list.slice.len()).sum();
        self.records.saturating_mul(RECORD_OVERHEAD).saturating_add(2 * texts)
    }

    /// Passes the records to `each`, one by one.
    pub fn each_record(&self, mut each: impl FnMut(Record<'_>)) -> Result<(), RunReason> {
        for list in &self.lists {
            let slice = std::str::from_utf8(&list.slice).map_err(|_| RunReason::BodyUnreadable)?;
            let read = json::each_item(slice, |item| {
                if item.len() > MAX_RECORD_BYTES || Scan::new(MAX_TREE_VALUES).push(item.as_bytes()).is_err() {
                    each(Record::TooLarge(item));
                    return Ok(());
                }
                let mut record = json::parse(item.as_bytes())?;
                if let Some(fields) = record.as_object_mut() {
                    let added = list.add.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())));
                    fields.extend(added);
                }
                each(Record::Parsed(&record));
                Ok::<_, JsonError>(())
            });
            read.map_err(|_| RunReason::BodyUnreadable)?;
        }
        Ok(())
    }
}

/// Parses the body of the page that was requested at `position`.
pub fn parse(body: &Bytes, stream: &Stream, position: &str) -> Result<Page, RunReason> {
    let found = Selection::of(body, stream)?;
    let (total, next_page) = (total(&found, &stream.pagination)?, next_page(&found, &stream.pagination)?);
    let mut page = Page { lists: Vec::new(), records: 0, next: None, total };
    let mut last = None;
    for (slice, add) in lists(&found, stream).ok_or(RunReason::SchemaDrifted)? {
        let counted = json::each_item(slice, |item| {
            page.records += 1;
            last = Some(item);
            Ok::<_, JsonError>(())
        });
        counted.map_err(|_| RunReason::BodyUnreadable)?;
        page.lists.push(RecordList { slice: body.slice_ref(slice.as_bytes()), add: add.cloned().unwrap_or_default() });
    }
    page.next = match (&stream.pagination, next_page) {
        (Pagination::Offset { .. }, _) => next_offset(position, page.records as u64, total)?,
        (Pagination::LastRecordId { .. }, NextPage::AfterLastRecord) => {
            let id = last.map(|record| value_at(record, &stream.key)).transpose()?.flatten();
            Some(id.as_ref().and_then(text).ok_or(RunReason::PaginationUnreadable)?)
        }
        (_, NextPage::Position(next)) => Some(next),
        (_, NextPage::AfterLastRecord | NextPage::End) => None,
    };
    Ok(page)
}

/// The texts at JSON pointers into the body of a successful response.
pub fn texts(body: &[u8], pointers: &[&str]) -> Result<Vec<Option<String>>, RunReason> {
    let document = json::text(body).map_err(|_| RunReason::BodyUnreadable)?;
    let slices = json::select(document, pointers).map_err(|_| RunReason::BodyUnreadable)?;
    let text = |slice: Option<&str>| match scalar(slice?) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    };
    Ok(slices.into_iter().map(text).collect())
}

/// The parts of a response that a stream reads.
struct Selection<'a> {
    pointers: Vec<&'a str>,
    slices: Vec<Option<&'a str>>,
}

impl<'a> Selection<'a> {
    fn of(body: &'a [u8], stream: &'a Stream) -> Result<Self, RunReason> {
        let lists = stream.records.iter().chain(stream.lists.iter().flat_map(|list| &list.at));
        let mut pointers: Vec<&str> = lists.map(String::as_str).collect();
        match &stream.pagination {
            Pagination::Page { next, total, .. } => pointers.extend(next.iter().chain(total).map(String::as_str)),
            Pagination::Offset { total, .. } => pointers.extend(total.iter().map(String::as_str)),
            Pagination::LastRecordId { more, .. } => pointers.push(more),
            Pagination::Token { from: TokenSource::Body { pointers: tokens }, more, .. } => {
                pointers.extend(tokens.iter().chain(more).map(String::as_str));
            }
            _ => {}
        }
        let unreadable = |_| RunReason::BodyUnreadable;
        let document = json::text(body).map_err(unreadable)?;
        let slices = json::select(document, &pointers).map_err(unreadable)?;
        Ok(Self { pointers, slices })
    }

    /// The slice at `pointer`.
    fn slice(&self, pointer: &str) -> Option<&'a str> {
        let at = self.pointers.iter().position(|other| *other == pointer)?;
        self.slices.get(at).copied().flatten()
    }

    /// The value at `pointer`, which is small.
    fn value(&self, pointer: &str) -> Result<Option<Value>, RunReason> {
        self.slice(pointer).map(scalar).transpose()
    }
}

/// The small value at `pointer` into a record.
fn value_at(record: &str, pointer: &str) -> Result<Option<Value>, RunReason> {
    let found = json::select(record, &[pointer]).map_err(|_| RunReason::BodyUnreadable)?;
    found.into_iter().flatten().next().map(scalar).transpose()
}

/// A small value.
fn scalar(slice: &str) -> Result<Value, RunReason> {
    if slice.len() > MAX_TEXT {
        return Err(RunReason::PaginationUnreadable);
    }
    json::parse(slice.as_bytes()).map_err(|_| RunReason::BodyUnreadable)
}

/// The text of a list of records, and the fields to add to its records.
type ListText<'a> = (&'a str, Option<&'a BTreeMap<String, String>>);

/// The lists of records of a response, each with the fields to add to its records; `None` if a required list is
/// missing. A missing array is schema drift, not an empty page.
fn lists<'a>(found: &Selection<'a>, stream: &'a Stream) -> Option<Vec<ListText<'a>>> {
    // The first pointer that leads to an array.
    let list = |pointers: &[String]| {
        pointers.iter().filter_map(|pointer| found.slice(pointer)).find(|slice| json::is_list(slice))
    };
    if stream.lists.is_empty() {
        return Some(vec![(list(&stream.records)?, None)]);
    }
    let mut all = Vec::new();
    for wanted in &stream.lists {
        match list(&wanted.at) {
            Some(slice) => all.push((slice, Some(&wanted.add))),
            None if wanted.optional => {}
            None => return None,
        }
    }
    (!all.is_empty()).then_some(all)
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

fn next_page(found: &Selection<'_>, pagination: &Pagination) -> Result<NextPage, RunReason> {
    let unreadable = || RunReason::PaginationUnreadable;
    // A missing flag is an error: a truncated list must not look complete.
    let more = |pointer: &str| found.value(pointer)?.as_ref().and_then(Value::as_bool).ok_or_else(unreadable);
    match pagination {
        Pagination::Page { parameter, next, .. } => {
            Ok(page_number(found, parameter, next)?.map_or(NextPage::End, NextPage::Position))
        }
        Pagination::LastRecordId { more: at, .. } => {
            Ok(if more(at)? { NextPage::AfterLastRecord } else { NextPage::End })
        }
        Pagination::Token { from: TokenSource::Body { pointers }, more: at, .. } => {
            let values = pointers.iter().map(|pointer| found.value(pointer)).collect::<Result<Vec<_>, _>>()?;
            let token = values.iter().flatten().find_map(text);
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

fn page_number(found: &Selection<'_>, parameter: &str, next: &[String]) -> Result<Option<String>, RunReason> {
    let values = next.iter().map(|pointer| found.value(pointer)).collect::<Result<Vec<_>, _>>()?;
    let text = match values.into_iter().flatten().find(|value| !value.is_null()) {
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

fn total(found: &Selection<'_>, pagination: &Pagination) -> Result<Option<u64>, RunReason> {
    let (Pagination::Page { total, .. } | Pagination::Offset { total, .. }) = pagination else { return Ok(None) };
    let values = total.iter().map(|pointer| found.value(pointer)).collect::<Result<Vec<_>, _>>()?;
    Ok(values.into_iter().flatten().find_map(|value| value.as_u64()))
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
        parse(&Bytes::copy_from_slice(body.as_bytes()), &stream(10), "1")
    }

    fn records(page: &Page) -> Result<Vec<String>, RunReason> {
        let mut all = Vec::new();
        page.each_record(|record| {
            all.push(match record {
                Record::Parsed(value) => value.to_string(),
                Record::TooLarge(_) => "too large".to_owned(),
            });
        })?;
        Ok(all)
    }

    #[test]
    fn flat_and_nested_bodies_parse_to_the_same_page() {
        let flat = page(r#"{"data": [1, 2], "meta": {"total": 7, "next": "https://x/v2/acc/transactions?page=2"}}"#);
        let nested =
            page(r#"{"data": {"transactions": [1, 2], "paging": {"total": 7, "next": "/t?limit=2&page=2#x"}}}"#);
        assert_eq!(flat, nested);
        let flat = flat.unwrap();
        assert_eq!((flat.records, flat.next.as_deref(), flat.total), (2, Some("2"), Some(7)));
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
    fn a_position_too_long_to_be_sent_or_stored_is_rejected() {
        let body = format!(r#"{{"data": [], "meta": {{"next": "https://x/?page=2&x={}"}}}}"#, "x".repeat(MAX_TEXT));
        assert_eq!(page(&body), Err(RunReason::PaginationUnreadable));
    }

    #[test]
    fn a_record_that_is_not_json_makes_the_body_unreadable() {
        let page = page(r#"{"data": [1, "\ud800"]}"#).unwrap();
        assert_eq!(records(&page), Err(RunReason::BodyUnreadable));
    }
}
