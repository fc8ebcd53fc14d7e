//! A response as matchers read it.

use std::cell::OnceCell;

use http::HeaderMap;
use serde_json::Value;

use super::json_text;

/// A larger body holds data, not an error: it is not searched for one. Bytes.
pub const MAX_ERROR_BODY: usize = 64 * 1024;

/// A response; the body is parsed at most once, and only when a matcher needs it.
pub struct ResponseView<'a> {
    status: u16,
    headers: &'a HeaderMap,
    body: &'a [u8],
    json: OnceCell<Option<Value>>,
}

impl<'a> ResponseView<'a> {
    /// A view of a complete response.
    pub fn new(status: u16, headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        Self { status, headers, body, json: OnceCell::new() }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The value of a header, trimmed.
    pub(super) fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// The value at a JSON pointer into the body; null counts as absent.
    pub(super) fn json_at(&self, pointer: &str) -> Option<&Value> {
        let parse = || (self.body.len() <= MAX_ERROR_BODY).then(|| json_text::parse(self.body)).flatten();
        // Most responses are not errors: a body that lacks the field's name is not parsed.
        if self.json.get().is_none() && !self.may_contain(pointer) {
            return None;
        }
        self.json.get_or_init(parse).as_ref()?.pointer(pointer).filter(|value| !value.is_null())
    }

    /// Whether the body contains the last name of `pointer`. Only plain names are searched for: others can be escaped
    /// in many ways.
    fn may_contain(&self, pointer: &str) -> bool {
        let Some((_, name)) = pointer.rsplit_once('/') else { return true };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-.".contains(&b));
        let index = name.bytes().all(|b| b.is_ascii_digit());
        if !plain || index || self.body.len() > MAX_ERROR_BODY {
            return true;
        }
        std::str::from_utf8(self.body).map_or(true, |body| body.contains(name) || body.contains("\\u"))
    }
}
