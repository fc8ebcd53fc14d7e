//! Parses a provider's response into a page: records, next page, total. Pure.
//!
//! No tree of the whole response is built: its parts are slices of it, and the records are parsed one by one. A
//! character that is not valid concerns the value that it is in, and no other: see [`BodyText`].
//!
//! A link to the next page is never followed: only its parameter is used, because some providers return links to other
//! hosts, and following one would let the provider choose where credentials are sent.

use std::collections::BTreeMap;

use serde_json::Value;

use super::body_text::BodyText;
use super::paging::{self, NextPage, PageRecords, PageRequest};
use crate::domain::run_reason::RunReason;
use crate::profile::json::{self, JsonError, MAX_TREE_VALUES, Scan};
use crate::profile::json_text;
use crate::profile::{EmptyForm, Pagination, Stream, TokenSource};

/// Largest record, in bytes; real ones have a few kilobytes.
pub const MAX_RECORD_BYTES: usize = 256 * 1024;
/// Memory of a converted record in addition to its texts: a row, its entry while duplicates are dropped, and its copy
/// while it is committed.
const RECORD_OVERHEAD: usize = 1280;
/// Longest value that can stand for an empty list, in bytes: `null`, a blank text, an object without members.
const MAX_EMPTY_BYTES: usize = 64;

/// A page of records, none of which is parsed yet: a list of a million small ones would take a gigabyte. The default is
/// an empty list without a next page.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Page {
    /// The lists of records, as parts of the response's body.
    pub lists: Vec<RecordList>,
    /// The number of their records.
    pub records: usize,
    /// The page after it.
    pub next: NextPage,
    /// The provider's total of records in the window.
    pub total: Option<u64>,
}

/// A list of records.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordList {
    text: BodyText,
    /// Fields that are added to each record.
    add: BTreeMap<String, String>,
}

/// A record of a page.
pub enum Record<'a> {
    /// As the provider sent it.
    Parsed(&'a Value),
    /// With replacements for characters that are not valid.
    Repaired(&'a Value),
    /// Its text, which is too large to be parsed.
    TooLarge(&'a str),
}

impl Page {
    /// The memory of the page when its records are converted and committed, in bytes.
    pub fn memory(&self) -> usize {
        let texts: usize = self.lists.iter().map(|list| list.text.memory()).sum();
        self.records.saturating_mul(RECORD_OVERHEAD).saturating_add(2 * texts)
    }

    /// Passes the records to `each`, one by one.
    pub fn each_record(&self, mut each: impl FnMut(Record<'_>)) -> Result<(), RunReason> {
        for list in &self.lists {
            let document = list.text.document().map_err(|_| RunReason::BodyUnreadable)?;
            let read = json::each_item(document, |item| {
                if item.len() > MAX_RECORD_BYTES || Scan::new(MAX_TREE_VALUES).push(item.as_bytes()).is_err() {
                    each(Record::TooLarge(item));
                    return Ok(());
                }
                let sent = list.text.sent_as(item);
                let mut record = match sent {
                    None => json::parse(item.as_bytes())?,
                    Some(sent) => json::parse(json_text::replaced(sent).as_bytes())?,
                };
                if let Some(fields) = record.as_object_mut() {
                    let added = list.add.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())));
                    fields.extend(added);
                }
                each(if sent.is_none() { Record::Parsed(&record) } else { Record::Repaired(&record) });
                Ok::<_, JsonError>(())
            });
            read.map_err(|_| RunReason::BodyUnreadable)?;
        }
        Ok(())
    }
}

/// Parses the body of the page that was requested.
pub fn parse(body: &BodyText, stream: &Stream, requested: PageRequest<'_>) -> Result<Page, RunReason> {
    let found = Selection::of(body, stream)?;
    let mut page = Page::default();
    let mut last_id = LastId { body, stream, last: None, last_sound: None };
    for (slice, add) in lists(&found, stream).ok_or(RunReason::SchemaDrifted)? {
        let counted = json::each_item(slice, |item| {
            page.records += 1;
            last_id.push(item);
            Ok::<_, JsonError>(())
        });
        counted.map_err(|_| RunReason::BodyUnreadable)?;
        page.lists.push(RecordList { text: body.part(slice), add: add.cloned().unwrap_or_default() });
    }
    let (value, count, last_id) = (|pointer: &str| found.value(pointer), page.records as u64, last_id.read());
    page.total = paging::total(stream, &value, requested.read_before.saturating_add(count));
    let records = PageRecords { count, last_id: last_id.as_deref() };
    page.next = paging::next_page(stream, &value, requested, records, page.total);
    Ok(page)
}

/// Finds the ID of the last record, for streams whose pages start after it.
struct LastId<'a> {
    body: &'a BodyText,
    stream: &'a Stream,
    last: Option<&'a str>,
    /// The last record whose ID can be sent, whatever is in the ones after it.
    last_sound: Option<&'a str>,
}

impl<'a> LastId<'a> {
    fn push(&mut self, record: &'a str) {
        if matches!(self.stream.pagination, Pagination::LastRecordId { .. }) {
            self.last = Some(record);
            if self.body.sent_as(record).is_none() || !self.is_repaired(record) {
                self.last_sound = Some(record);
            }
        }
    }

    /// The ID. The record after which the next page starts may be an earlier one: those after it are read again.
    fn read(&self) -> Option<String> {
        let last = self.last.filter(|record| !self.is_repaired(record)).or(self.last_sound);
        paging::id(&self.body.scalar(self.slice(last?)?).ok()?)
    }

    /// Whether a character of its ID is not valid.
    fn is_repaired(&self, record: &'a str) -> bool {
        self.slice(record).is_some_and(|id| self.body.sent_as(id).is_some())
    }

    fn slice(&self, record: &'a str) -> Option<&'a str> {
        json::select(record, &[self.stream.key.as_str()]).ok()?.into_iter().flatten().next()
    }
}

/// The parts of a response that a stream reads.
struct Selection<'a> {
    body: &'a BodyText,
    pointers: Vec<&'a str>,
    slices: Vec<Option<&'a str>>,
}

impl<'a> Selection<'a> {
    fn of(body: &'a BodyText, stream: &'a Stream) -> Result<Self, RunReason> {
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
        let document = body.document().map_err(unreadable)?;
        let slices = json::select(document, &pointers).map_err(unreadable)?;
        Ok(Self { body, pointers, slices })
    }

    /// The slice at `pointer`.
    fn slice(&self, pointer: &str) -> Option<&'a str> {
        let at = self.pointers.iter().position(|other| *other == pointer)?;
        self.slices.get(at).copied().flatten()
    }

    /// The value at `pointer`, which is small.
    fn value(&self, pointer: &str) -> Result<Option<Value>, RunReason> {
        self.slice(pointer).map(|slice| self.body.scalar(slice)).transpose()
    }
}

/// The text of a list of records, and the fields to add to its records.
type ListText<'a> = (&'a str, Option<&'a BTreeMap<String, String>>);

/// What is in the place of a list.
enum Place<'a> {
    List(&'a str),
    Empty,
    Nothing,
}

/// The lists of records of a response, each with the fields to add to its records; `None` if a required list is
/// missing. What is no list is schema drift, not an empty page, unless the stream says otherwise.
fn lists<'a>(found: &Selection<'a>, stream: &'a Stream) -> Option<Vec<ListText<'a>>> {
    let may_lack = |optional: bool| optional || stream.empty_as.contains(&EmptyForm::Missing);
    if stream.lists.is_empty() {
        return match place(found, &stream.records, stream) {
            Place::List(slice) => Some(vec![(slice, None)]),
            Place::Empty => Some(Vec::new()),
            Place::Nothing => may_lack(false).then(Vec::new),
        };
    }
    let (mut all, mut is_some) = (Vec::new(), may_lack(false));
    for wanted in &stream.lists {
        match place(found, &wanted.at, stream) {
            Place::List(slice) => all.push((slice, Some(&wanted.add))),
            Place::Empty => is_some = true,
            Place::Nothing if may_lack(wanted.optional) => {}
            Place::Nothing => return None,
        }
    }
    (is_some || !all.is_empty()).then_some(all)
}

/// The first of these pointers that leads to a list decides; without any, whether one leads to what stands for an empty
/// list.
fn place<'a>(found: &Selection<'a>, pointers: &[String], stream: &Stream) -> Place<'a> {
    let slices = || pointers.iter().filter_map(|pointer| found.slice(pointer));
    match slices().find(|slice| json::is_list(slice)) {
        Some(list) => Place::List(list),
        None if slices().any(|slice| is_empty(slice, stream)) => Place::Empty,
        None => Place::Nothing,
    }
}

/// Whether a value in the place of a list stands for an empty one.
fn is_empty(slice: &str, stream: &Stream) -> bool {
    if slice.len() > MAX_EMPTY_BYTES {
        return false;
    }
    let form = match json::parse(slice.as_bytes()) {
        Ok(Value::Null) => EmptyForm::NullValue,
        Ok(Value::String(text)) if text.trim().is_empty() => EmptyForm::BlankText,
        Ok(Value::Object(members)) if members.is_empty() => EmptyForm::EmptyObject,
        _ => return false,
    };
    stream.empty_as.contains(&form)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sync::tests::stream;

    fn page_of(body: &[u8], stream: &Stream) -> Result<Page, RunReason> {
        let requested = PageRequest { position: "1", read_before: 0, total_before: None };
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
        let nested =
            page(r#"{"data": {"transactions": [1, 2], "paging": {"total": 7, "next": "/t?limit=2&page=2#x"}}}"#);
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
            [
                "repaired {\"n\":\"\u{fffd}\"}",
                "repaired {\"n\":\"caf\u{fffd}\"}",
                "{\"a\":1.50,\"n\":\"fine \u{1f600}\"}"
            ]
        );
    }

    #[test]
    fn a_bad_character_outside_of_a_text_makes_the_body_unreadable() {
        for body in [&b"{\"data\": [1\xff]}"[..], b"\xff\xfe{\0\"\0", b"{\"data\": [\"caf\xc3"] {
            assert_eq!(page_of(body, &stream(10)), Err(RunReason::BodyUnreadable));
        }
    }
}
