//! Parses untrusted JSON: every digit is kept, and what a body may cost is bounded before anything is built.
//!
//! A list of a million empty objects is three megabytes of text and seven hundred of memory. So [`Scan`] counts depth
//! and values over the bytes, as they arrive; a tree is built only of a document with few values
//! ([`MAX_TREE_VALUES`]); a longer one is read as slices of itself: the values at pointers ([`select`]), the items of a
//! list ([`each_item`]). The number of bytes is bounded where they are received.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Deepest nesting: five times that of any known provider's responses.
pub const MAX_DEPTH: usize = 64;

/// Most values of a document that is built as a tree. A value takes up to 700 bytes there, so 7 MB; the largest known
/// record has 300 values.
pub const MAX_TREE_VALUES: usize = 10_000;

/// Why a body cannot be used as JSON.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// Not valid JSON.
    #[error("the body is not JSON")]
    Invalid,
    /// Nested too deeply.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than allowed.
    #[error("the body has too many values")]
    TooManyValues,
}

/// Counts the depth and the values of a document that arrives in chunks. It allocates nothing, and does not check the
/// syntax.
#[derive(Clone, Debug)]
pub struct Scan {
    left: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// A scan that fails at more than `max_values` values: objects, lists, texts, numbers, booleans and nulls.
    pub const fn new(max_values: usize) -> Self {
        Self { left: max_values, depth: 0, in_string: false, escaped: false }
    }

    /// Scans the next chunk.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), JsonError> {
        let mut bytes = chunk.iter();
        loop {
            if std::mem::take(&mut self.escaped) && bytes.next().is_none() {
                self.escaped = true;
                return Ok(());
            }
            // Most bytes are those of texts, and of what is between them.
            let found = if self.in_string {
                bytes.find(|byte| matches!(byte, b'"' | b'\\'))
            } else {
                bytes.find(|byte| matches!(byte, b'"' | b',' | b'{' | b'[' | b'}' | b']'))
            };
            match found {
                None => return Ok(()),
                Some(b'"') => self.in_string = !self.in_string,
                Some(b'\\') => self.escaped = true,
                Some(b'{' | b'[') => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    self.count()?;
                }
                Some(b'}' | b']') => self.depth = self.depth.saturating_sub(1),
                // With the brackets: at least the number of values.
                Some(_) => self.count()?,
            }
        }
    }

    fn count(&mut self) -> Result<(), JsonError> {
        self.left = self.left.checked_sub(1).ok_or(JsonError::TooManyValues)?;
        Ok(())
    }
}

/// Parses a document of at most [`MAX_TREE_VALUES`] values. Numbers keep all their digits.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    read(body)
}

/// Parses an item of a document that [`text`] has checked, so that only the number of its values may be too high.
pub fn parse_item(item: &str) -> Result<Value, JsonError> {
    // Each value counted takes a byte at least.
    if item.len() > MAX_TREE_VALUES {
        Scan::new(MAX_TREE_VALUES).push(item.as_bytes())?;
    }
    serde_json::from_str(item).map_err(|_| JsonError::Invalid)
}

/// Deserializes a document of at most [`MAX_TREE_VALUES`] values.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    let body = without_bom(body);
    Scan::new(MAX_TREE_VALUES).push(body)?;
    serde_json::from_slice(body).map_err(|_| JsonError::Invalid)
}

/// Validates a document of any number of values, without building anything; returns its text.
pub fn check(body: &[u8]) -> Result<&str, JsonError> {
    let text = text(body)?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| text).map_err(|_| JsonError::Invalid)
}

/// The text of a document that [`select`] and [`each_item`] may read: not nested too deeply.
pub fn text(body: &[u8]) -> Result<&str, JsonError> {
    let body = without_bom(body);
    Scan::new(usize::MAX).push(body)?;
    std::str::from_utf8(body).map_err(|_| JsonError::Invalid)
}

/// The values at JSON pointers into a document, as slices of it, in the order of the pointers; `None` where a pointer
/// leads nowhere.
pub fn select<'a>(document: &'a str, pointers: &[&str]) -> Result<Vec<Option<&'a str>>, JsonError> {
    let mut found = vec![None; pointers.len()];
    let wanted: Vec<_> = pointers.iter().enumerate().map(|(slot, rest)| Wanted { rest, slot }).collect();
    let document = document.trim_matches(WHITESPACE);
    if wanted.iter().all(|wanted| wanted.rest.is_empty()) || is_scalar(document) {
        // Nothing below would visit it.
        serde_json::from_str::<IgnoredAny>(document).map_err(|_| JsonError::Invalid)?;
    }
    select_in(document, &wanted, &mut found)?;
    Ok(found)
}

/// Passes each item of a list to `each`, as a slice of it, until one fails.
pub fn each_item<'a, E: From<JsonError>>(
    list: &'a str,
    mut each: impl FnMut(&'a str) -> Result<(), E>,
) -> Result<(), E> {
    visit(list, |_, item| each(item))
}

/// Whether a slice is a list.
pub fn is_list(slice: &str) -> bool {
    slice.starts_with('[')
}

/// Whether a slice is an object.
pub fn is_object(slice: &str) -> bool {
    slice.starts_with('{')
}

fn is_scalar(slice: &str) -> bool {
    !is_list(slice) && !is_object(slice)
}

const WHITESPACE: [char; 4] = [' ', '\n', '\r', '\t'];

/// A pointer that is looked for: what is left of it below the current value, and where its result belongs.
struct Wanted<'p> {
    rest: &'p str,
    slot: usize,
}

impl Wanted<'_> {
    /// The pointer below the member or item `place`, if it leads there.
    fn below(&self, place: &Place<'_>) -> Option<Self> {
        let rest = self.rest.strip_prefix('/')?;
        let (token, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let leads = match place {
            Place::Member(name) if token.contains('~') => token.replace("~1", "/").replace("~0", "~") == *name,
            Place::Member(name) => token == *name,
            Place::Item(index) => token.parse() == Ok(*index) && (token == "0" || !token.starts_with(['0', '+'])),
        };
        leads.then_some(Wanted { rest, slot: self.slot })
    }
}

fn select_in<'a>(document: &'a str, wanted: &[Wanted<'_>], found: &mut [Option<&'a str>]) -> Result<(), JsonError> {
    for here in wanted.iter().filter(|wanted| wanted.rest.is_empty()) {
        if let Some(slot) = found.get_mut(here.slot) {
            *slot = Some(document);
        }
    }
    if wanted.iter().all(|wanted| wanted.rest.is_empty()) || is_scalar(document) {
        return Ok(());
    }
    visit(document, |place, value| {
        let below: Vec<_> = wanted.iter().filter_map(|wanted| wanted.below(&place)).collect();
        if below.is_empty() {
            return Ok(());
        }
        // Of several members with one name the last counts, as in a tree.
        for slot in below.iter().map(|wanted| wanted.slot) {
            if let Some(slot) = found.get_mut(slot) {
                *slot = None;
            }
        }
        select_in(value, &below, found)
    })
}

/// A place in an object or a list.
enum Place<'n> {
    Member(&'n str),
    Item(usize),
}

/// Passes each member of an object or item of a list to `each`.
fn visit<'a, E: From<JsonError>>(
    document: &'a str,
    each: impl FnMut(Place<'_>, &'a str) -> Result<(), E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut deserializer = serde_json::Deserializer::from_str(document);
    let visited = deserializer.deserialize_any(Values { each, failed: &mut failed });
    match (failed, visited.and_then(|()| deserializer.end())) {
        (Some(error), _) => Err(error),
        (None, Err(_)) => Err(JsonError::Invalid.into()),
        (None, Ok(())) => Ok(()),
    }
}

struct Values<'f, F, E> {
    each: F,
    /// What `each` failed with: the parser's errors cannot carry it.
    failed: &'f mut Option<E>,
}

impl<'de, F: FnMut(Place<'_>, &'de str) -> Result<(), E>, E> Values<'_, F, E> {
    fn pass<P: de::Error>(&mut self, place: Place<'_>, value: &'de RawValue) -> Result<(), P> {
        (self.each)(place, value.get()).map_err(|error| {
            *self.failed = Some(error);
            P::custom("stopped")
        })
    }
}

impl<'de, F: FnMut(Place<'_>, &'de str) -> Result<(), E>, E> Visitor<'de> for Values<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value()?;
            self.pass(Place::Member(&name), value)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(value) = items.next_element()? {
            self.pass(Place::Item(index), value)?;
            index += 1;
        }
        Ok(())
    }
}

/// `body` without the byte order mark that some servers send.
fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
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
        assert_eq!((check(b"{}"), check(b"{")), (Ok("{}"), Err(JsonError::Invalid)));
    }

    #[test]
    fn values_are_counted_in_any_chunks_before_a_tree_is_built() {
        let list = |items: usize| format!("[{}]", vec![r#"{"a\",[":",,[\\"}"#; items].join(","));
        let scan = |text: &str, max, chunk| {
            let mut scan = Scan::new(max);
            text.as_bytes().chunks(chunk).try_for_each(|chunk| scan.push(chunk))
        };
        for chunk in [1, 3, 1000] {
            assert_eq!(scan(&list(50), 100, chunk), Ok(()), "{chunk}");
            assert_eq!(scan(&list(51), 100, chunk), Err(JsonError::TooManyValues), "{chunk}");
        }
        assert_eq!(parse(list(MAX_TREE_VALUES).as_bytes()), Err(JsonError::TooManyValues));
        assert_eq!(parse_item(&list(MAX_TREE_VALUES)), Err(JsonError::TooManyValues));
        let most = format!("[{}]", vec!["0"; MAX_TREE_VALUES - 1].join(","));
        assert_eq!(parse_item(&most), parse(most.as_bytes()));
        assert!(check(list(MAX_TREE_VALUES).as_bytes()).is_ok(), "nothing is built");
    }

    #[test]
    fn values_at_pointers_are_slices_and_agree_with_a_tree() {
        let text = r#" {"a": {"b/c": [1, {"d": "x"}], "b": {}}, "a~": null, "n": -1.50, "a": {"b": [ 7 , 8 ]}} "#;
        let tree: Value = serde_json::from_str(text).unwrap();
        let pointers =
            ["", "/a", "/a/b", "/a/b/1", "/a/b/01", "/a/b/2", "/a/b~1c", "/a~0", "/n", "/n/x", "/x", "x", "/a/b/-"];
        for (pointer, found) in pointers.iter().zip(select(text, &pointers).unwrap()) {
            let found = found.map(|slice| serde_json::from_str::<Value>(slice).unwrap());
            assert_eq!(found.as_ref(), tree.pointer(pointer), "{pointer}");
        }
        assert_eq!(select(text, &["/a/b", "/n"]).unwrap(), [Some("[ 7 , 8 ]"), Some("-1.50")]);
        for bad in ["", "<html>", "[1, 2", r#"{"a":{"b":}}"#, "[1]]", "1 2"] {
            assert_eq!(select(bad, &["", "/a/b"]), Err(JsonError::Invalid), "{bad}");
            assert_eq!(select(bad, &["/a/b"]), Err(JsonError::Invalid), "{bad}");
        }
    }

    #[test]
    fn items_are_passed_one_by_one_until_one_fails() {
        let mut seen = Vec::new();
        let mut take = |item| {
            seen.push(item);
            if item == "3" { Err(JsonError::TooDeep) } else { Ok(()) }
        };
        assert_eq!(each_item(r#"[1, {"a":[2]}, 3, 4]"#, &mut take), Err(JsonError::TooDeep));
        assert_eq!(seen, ["1", r#"{"a":[2]}"#, "3"]);
        assert_eq!(each_item("[1, ", |_| Ok(())), Err(JsonError::Invalid));
    }
}
