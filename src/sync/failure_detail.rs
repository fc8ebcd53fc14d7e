//! What a failed run says about a response: what was received instead of records, and where they were looked for. Our own
//! words and the stream's pointers; of the response only its media type, its size, and the origin that it redirects to.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use reqwest::Url;
use serde_json::Value;

use crate::domain::run_failure::size;
use crate::profile::json_text;
use crate::profile::{Pagination, Stream, TokenSource};
use crate::provider::call::Response;
use crate::provider::redirect::target_origin;

/// Longest media type that is shown, in bytes.
const MAX_MEDIA_TYPE: usize = 100;
/// A larger body holds data, not an error object. Bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// In place of the origin that was called.
const SAME_ORIGIN: &str = "https://same-origin.invalid";
/// Fields of error objects, whatever they hold.
const ERROR_FIELDS: [&str; 9] = [
    "error",
    "errors",
    "fault",
    "exception",
    "error_code",
    "errorCode",
    "error_description",
    "errorMessage",
    "error_message",
];
/// Texts in their place that are none.
const NO_ERROR: [&str; 9] = ["", "0", "00", "none", "null", "false", "no", "ok", "success"];
/// Fields that tell success from failure, and their values for failure.
const FAILURE_FLAGS: [&str; 3] = ["success", "ok", "status"];

/// The response as text: `text/html, 12 KiB`.
pub(super) fn received(response: &Response) -> String {
    if response.body.is_empty() {
        return "received an empty body".to_owned();
    }
    let size = size(response.body.len());
    match media_type(&response.headers) {
        Some(media_type) => format!("received {media_type}, {size}"),
        None => format!("received {size} without a content type"),
    }
}

/// A body that is not JSON.
pub(super) fn not_json(response: &Response) -> String {
    let body = response.body.trim_ascii_start();
    let received = received(response);
    let encoded = response.body.starts_with(&[0xff, 0xfe]) || response.body.starts_with(&[0xfe, 0xff]);
    match body.first() {
        _ if encoded => format!("{received}, which is not UTF-8"),
        Some(b'{' | b'[') => format!("{received}, whose JSON is cut off or invalid"),
        _ => received,
    }
}

/// The target of a redirect, as its origin: paths and queries can hold data.
pub(super) fn redirect(response: &Response) -> String {
    // A target without a host is on the host that was called, whichever that is.
    let target = Url::parse(SAME_ORIGIN).ok().and_then(|called| {
        let status = response.status.as_u16();
        target_origin(status, &response.headers, &called)
    });
    match target.as_deref() {
        None => "redirects without a usable Location".to_owned(),
        Some(SAME_ORIGIN) => "redirects to another path of the same origin".to_owned(),
        Some(origin) => format!("redirects to {origin}"),
    }
}

/// Where a page's records were looked for.
pub(super) fn no_list(stream: &Stream) -> String {
    let mut pointers: Vec<&str> = stream.records.iter().map(String::as_str).collect();
    pointers.extend(stream.lists.iter().filter(|list| !list.optional).flat_map(|list| &list.at).map(String::as_str));
    format!("no list of records at {}", places(pointers))
}

/// Where a page's successor was looked for.
pub(super) fn no_next_page(stream: &Stream) -> String {
    let pointers: Vec<&str> = match &stream.pagination {
        Pagination::Page { next, .. } | Pagination::NextUrl { next, .. } => next.iter().map(String::as_str).collect(),
        Pagination::LastRecordId { more, .. } => vec![more, &stream.key],
        Pagination::Token { from: TokenSource::Body { pointers }, more, .. } => {
            pointers.iter().chain(more).map(String::as_str).collect()
        }
        Pagination::Token { from: TokenSource::Header { name }, more, .. } => {
            let places: Vec<_> = [name.as_str()].into_iter().chain(more.as_deref()).collect();
            return format!("looked at the header {}", places.join(" and "));
        }
        Pagination::LinkHeader { rel, .. } => return format!("looked at the header Link for rel={rel}"),
        _ => return "the position of the page is no number".to_owned(),
    };
    format!("looked at {}", places(pointers))
}

/// Where the currency of an account was looked for.
pub(super) fn no_currency(operation: &str, pointers: &[String]) -> String {
    let at = places(pointers.iter().map(String::as_str));
    format!("no ISO 4217 currency at {at} of the response to {operation}")
}

/// The field that shows that a JSON object is an error, not a page of records.
pub(super) fn error_field(body: &[u8]) -> Option<&'static str> {
    if body.len() > MAX_ERROR_BODY {
        return None;
    }
    let parsed = json_text::parse(body)?;
    let object = parsed.as_object()?;
    let says_failure = |value: &Value| match value {
        Value::Bool(flag) => !flag,
        Value::String(text) => {
            ["error", "fail", "failed", "failure"].iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        _ => false,
    };
    let error = ERROR_FIELDS.into_iter().find(|field| object.get(*field).is_some_and(says_something));
    error.or_else(|| FAILURE_FLAGS.into_iter().find(|field| object.get(*field).is_some_and(says_failure)))
}

/// Whether what is in an error's place is one: `{"code": 0, "message": "OK"}` is none.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !NO_ERROR.iter().any(|word| text.trim().eq_ignore_ascii_case(word)),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => fields.values().any(says_something),
    }
}

/// The media type with its character set, if both are plain words.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+/".contains(c);
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    if essence.is_empty() || essence.len() > MAX_MEDIA_TYPE || !essence.chars().all(is_word) {
        return None;
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    let charset = charset.filter(|charset| charset.len() <= 40 && charset.chars().all(is_word) && charset != "utf-8");
    Some(charset.map_or_else(|| essence.clone(), |charset| format!("{essence} in {charset}")))
}

/// JSON pointers as text; the empty one is the whole body.
fn places<'a>(pointers: impl IntoIterator<Item = &'a str>) -> String {
    let mut shown: Vec<&str> = Vec::new();
    for pointer in pointers {
        let text = if pointer.is_empty() { "the top level" } else { pointer };
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;
    use http::{HeaderValue, StatusCode};

    use super::*;
    use crate::sync::tests::response;

    fn with(name: http::HeaderName, value: &str, body: &str) -> Response {
        let mut response = response(200, body);
        response.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        response
    }

    #[test]
    fn what_was_received_is_told_by_type_and_size_alone() {
        for (type_, body, text) in [
            ("text/html; charset=utf-8", "<html>secret</html>", "received text/html, 19 bytes"),
            ("application/json; charset=UTF-16", "\u{feff}{}", "received application/json in utf-16, 5 bytes"),
            (
                "application/json",
                r#"{"data": ["#,
                "received application/json, 10 bytes, whose JSON is cut off or invalid",
            ),
            ("<b>0131883461</b>", "x", "received 1 bytes without a content type"),
            ("application/json", "", "received an empty body"),
        ] {
            assert_eq!(not_json(&with(CONTENT_TYPE, type_, body)), text);
        }
    }

    #[test]
    fn a_redirect_is_told_by_its_origin_alone() {
        for (location, text) in [
            ("https://bank.example/login?account=0131883461", "redirects to https://bank.example"),
            ("https://u:p@bank.example:8443/x", "redirects to https://bank.example:8443"),
            ("/login", "redirects to another path of the same origin"),
            ("mailto:desk@bank.example", "redirects without a usable Location"),
        ] {
            let moved = Response { status: StatusCode::FOUND, ..with(LOCATION, location, "") };
            assert_eq!(redirect(&moved), text);
        }
    }

    #[test]
    fn an_error_object_is_told_from_a_page() {
        for (body, field) in [
            (r#"{"error": {"code": "X"}}"#, Some("error")),
            (r#"{"errors": ["x"], "data": null}"#, Some("errors")),
            (r#"{"status": "failed", "message": "x"}"#, Some("status")),
            (r#"{"success": false}"#, Some("success")),
            (r#"{"error": null, "errors": [], "status": "ok", "success": true}"#, None),
            (r#"{"error": {"code": 0, "message": "OK"}, "errorCode": "00", "fault": {}}"#, None),
            (r#"{"error": {"code": 0, "message": "not linked"}}"#, Some("error")),
            (r#"{"records": []}"#, None),
            ("[]", None),
            ("<html>", None),
        ] {
            assert_eq!(error_field(body.as_bytes()), field, "{body}");
        }
    }
}
