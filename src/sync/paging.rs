//! What a response says about its list: the page after it, and the number of all records. Pure.
//!
//! Providers say that there is no next page in many ways: no member, `null`, a blank text, `false`, a number below the
//! first page, the word `null`. What they say unreadably is not the end: [`NextPage::Unreadable`]. Whether a page that
//! leads back to itself is the end is judged by the walk, which knows the pages before.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::Value;

use crate::domain::run_reason::RunReason;
use crate::profile::{EndSign, Pagination, Stream, TokenSource};

/// Words that say that there is nothing, in the place of a page or token.
const NOTHING: [&str; 7] = ["null", "none", "nil", "undefined", "false", "nan", "-1"];

/// The page after a response.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum NextPage {
    /// There is none.
    #[default]
    End,
    /// At this number, offset or token.
    At(String),
    /// It cannot be read from the response.
    Unreadable,
}

/// The page that was requested.
#[derive(Copy, Clone, Debug)]
pub struct PageRequest<'a> {
    /// Its number, offset or token; empty for the first one of token pagination.
    pub position: &'a str,
    /// The records of the window before it.
    pub read_before: u64,
    /// The provider's total on the page before it.
    pub total_before: Option<u64>,
    /// The token or the target of the link in the header that the stream declares, if the response has it.
    pub header: Option<&'a str>,
}

/// What a page holds, besides what the response says about it.
#[derive(Copy, Clone, Debug)]
pub(super) struct PageRecords<'a> {
    /// The number of its records.
    pub(super) count: u64,
    /// The ID of its last record, if that has one that can be sent.
    pub(super) last_id: Option<&'a str>,
}

/// A small value of the response.
pub(super) type Lookup<'a> = dyn Fn(&str) -> Result<Option<Value>, RunReason> + 'a;

/// The provider's total of records in the window, as far as it can be one: a number above 0, and not below the number
/// of records read.
pub(super) fn total(stream: &Stream, value: &Lookup<'_>, read: u64) -> Option<u64> {
    let (Pagination::Page { total, .. } | Pagination::Offset { total, .. }) = &stream.pagination else { return None };
    // A total that cannot be read is none; the walk goes by what it is given otherwise.
    let values = total.iter().filter_map(|pointer| value(pointer).ok().flatten());
    values.filter_map(|value| whole_number(&value)).find(|total| *total > 0 && *total >= read)
}

/// The page after one with these `records`.
pub(super) fn next_page(
    stream: &Stream,
    value: &Lookup<'_>,
    requested: PageRequest<'_>,
    records: PageRecords<'_>,
    total: Option<u64>,
) -> NextPage {
    let size = stream.pagination.page_size().map(|(_, size)| size);
    let is_short = stream.end_as.contains(&EndSign::ShortPage) && size.is_some_and(|size| records.count < size);
    let pages = Pages { value, records, header: requested.header, is_short };
    match &stream.pagination {
        Pagination::Page { next, first, .. } if next.is_empty() => pages.counted(*first, requested, total),
        Pagination::Page { parameter, first, next, .. } => {
            pages.numbered(parameter, *first, next, requested.position.parse().unwrap_or(*first))
        }
        Pagination::Offset { first, size, .. } => pages.by_offset(*first, *size, requested, total),
        Pagination::LastRecordId { more, .. } => pages.after_last_record(more),
        Pagination::Token { from, more, .. } => pages.by_token(from, more.as_deref()),
        Pagination::NextUrl { next, .. } => by_link(pages.statement(next)),
        Pagination::LinkHeader { .. } => by_link(pages.header_statement()),
        Pagination::None => NextPage::End,
    }
}

/// The token that a response returns, whether or not it says that a page follows.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) enum ReturnedToken {
    /// It returns none.
    #[default]
    Missing,
    /// It returns a blank one.
    Blank,
    /// This one.
    Token(String),
}

/// The token that a response returns, of a stream whose pages have tokens.
pub(super) fn returned_token(stream: &Stream, value: &Lookup<'_>, header: Option<&str>) -> ReturnedToken {
    let Pagination::Token { from, .. } = &stream.pagination else { return ReturnedToken::Missing };
    let text = match from {
        TokenSource::Header { .. } => header.map(str::to_owned),
        TokenSource::Body { pointers } => {
            let found = |pointer: &String| value(pointer).ok().flatten().filter(|value| !value.is_null());
            pointers.iter().find_map(found).and_then(|value| match value {
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
        }
    };
    match text.as_deref().map(str::trim) {
        None => ReturnedToken::Missing,
        Some("") => ReturnedToken::Blank,
        Some(token) => ReturnedToken::Token(token.to_owned()),
    }
}

/// What a value in the place of the next page says.
enum Statement {
    /// There is no next page.
    Nothing,
    /// There is one, without its position.
    More,
    /// A position, or a link with it.
    Text(String),
    /// Something else.
    Unreadable,
}

struct Pages<'a> {
    value: &'a Lookup<'a>,
    records: PageRecords<'a>,
    /// What the header that the stream declares holds.
    header: Option<&'a str>,
    /// Whether the page is the end unless the response says otherwise.
    is_short: bool,
}

impl Pages<'_> {
    /// What the first of these pointers that leads to something says.
    fn statement(&self, pointers: &[String]) -> Statement {
        for pointer in pointers {
            match (self.value)(pointer) {
                Ok(None | Some(Value::Null)) => {}
                Ok(Some(value)) => return statement(&value),
                Err(_) => return Statement::Unreadable,
            }
        }
        Statement::Nothing
    }

    /// What the flag says; `None` if it is missing or something else than a flag.
    fn flag(&self, pointer: &str) -> Option<bool> {
        match (self.value)(pointer).ok()?? {
            Value::Bool(flag) => Some(flag),
            Value::Number(number) => is_one(&number.to_string()),
            Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "yes" => Some(true),
                "false" | "no" => Some(false),
                number => is_one(number),
            },
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn numbered(&self, parameter: &str, first: u64, next: &[String], position: u64) -> NextPage {
        let text = match self.statement(next) {
            Statement::Nothing => return NextPage::End,
            Statement::More => return NextPage::At(position.saturating_add(1).to_string()),
            Statement::Unreadable => return NextPage::Unreadable,
            Statement::Text(text) => text,
        };
        let number = match Decimal::from_str(&text) {
            Ok(number) => Some(number),
            Err(_) => query_value(&text, parameter).and_then(|value| Decimal::from_str(value.trim()).ok()),
        };
        match number.filter(Decimal::is_integer) {
            Some(number) if number.is_sign_negative() || number.to_u64().is_some_and(|number| number < first) => {
                NextPage::End
            }
            Some(number) => number.to_u64().map_or(NextPage::Unreadable, |number| NextPage::At(number.to_string())),
            None => NextPage::Unreadable,
        }
    }

    /// The next number, of a response that does not link to it. The end is the total if there is one, else an empty page.
    fn counted(&self, first: u64, requested: PageRequest<'_>, total: Option<u64>) -> NextPage {
        let position = requested.position.parse().unwrap_or(first);
        let read = requested.read_before.saturating_add(self.records.count);
        let at_total = total.is_some_and(|total| read >= total);
        if self.records.count == 0 || at_total || (total.is_none() && self.is_short) {
            return NextPage::End;
        }
        NextPage::At(position.saturating_add(1).to_string())
    }

    /// The next offset is after the records received. The end is the total if there is one, else an empty page.
    fn by_offset(&self, first: u64, size: u64, requested: PageRequest<'_>, total: Option<u64>) -> NextPage {
        let Ok(offset) = requested.position.parse::<u64>() else { return NextPage::Unreadable };
        let next = offset.saturating_add(self.records.count);
        // The "total" of a full page may be the number of the records so far: one page more shows it.
        let may_grow = match requested.total_before {
            None => offset == first && total == Some(self.records.count),
            before => before != total,
        };
        let may_count_read = self.records.count >= size && may_grow;
        let at_total = !may_count_read && total.is_some_and(|total| next.saturating_sub(first) >= total);
        if self.records.count == 0 || at_total || (total.is_none() && self.is_short) {
            return NextPage::End;
        }
        NextPage::At(next.to_string())
    }

    /// Without the flag, an empty page is the end: a truncated list must not look complete.
    fn after_last_record(&self, more: &str) -> NextPage {
        match (self.flag(more), self.records.last_id) {
            (Some(false), _) => NextPage::End,
            (None, _) if self.records.count == 0 || self.is_short => NextPage::End,
            (_, Some(id)) => NextPage::At(id.to_owned()),
            (_, None) => NextPage::Unreadable,
        }
    }

    /// What the header that the stream declares says.
    fn header_statement(&self) -> Statement {
        self.header.map_or(Statement::Nothing, |text| statement(&Value::String(text.to_owned())))
    }

    /// The flag decides, if there is one; without it, the token does.
    fn by_token(&self, from: &TokenSource, more: Option<&str>) -> NextPage {
        let flag = more.map(|more| self.flag(more));
        if flag == Some(Some(false)) {
            return NextPage::End;
        }
        let token = match from {
            TokenSource::Body { pointers } => self.statement(pointers),
            TokenSource::Header { .. } => self.header_statement(),
        };
        match (token, flag) {
            (Statement::Text(token), _) if token != "0" => NextPage::At(token),
            // No flag is declared.
            (Statement::Nothing | Statement::Text(_), None) => NextPage::End,
            // It is missing: neither says that this is the end.
            (Statement::Nothing | Statement::Text(_), Some(None)) if self.records.count == 0 || self.is_short => {
                NextPage::End
            }
            _ => NextPage::Unreadable,
        }
    }
}

/// No link is the end; what is no link is not.
fn by_link(link: Statement) -> NextPage {
    match link {
        Statement::Nothing => NextPage::End,
        Statement::Text(link) => NextPage::At(link),
        Statement::More | Statement::Unreadable => NextPage::Unreadable,
    }
}

fn statement(value: &Value) -> Statement {
    match value {
        Value::Null | Value::Bool(false) => Statement::Nothing,
        Value::Bool(true) => Statement::More,
        Value::Number(number) if number.to_string() == "-1" => Statement::Nothing,
        Value::Number(number) => Statement::Text(number.to_string()),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            word if word.is_empty() || NOTHING.contains(&word) => Statement::Nothing,
            "true" => Statement::More,
            _ => Statement::Text(text.trim().to_owned()),
        },
        Value::Array(items) if items.is_empty() => Statement::Nothing,
        Value::Object(members) if members.is_empty() => Statement::Nothing,
        Value::Array(_) | Value::Object(_) => Statement::Unreadable,
    }
}

fn is_one(number: &str) -> Option<bool> {
    match number {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// A count as a number or as a text, such as `25`, `25.0` or `"25"`.
fn whole_number(value: &Value) -> Option<u64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let number = Decimal::from_str(&text).or_else(|_| Decimal::from_scientific(&text)).ok()?;
    number.is_integer().then(|| number.to_u64()).flatten()
}

/// A non-blank string, or a number, as text.
pub(super) fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
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
mod tests;
