//! Characters of untrusted JSON that are not valid: bytes that are not UTF-8, half of a surrogate pair, a control
//! character that is not escaped, an escape that does not exist.
//!
//! One of them must not cost a whole list of records. So a body is read by way of a [`copy`] of the same length, in
//! which ASCII is in their place: a place in the copy is the same place in the body, and what is equal in both is as the
//! provider sent it. Only a value that differs is read with [`replaced`] characters.

use std::ops::Range;

use serde_json::Value;

use super::json;

/// What replaces a character that is not valid.
pub const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Whether each character of a document's texts is valid. Says nothing about its syntax.
pub fn is_sound(document: &[u8]) -> bool {
    Faults::of(document).next().is_none()
}

/// Whether a body that is not valid JSON could be, but for its characters.
pub fn is_repairable(body: &[u8]) -> bool {
    let start = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    start.starts_with(b"{") || start.starts_with(b"[")
}

/// A copy of the same length, in which ASCII is in the place of each character that is not valid.
pub fn copy(document: &[u8]) -> Vec<u8> {
    let mut copy = document.to_vec();
    for fault in Faults::of(document) {
        let Some(place) = copy.get_mut(fault) else { continue };
        match place.len() {
            // Half of a surrogate pair.
            6 => place.copy_from_slice(b"\\ufffd"),
            _ => place.fill(b'?'),
        }
    }
    copy
}

/// A value in which each character that is not valid is replaced by [`REPLACEMENT`]. A tab or the end of a line in a
/// text is what it says, although it should be escaped.
pub fn replaced(value: &[u8]) -> String {
    let (mut text, mut from) = (Vec::with_capacity(value.len()), 0);
    for fault in Faults::of(value) {
        text.extend_from_slice(value.get(from..fault.start).unwrap_or_default());
        from = fault.end;
        match value.get(fault) {
            Some(b"\t") => text.extend_from_slice(b"\\t"),
            Some(b"\n") => text.extend_from_slice(b"\\n"),
            Some(b"\r") => text.extend_from_slice(b"\\r"),
            _ => text.extend_from_slice(REPLACEMENT.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    text.extend_from_slice(value.get(from..).unwrap_or_default());
    // Nothing is left that is not UTF-8.
    String::from_utf8_lossy(&text).into_owned()
}

/// A document as a value, with characters that are not valid replaced: a message in Latin-1 must not hide an error.
pub fn parse(document: &[u8]) -> Option<Value> {
    let unsound = || is_repairable(document) && !is_sound(document);
    let repaired = || unsound().then(|| json::parse(replaced(document).as_bytes()).ok()).flatten();
    json::parse(document).ok().or_else(repaired)
}

/// The places of the characters that are not valid, in order.
struct Faults<'a> {
    document: &'a [u8],
    at: usize,
    in_string: bool,
    is_utf8: bool,
}

impl<'a> Faults<'a> {
    fn of(document: &'a [u8]) -> Self {
        Self { document, at: 0, in_string: false, is_utf8: std::str::from_utf8(document).is_ok() }
    }
}

impl Iterator for Faults<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let rest = self.document.get(self.at..)?;
            let (length, is_valid) = match rest.first()? {
                b'"' => {
                    self.in_string = !self.in_string;
                    (1, true)
                }
                b'\\' if self.in_string => escape(rest),
                0..=0x1f if self.in_string => (1, false),
                0x80.. if !self.is_utf8 => character(rest),
                _ => (1, true),
            };
            let at = self.at;
            self.at += length;
            if !is_valid {
                return Some(at..self.at);
            }
        }
    }
}

/// The length of the escape at the start of `text`, and whether it exists. If not, only its backslash is wrong, or half
/// of a surrogate pair.
fn escape(text: &[u8]) -> (usize, bool) {
    match text.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => (2, true),
        Some(b'u') => match code_unit(text) {
            Some(0xd800..=0xdbff) => {
                let low = text.get(6..).and_then(code_unit);
                if matches!(low, Some(0xdc00..=0xdfff)) { (12, true) } else { (6, false) }
            }
            Some(0xdc00..=0xdfff) => (6, false),
            Some(_) => (6, true),
            None => (1, false),
        },
        _ => (1, false),
    }
}

/// The code unit of an escape such as `\u00e9`.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
}

/// The length of the character at the start of `text`, and whether it is valid UTF-8. If not: of what cannot begin one,
/// so that a character that was cut off takes nothing after it along.
fn character(text: &[u8]) -> (usize, bool) {
    let first = text.get(..4).unwrap_or(text);
    match std::str::from_utf8(first) {
        Ok(valid) => (valid.chars().next().map_or(1, char::len_utf8), true),
        Err(error) if error.valid_up_to() > 0 => {
            let valid = std::str::from_utf8(first.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default();
            (valid.chars().next().map_or(1, char::len_utf8), true)
        }
        Err(error) => (error.error_len().unwrap_or(first.len()), false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text that a JSON string with this content is read as.
    fn read(content: &[u8]) -> String {
        let json = [b"\"", content, b"\""].concat();
        let copy = copy(&json);
        assert_eq!(copy.len(), json.len());
        assert!(serde_json::from_slice::<String>(&copy).is_ok(), "{}", String::from_utf8_lossy(&copy));
        serde_json::from_str(&replaced(&json)).unwrap()
    }

    #[test]
    fn what_is_not_valid_is_replaced_and_nothing_else() {
        for (content, text) in [
            (&br"a\ud800b"[..], "a\u{fffd}b"),
            (br"\udc00\ud800", "\u{fffd}\u{fffd}"),
            (br"\ud800\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (br"\ud800A", "\u{fffd}A"),
            (br"\\ud800 \u00e9", "\\ud800 \u{e9}"),
            (b"caf\xe9", "caf\u{fffd}"),
            (b"caf\xc3", "caf\u{fffd}"),
            (b"\xc0\xaf", "\u{fffd}\u{fffd}"),
            (b"\xe0\x80\xaf\xc3\xa9", "\u{fffd}\u{fffd}\u{fffd}\u{e9}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x9f\x98x", "\u{fffd}x"),
            (b"a\0b\x1fc", "a\u{fffd}b\u{fffd}c"),
            (b"two\r\n\tlines", "two\r\n\tlines"),
            (br"it\'s \u12 \x41", "it\u{fffd}'s \u{fffd}u12 \u{fffd}x41"),
            ("\u{feff}\u{fffd}\u{1f600}".as_bytes(), "\u{feff}\u{fffd}\u{1f600}"),
        ] {
            assert_eq!(read(content), text, "{}", String::from_utf8_lossy(content));
        }
    }

    #[test]
    fn sound_documents_are_recognized() {
        for sound in ["{}", " [1,\n\t2]\r\n", r#"{"a":"\ud83d\ude00\u0000","é":"\\"}"#, "\u{feff}{}", "<html>"] {
            assert!(is_sound(sound.as_bytes()), "{sound}");
        }
        for unsound in [&b"{\"\xe9\":1}"[..], br#"{"\ud800":1}"#, b"[\"\n\"]", b"\xff\xfe[\0]\0", br#"["\q"]"#] {
            assert!(!is_sound(unsound), "{}", String::from_utf8_lossy(unsound));
        }
    }

    #[test]
    fn an_error_is_read_although_its_message_is_not_valid() {
        let parsed = |body: &[u8]| parse(body).map(|value| value.to_string());
        assert_eq!(
            parsed(b"{\"code\":\"X\",\"m\":\"r\xe9seau\"}").as_deref(),
            Some("{\"code\":\"X\",\"m\":\"r\u{fffd}seau\"}")
        );
        assert_eq!(parsed(br#"{"code":1.50}"#).as_deref(), Some(r#"{"code":1.50}"#));
        for body in [&b"<html>\xe9"[..], b"{\"a\":\xe9}", b"", b"{"] {
            assert_eq!(parsed(body), None);
        }
    }

    #[test]
    fn only_what_begins_like_a_document_is_repairable() {
        assert!(is_repairable(b"\xef\xbb\xbf \r\n{\"\xe9") && is_repairable(b"["));
        assert!(!is_repairable(b"<html>\xe9") && !is_repairable(b"\xff\xfe{\0") && !is_repairable(b""));
    }

    proptest! {
        #[test]
        fn any_string_of_bytes_can_be_read(content in proptest::collection::vec(any::<u8>(), 0..40)) {
            // A quote or a backslash at the end would end another string.
            let content: Vec<u8> = content.into_iter().filter(|byte| !b"\"\\".contains(byte)).collect();
            let text = read(&content);
            prop_assert_eq!(text.contains(REPLACEMENT), String::from_utf8_lossy(&content).chars().any(|c| {
                c == REPLACEMENT || (c.is_ascii_control() && !"\t\r\n\x7f".contains(c))
            }));
        }

        #[test]
        fn sound_documents_are_copied_and_read_unchanged(text in ".{0,40}") {
            let json = Value::String(text).to_string();
            prop_assert!(is_sound(json.as_bytes()));
            prop_assert_eq!(copy(json.as_bytes()), json.as_bytes());
            prop_assert_eq!(replaced(json.as_bytes()), json);
        }
    }
}
