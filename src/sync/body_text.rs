//! The body of a response as a text that can be parsed, whatever characters are in it. Pure.
//!
//! See [`json_text`]: where a character is not valid, parsers see a copy of the body; what was sent is known for each
//! part of it.

use bytes::Bytes;
use serde_json::Value;

use crate::domain::run_reason::RunReason;
use crate::profile::json::{self, JsonError};
use crate::profile::json_text;

/// Longest text that is read from a response besides its records, in bytes: a position is stored with the cursor, and
/// sent.
const MAX_SCALAR: usize = 4096;

/// A body as a text.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyText {
    text: Bytes,
    /// The body as it was sent, if the text differs from it; of the same length.
    sent: Option<Bytes>,
}

impl BodyText {
    /// A body whose characters are all valid.
    pub fn sound(body: Bytes) -> Self {
        Self { text: body, sent: None }
    }

    /// A body in which some may not be, and its copy, which takes as much memory again.
    pub fn repaired(body: Bytes, copy: Bytes) -> Self {
        Self { text: copy, sent: Some(body) }
    }

    /// A body of either kind.
    pub fn of(body: &Bytes) -> Self {
        if json_text::is_sound(body) {
            return Self::sound(body.clone());
        }
        Self::repaired(body.clone(), json_text::copy(body).into())
    }

    /// The text for [`json::select`] and [`json::each_item`].
    pub fn document(&self) -> Result<&str, JsonError> {
        json::text(&self.text)
    }

    /// The text of a [`part`](Self::part): the document that it is of was checked as a whole.
    pub fn part_text(&self) -> Result<&str, JsonError> {
        std::str::from_utf8(&self.text).map_err(|_| JsonError::Invalid)
    }

    /// The memory of a part of it, in bytes.
    pub fn memory(&self) -> usize {
        self.text.len() + self.sent.as_ref().map_or(0, Bytes::len)
    }

    /// The part `slice` of the document.
    #[must_use]
    pub fn part(&self, slice: &str) -> Self {
        let at = self.place(slice);
        let sent = self.sent.as_ref().filter(|sent| at.end <= sent.len()).map(|sent| sent.slice(at));
        Self { text: self.text.slice_ref(slice.as_bytes()), sent }
    }

    /// What was sent in the place of `slice`, if it differs from it.
    pub fn sent_as(&self, slice: &str) -> Option<&[u8]> {
        let sent = self.sent.as_ref()?.get(self.place(slice))?;
        (sent != slice.as_bytes()).then_some(sent)
    }

    /// The small value `slice`; one with a character that is not valid cannot be sent back, and is not read.
    pub fn scalar(&self, slice: &str) -> Result<Value, RunReason> {
        if slice.len() > MAX_SCALAR || self.sent_as(slice).is_some() {
            return Err(RunReason::PaginationUnreadable);
        }
        json::parse(slice.as_bytes()).map_err(|_| RunReason::BodyUnreadable)
    }

    fn place(&self, slice: &str) -> std::ops::Range<usize> {
        let at = slice.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        at..at.saturating_add(slice.len())
    }
}

/// The texts at JSON pointers into a document; `None` where there is none, or one with a character that is not valid.
pub fn texts(body: &BodyText, pointers: &[&str]) -> Result<Vec<Option<String>>, RunReason> {
    let document = body.document().map_err(|_| RunReason::BodyUnreadable)?;
    let slices = json::select(document, pointers).map_err(|_| RunReason::BodyUnreadable)?;
    let text = |slice: Option<&str>| match body.scalar(slice?) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    };
    Ok(slices.into_iter().map(text).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_body_are_known_as_they_were_sent() {
        let body = Bytes::from_static(b"\xef\xbb\xbf{\"a\": [\"x\", \"caf\xe9\"], \"b\xff\": 1, \"c\": \"\\ud800\"}");
        let text = BodyText::of(&body);
        let found = json::select(text.document().unwrap(), &["/a", "/a/0", "/a/1", "/b?", "/c"]).unwrap();
        let sent: Vec<_> = found.iter().map(|slice| text.sent_as(slice.unwrap())).collect();
        assert_eq!(sent, [Some(&b"[\"x\", \"caf\xe9\"]"[..]), None, Some(b"\"caf\xe9\""), None, Some(br#""\ud800""#)]);
        let part = text.part(found[0].unwrap());
        assert_eq!((part.document().unwrap(), part.memory()), (r#"["x", "caf?"]"#, 26));
        assert_eq!(part.sent_as(&part.document().unwrap()[6..12]), Some(&b"\"caf\xe9\""[..]));
        assert_eq!(texts(&text, &["/a/0", "/a/1", "/c", "/d"]).unwrap(), [Some("x".to_owned()), None, None, None]);
    }

    #[test]
    fn a_sound_body_is_its_own_text() {
        let body = Bytes::from_static(br#"{"a": "x"}"#);
        let text = BodyText::of(&body);
        assert_eq!((text.clone(), text.memory()), (BodyText::sound(body.clone()), body.len()));
    }
}
