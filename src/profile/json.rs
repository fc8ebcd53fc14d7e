//! Parses untrusted JSON: every digit is kept, and the nesting depth is bounded.
//!
//! The depth is counted over the bytes before anything is parsed, so that neither the parser's stack nor a walk over
//! its result is deeper than [`MAX_DEPTH`]. The size of a body is bounded where it is received.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// Deepest nesting: five times that of any known provider's responses.
pub const MAX_DEPTH: usize = 64;

/// Why a body cannot be used as JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// Not valid JSON.
    #[error("the body is not JSON")]
    Invalid,
    /// Nested too deeply.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Parses a body. Numbers keep all their digits.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    read(body)
}

/// Deserializes a body.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let body = without_bom(body);
    check_depth(body)?;
    serde_json::from_slice(body).map_err(|_| JsonError::Invalid)
}

/// Validates a body as [`parse`] does, without building a value.
pub fn check(body: &[u8]) -> Result<(), JsonError> {
    let body = without_bom(body);
    check_depth(body)?;
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|_| JsonError::Invalid)
}

/// `body` without the byte order mark that some servers send.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

fn check_depth(body: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(JsonError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// The text of a scalar, as profiles compare it; `None` for null, lists and objects.
pub(super) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Checks the form of a JSON pointer (RFC 6901); the error completes the message of the field that holds it.
pub(super) fn check_pointer(pointer: &str) -> Result<(), String> {
    if pointer.is_empty() || pointer.starts_with('/') {
        return Ok(());
    }
    Err(format!("{pointer:?} is not a JSON pointer: it must be empty or start with /"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_kept() {
        let text = r#"{"a":123456789012345678.90,"b":9007199254740993,"c":-0.005,"d":1e+2}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
    }

    #[test]
    fn depth_is_bounded_and_ignores_brackets_in_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(check(nested(500).as_bytes()), Err(JsonError::TooDeep));
        let text = format!(r#"["\"{}\\"]"#, "[".repeat(500));
        assert!(parse(text.as_bytes()).is_ok(), "{text}");
    }

    #[test]
    fn invalid_json_is_reported() {
        for body in ["", "<html>", r#"{"a":"#, "NaN", r#"{"a":1}{"a":2}"#, r#"["\ud800"]"#] {
            assert_eq!(parse(body.as_bytes()), Err(JsonError::Invalid), "{body}");
        }
        assert!(parse(b"\xef\xbb\xbf{}").is_ok(), "a byte order mark is ignored");
        assert_eq!(parse(b"[\"\xff\"]"), Err(JsonError::Invalid), "invalid UTF-8");
        assert_eq!((check(b"{}"), check(b"{")), (Ok(()), Err(JsonError::Invalid)));
    }
}
