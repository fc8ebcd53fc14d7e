//! A provider's answer as a page: the records, what comes next, how many there are. Pure.
//!
//! The link to the next page is never followed: only its parameter is taken out, because providers are known to print
//! links that lead elsewhere, and a link is the provider's word about where our credentials go.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::report::{RunReason, Stop};
use crate::provider::call::Answer;
use crate::provider::json;
use crate::provider::profile::{Pagination, Stream, TokenSource};

/// One page as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The records, as the provider sent them.
    pub records: Vec<Value>,
    /// The next page; `None` at the end.
    pub next: Option<String>,
    /// The provider's count of all records of the window.
    pub total: Option<u64>,
}

/// Reads the page that was asked for as `asked`.
pub fn read(answer: &Answer, stream: &Stream, asked: &str) -> Result<Page, Stop> {
    let mut body = json(answer)?;
    let (total, told) = (total(&body, &stream.pagination), told(&body, &stream.pagination)?);
    let records = records(&mut body, stream).ok_or(RunReason::SchemaDrifted)?;
    let next = match (&stream.pagination, told) {
        (Pagination::Offset { .. }, _) => after(asked, records.len() as u64, total)?,
        (Pagination::LastRecordId { .. }, Told::More) => {
            let id = records.last().and_then(|record| text(record.pointer(&stream.key)?));
            Some(id.ok_or(RunReason::PaginationUnreadable)?)
        }
        (_, Told::Next(next)) => Some(next),
        (_, Told::More | Told::End) => None,
    };
    Ok(Page { records, next, total })
}

/// The records of an answer, from one list or from several; `None` where one is missing. No array at all is not "no
/// records": it is drift.
fn records(body: &mut Value, stream: &Stream) -> Option<Vec<Value>> {
    // Both shapes: the first pointer that leads to an array.
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

/// The body of a good answer as JSON. Whether it is good was asked where it came in.
pub fn json(answer: &Answer) -> Result<Value, Stop> {
    json::parse(&answer.body)
        .map_err(|_| Stop { http_status: Some(answer.status.as_u16()), ..RunReason::BodyUnreadable.into() })
}

/// What the answer itself says of what comes next.
enum Told {
    /// Nothing does.
    End,
    /// Something does; where it begins, the records tell.
    More,
    /// The next page's number or token.
    Next(String),
}

fn told(body: &Value, pagination: &Pagination) -> Result<Told, Stop> {
    let unreadable = || Stop::from(RunReason::PaginationUnreadable);
    // Whether there is more must be said: a list that only looks whole is worse than none.
    let more = |pointer: &str| body.pointer(pointer).and_then(Value::as_bool).ok_or_else(unreadable);
    match pagination {
        Pagination::Page { parameter, next, .. } => Ok(numbered(body, parameter, next)?.map_or(Told::End, Told::Next)),
        Pagination::LastRecordId { more: at, .. } => Ok(if more(at)? { Told::More } else { Told::End }),
        Pagination::Token { from: TokenSource::Body { pointers }, more: at, .. } => {
            let token = pointers.iter().find_map(|pointer| text(body.pointer(pointer)?));
            match (at.as_deref().map(more).transpose()?, token) {
                (Some(false), _) | (None, None) => Ok(Told::End),
                (Some(true), None) => Err(unreadable()),
                (_, Some(token)) => Ok(Told::Next(token)),
            }
        }
        // A job of such a stream is refused; if one came here, half a list would look whole.
        Pagination::Token { .. } | Pagination::NextUrl { .. } | Pagination::LinkHeader { .. } => Err(unreadable()),
        Pagination::Offset { .. } | Pagination::None => Ok(Told::End),
    }
}

/// A text or a number that is not blank.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn numbered(body: &Value, parameter: &str, next: &[String]) -> Result<Option<String>, Stop> {
    let told = next.iter().filter_map(|pointer| body.pointer(pointer)).find(|value| !value.is_null());
    let text = match told {
        None => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(RunReason::PaginationUnreadable.into()),
    };
    let token = if text.bytes().all(|b| b.is_ascii_digit()) { Some(text) } else { query_value(&text, parameter) };
    match token.as_deref().map(str::parse::<u64>) {
        Some(Ok(page)) => Ok(Some(page.to_string())),
        _ => Err(RunReason::PaginationUnreadable.into()),
    }
}

/// The place behind a page of an offset walk; none at the end, which the count of all records tells, or an empty page.
fn after(asked: &str, read: u64, total: Option<u64>) -> Result<Option<String>, Stop> {
    let place: u64 = asked.parse().map_err(|_| RunReason::PaginationUnreadable)?;
    let next = place.saturating_add(read);
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
    use crate::sync::tests::{answer, stream};

    fn page(body: &str) -> Result<Page, RunReason> {
        read(&answer(200, body), &stream(10), "1").map_err(|stop| stop.reason)
    }

    #[test]
    fn both_shapes_are_pages() {
        let flat = page(r#"{"data": [1, 2], "meta": {"total": 7, "next": "https://x/v2/acc/transactions?page=2"}}"#);
        let nested =
            page(r#"{"data": {"transactions": [1, 2], "paging": {"total": 7, "next": "/t?limit=2&page=2#x"}}}"#);
        assert_eq!(flat, nested);
        let flat = flat.unwrap();
        assert_eq!((flat.records.len(), flat.next.as_deref(), flat.total), (2, Some("2"), Some(7)));
    }

    #[test]
    fn the_end_is_told_by_the_absence_of_a_next_page() {
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
    fn what_cannot_be_read_is_never_an_empty_page() {
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
        assert_eq!(page("\u{feff}{\"data\": []}").unwrap().records.len(), 0, "a byte order mark is no fault");
    }

    #[test]
    fn numbers_keep_their_digits() {
        let page = page(r#"{"data": [123456789012345678901234567890.10]}"#).unwrap();
        assert_eq!(page.records[0].to_string(), "123456789012345678901234567890.10");
    }
}
