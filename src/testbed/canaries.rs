//! Canary secrets and the scan for leaks of them, shared by tests and demo.
//!
//! Each value contains a unique core of hexadecimal digits, which URL encoding and JSON escaping leave unchanged,
//! between characters that need escaping. The scan looks for the core: as plain text, as hex, and in base64 at each of
//! the three alignments, so that `user:secret` in a Basic header is found too.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use uuid::Uuid;

/// The canary secrets of one test or demo.
#[derive(Debug, Default)]
pub struct Canaries {
    secrets: Mutex<Vec<(String, String)>>,
}

impl Canaries {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new secret value; a reported leak names its `label`.
    pub fn value(&self, label: &str) -> String {
        let core = Uuid::new_v4().simple().to_string();
        let value = format!("fake-{label}-canary+{core}/=&");
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner).push((label.to_owned(), core));
        value
    }

    /// The leaks in `text`, which comes from `source`: one line per secret, without its value.
    pub fn leaks(&self, source: &str, text: &str) -> Vec<String> {
        let lower = text.to_ascii_lowercase();
        let mut leaks = Vec::new();
        for (label, core) in self.secrets.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (form, needle) in forms(core) {
                // Hex digits match in either case; base64 is case-sensitive.
                let at = if form == "base64" { text.find(&needle) } else { lower.find(&needle) };
                if let Some(at) = at {
                    let line = text[..at].matches('\n').count() + 1;
                    leaks.push(format!("secret `{label}` leaked in {source}, line {line}, as {form}"));
                    break;
                }
            }
        }
        leaks
    }
}

/// The encodings in which a core may appear, each with its name.
fn forms(core: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![("plain or URL-encoded text", core.to_owned()), ("hex", hex::encode(core))];
    for before in 0..3_usize {
        let shifted: Vec<u8> = std::iter::repeat_n(0, before).chain(core.bytes()).collect();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&shifted);
            // Characters that also encode bits of adjacent bytes are omitted.
            let end = encoded.len() - usize::from(!shifted.len().is_multiple_of(3));
            forms.push(("base64", encoded[(before * 8).div_ceil(6)..end].to_owned()));
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_encoding_and_other_text_is_clean() {
        let canaries = Canaries::new();
        let value = canaries.value("token");
        let other = Canaries::new().value("token");
        let quoted = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string();
        let mut texts = vec![value.clone(), quoted, format!("{value:?}"), value.to_ascii_uppercase()];
        for prefix in ["", "u", "us", "user:"] {
            texts.push(STANDARD_NO_PAD.encode(format!("{prefix}{value}")));
            texts.push(URL_SAFE_NO_PAD.encode(format!("{prefix}{value}")));
        }
        for text in &texts {
            assert_eq!(canaries.leaks("a log", &format!("first\nx{text}y")).len(), 1, "not found in {text}");
        }
        assert!(canaries.leaks("a log", &other).is_empty());
        let leak = &canaries.leaks("a log", &format!("first\n{value}"))[0];
        assert!(leak.contains("line 2") && !leak.contains(&value), "{leak}");
    }
}
