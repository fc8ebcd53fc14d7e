//! Parses a provider's response into a page: records, next page, total. Pure.
//!
//! No tree of the whole response is built: its parts are slices of it, and the records are parsed one by one. A
//! character that is not valid concerns the value that it is in, and no other: see [`BodyText`].
//!
//! A link to the next page is not followed here: what is used of it is decided by the walk, because following one would
//! let the provider choose where credentials are sent.

use std::collections::BTreeMap;

use serde_json::Value;

use super::available::Available;
use super::body_text::BodyText;
use super::paging::{self, NextPage, PageRecords, PageRequest, ReturnedToken};
use crate::domain::run_reason::RunReason;
use crate::profile::json::{self, JsonError};
use crate::profile::json_text;
use crate::profile::{EmptyForm, Pagination, RecordShape, Stream, TokenSource};

#[cfg(test)]
mod tests;

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
    /// The list of records that the provider withdrew.
    pub removed: Option<RecordList>,
    /// The page after it.
    pub next: NextPage,
    /// The token that the response returns, whether or not a page follows.
    pub token: Option<String>,
    /// Whether it returns a blank one.
    pub has_blank_token: bool,
    /// The provider's total of records in the window.
    pub total: Option<u64>,
    /// The range that the provider says it can show.
    pub available: Available,
}

/// A list of records.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordList {
    text: BodyText,
    /// Whether the text is one record and no list.
    is_one: bool,
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
        let texts: usize = self.lists.iter().chain(&self.removed).map(|list| list.text.memory()).sum();
        self.records.saturating_mul(RECORD_OVERHEAD).saturating_add(2 * texts)
    }

    /// Passes the records to `each`, one by one.
    pub fn each_record(&self, mut each: impl FnMut(Record<'_>)) -> Result<(), RunReason> {
        self.lists.iter().try_for_each(|list| list.each(&mut each))
    }

    /// Passes what the provider withdrew to `each`, one by one, and whether characters of it were replaced. One that is
    /// too large names no record.
    pub fn each_removed(&self, mut each: impl FnMut(&Value, bool)) -> Result<(), RunReason> {
        self.removed.iter().try_for_each(|list| {
            list.each(&mut |record| match record {
                Record::Parsed(value) => each(value, false),
                Record::Repaired(value) => each(value, true),
                Record::TooLarge(_) => {}
            })
        })
    }
}

impl RecordList {
    fn each(&self, each: &mut impl FnMut(Record<'_>)) -> Result<(), RunReason> {
        let document = self.text.part_text().map_err(|_| RunReason::BodyUnreadable)?;
        let mut read = |item: &str| {
            let sent = self.text.sent_as(item);
            let parsed = match sent {
                _ if item.len() > MAX_RECORD_BYTES => Err(JsonError::TooManyValues),
                None => json::parse_item(item),
                Some(sent) => json::parse(json_text::replaced(sent).as_bytes()),
            };
            let mut record = match parsed {
                Err(JsonError::TooManyValues) => {
                    each(Record::TooLarge(item));
                    return Ok(());
                }
                parsed => parsed?,
            };
            if let Some(fields) = record.as_object_mut() {
                fields.extend(self.add.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))));
            }
            each(if sent.is_none() { Record::Parsed(&record) } else { Record::Repaired(&record) });
            Ok::<_, JsonError>(())
        };
        let read = if self.is_one { read(document) } else { json::each_item(document, read) };
        read.map_err(|_| RunReason::BodyUnreadable)
    }
}

/// Parses the body of the page that was requested.
pub fn parse(body: &BodyText, stream: &Stream, requested: PageRequest<'_>) -> Result<Page, RunReason> {
    let found = Selection::of(body, stream)?;
    let mut page = Page::default();
    let mut last_id = LastId { body, stream, last: None, last_sound: None };
    let is_one = stream.shape == RecordShape::One;
    for (slice, add) in lists(&found, stream).ok_or(RunReason::SchemaDrifted)? {
        if is_one {
            page.records = 1;
            page.lists.push(RecordList { text: body.part(slice), is_one, add: stream.add.clone() });
            continue;
        }
        let counted = json::each_item(slice, |item| {
            page.records += 1;
            last_id.push(item);
            Ok::<_, JsonError>(())
        });
        counted.map_err(|_| RunReason::BodyUnreadable)?;
        let mut fields = stream.add.clone();
        fields.extend(add.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
        page.lists.push(RecordList { text: body.part(slice), is_one, add: fields });
    }
    if let Some(withdrawn) = &stream.removed {
        let slice = withdrawn.at.iter().filter_map(|pointer| found.slice(pointer)).find(|slice| json::is_list(slice));
        let list = |slice| RecordList { text: body.part(slice), is_one: false, add: BTreeMap::new() };
        page.removed = slice.map(list);
    }
    let (value, count, last_id) = (|pointer: &str| found.value(pointer), page.records as u64, last_id.read());
    if let Some(range) = stream.window.as_ref().and_then(|window| window.available.as_ref()) {
        page.available = Available::of(range, |pointer| value(pointer).ok().flatten());
    }
    page.total = paging::total(stream, &value, requested.read_before.saturating_add(count));
    let records = PageRecords { count, last_id: last_id.as_deref() };
    page.next = paging::next_page(stream, &value, requested, records, page.total);
    match paging::returned_token(stream, &value, requested.header) {
        ReturnedToken::Missing => {}
        ReturnedToken::Blank => page.has_blank_token = true,
        ReturnedToken::Token(token) => page.token = Some(token),
    }
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
        let removed = stream.removed.iter().flat_map(|list| &list.at);
        let lists = stream.records.iter().chain(stream.lists.iter().flat_map(|list| &list.at)).chain(removed);
        let available = stream.window.iter().filter_map(|window| window.available.as_ref());
        let bounds = available.flat_map(|range| range.from.iter().chain(&range.to));
        let mut pointers: Vec<&str> = lists.chain(bounds).map(String::as_str).collect();
        match &stream.pagination {
            Pagination::Page { next, total, .. } => pointers.extend(next.iter().chain(total).map(String::as_str)),
            Pagination::Offset { total, .. } => pointers.extend(total.iter().map(String::as_str)),
            Pagination::LastRecordId { more, .. } => pointers.push(more),
            Pagination::Token { from, more, .. } => {
                pointers.extend(more.iter().map(String::as_str));
                if let TokenSource::Body { pointers: tokens } = from {
                    pointers.extend(tokens.iter().map(String::as_str));
                }
            }
            Pagination::NextUrl { next, .. } => pointers.extend(next.iter().map(String::as_str)),
            Pagination::LinkHeader { .. } | Pagination::None => {}
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
    let is_wanted = |slice: &&str| match stream.shape {
        RecordShape::List => json::is_list(slice),
        RecordShape::One => json::is_object(slice) && !is_empty(slice, stream),
    };
    match slices().find(is_wanted) {
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
