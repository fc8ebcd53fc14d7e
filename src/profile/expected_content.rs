//! What a health check expects of a response besides its status.
//!
//! A login page or a single-page application answers 200 to every path: where the provider's API is JSON, only JSON
//! shows that it works.

use super::json;
use crate::domain::content_mismatch::ContentMismatch;

/// Longest content type, in bytes.
const MAX_CONTENT_TYPE: usize = 127;
/// Longest JSON pointer, in bytes.
const MAX_POINTER: usize = 256;

/// The expected content; nothing is expected of what is unset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExpectedContent {
    /// Media type of the response, such as `application/json`, which includes types that end in `+json`; `*` matches
    /// any part. Parameters such as the charset are not compared.
    pub content_type: Option<String>,
    /// JSON pointer to a value that the body must have, other than null; empty: the body must be JSON.
    pub pointer: Option<String>,
}

impl ExpectedContent {
    /// Whether nothing is expected: the status alone decides.
    pub const fn is_any(&self) -> bool {
        self.content_type.is_none() && self.pointer.is_none()
    }

    /// Compares a response of `content_type` with `body`.
    pub fn check(&self, content_type: Option<&str>, body: &[u8]) -> Result<(), ContentMismatch> {
        if let Some(expected) = &self.content_type
            && !content_type.is_some_and(|found| media_type_matches(expected, found))
        {
            return Err(ContentMismatch::ContentType);
        }
        let Some(pointer) = &self.pointer else { return Ok(()) };
        // A wrong encoding of one text does not make a bank unhealthy.
        let body = String::from_utf8_lossy(body);
        let text = json::check(body.as_bytes()).map_err(|_| ContentMismatch::NotJson)?;
        if pointer.is_empty() {
            return Ok(());
        }
        let found = json::select(text, &[pointer.as_str()]).map_err(|_| ContentMismatch::NotJson)?;
        match found.first() {
            Some(Some(value)) if value.trim() != "null" => Ok(()),
            _ => Err(ContentMismatch::NoValue),
        }
    }

    /// Checks what serde cannot. The errors name the field.
    pub fn validate(&self) -> Result<(), InvalidExpectation> {
        if self.content_type.as_ref().is_some_and(|text| !is_media_type(text)) {
            return Err(InvalidExpectation::ContentType);
        }
        if self.pointer.as_ref().is_some_and(|text| !is_pointer(text)) {
            return Err(InvalidExpectation::Pointer);
        }
        Ok(())
    }
}

/// Which expectation is not valid.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidExpectation {
    /// The content type.
    #[error("must be a media type without parameters, such as application/json")]
    ContentType,
    /// The JSON pointer.
    #[error("must be a JSON pointer: empty, or starting with /")]
    Pointer,
}

impl InvalidExpectation {
    /// The field of a health check that is not valid, in a profile and in a connection.
    pub const fn field(self) -> &'static str {
        match self {
            Self::ContentType => "expectedContentType",
            Self::Pointer => "expectedJSONPointer",
        }
    }
}

/// Whether `found`, a header's value, is of the media type `expected`.
fn media_type_matches(expected: &str, found: &str) -> bool {
    let found = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let expected = expected.to_ascii_lowercase();
    let (Some((kind, subtype)), Some((found_kind, found_subtype))) = (expected.split_once('/'), found.split_once('/'))
    else {
        return false;
    };
    let suffixed = subtype == "json" && found_subtype.ends_with("+json");
    (kind == "*" || kind == found_kind) && (subtype == "*" || subtype == found_subtype || suffixed)
}

fn is_media_type(text: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+*-".contains(&byte))
    };
    text.len() <= MAX_CONTENT_TYPE && text.split_once('/').is_some_and(|(kind, subtype)| part(kind) && part(subtype))
}

fn is_pointer(text: &str) -> bool {
    text.len() <= MAX_POINTER && (text.is_empty() || text.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(content_type: Option<&str>, pointer: Option<&str>) -> ExpectedContent {
        ExpectedContent { content_type: content_type.map(str::to_owned), pointer: pointer.map(str::to_owned) }
    }

    #[test]
    fn content_types_are_compared_without_parameters_and_case() {
        let json = expected(Some("application/json"), None);
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/hal+json"] {
            assert_eq!(json.check(Some(good), b""), Ok(()), "{good}");
        }
        for bad in [None, Some("text/html"), Some("application/jsonp"), Some("json"), Some("")] {
            assert_eq!(json.check(bad, b"{}"), Err(ContentMismatch::ContentType), "{bad:?}");
        }
        assert_eq!(expected(Some("text/*"), None).check(Some("text/plain"), b""), Ok(()));
        assert_eq!(expected(Some("*/*"), None).check(Some("image/png"), b""), Ok(()));
    }

    #[test]
    fn a_pointer_expects_json_with_a_value_there() {
        let whole = expected(None, Some(""));
        assert_eq!(whole.check(Some("text/plain"), br#"{"a": 1}"#), Ok(()));
        for bad in [&b"<html></html>"[..], b"", b"{", b"SSH-2.0-OpenSSH_9.6"] {
            assert_eq!(whole.check(None, bad), Err(ContentMismatch::NotJson));
        }
        let data = expected(None, Some("/data/0/id"));
        assert_eq!(data.check(None, br#"{"data": [{"id": 7}]}"#), Ok(()));
        for bad in [&br#"{"data": []}"#[..], br#"{"data": [{"id": null}]}"#, b"7", b"null"] {
            assert_eq!(data.check(None, bad), Err(ContentMismatch::NoValue));
        }
    }

    #[test]
    fn an_invalid_expectation_is_rejected() {
        for bad in ["json", "text/", "/json", "application/json; charset=utf-8", "a/b/c d"] {
            assert_eq!(expected(Some(bad), None).validate(), Err(InvalidExpectation::ContentType), "{bad}");
        }
        assert_eq!(expected(None, Some("data")).validate(), Err(InvalidExpectation::Pointer));
        assert_eq!(expected(Some("application/*"), Some("")).validate(), Ok(()));
        assert!(expected(None, None).is_any() && !expected(None, Some("")).is_any());
    }
}
