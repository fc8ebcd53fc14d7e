//! Reads JSON that somebody else wrote: every digit kept, no deeper than is sane.
//!
//! The depth is counted before anything is parsed, over bytes, so that neither a parser's stack nor the walk over its
//! result is ever deeper than [`MAX_DEPTH`]. How large a body may be is decided where it is read.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// Deeper than any answer of a provider we know by a factor of five.
pub const MAX_DEPTH: usize = 64;

/// Why a body is no JSON for us.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// It does not parse.
    #[error("the body is not JSON")]
    Invalid,
    /// It nests too deep.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Parses a body. Numbers keep the digits they were written with.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    read(body)
}

/// Reads a body as what is expected to be in it.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let body = plain(body);
    depth(body)?;
    serde_json::from_slice(body).map_err(|_| JsonError::Invalid)
}

/// Whether [`parse`] would take it, at a part of the cost.
pub fn check(body: &[u8]) -> Result<(), JsonError> {
    let body = plain(body);
    depth(body)?;
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|_| JsonError::Invalid)
}

/// Without the byte order mark that some servers write.
fn plain(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

fn depth(body: &[u8]) -> Result<(), JsonError> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_kept() {
        let text = r#"{"a":123456789012345678.90,"b":9007199254740993,"c":-0.005,"d":1e+2}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_texts_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(check(nested(500).as_bytes()), Err(JsonError::TooDeep));
        let text = format!(r#"["\"{}\\"]"#, "[".repeat(500));
        assert!(parse(text.as_bytes()).is_ok(), "{text}");
    }

    #[test]
    fn what_is_no_json_is_told_as_such() {
        for body in ["", "<html>", r#"{"a":"#, "NaN", r#"{"a":1}{"a":2}"#, r#"["\ud800"]"#] {
            assert_eq!(parse(body.as_bytes()), Err(JsonError::Invalid), "{body}");
        }
        assert!(parse(b"\xef\xbb\xbf{}").is_ok(), "a byte order mark is no harm");
        assert_eq!(parse(b"[\"\xff\"]"), Err(JsonError::Invalid), "invalid UTF-8");
        assert_eq!((check(b"{}"), check(b"{")), (Ok(()), Err(JsonError::Invalid)));
    }
}
