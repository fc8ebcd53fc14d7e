//! Addresses as they are written, and the digest that a revision is.

use std::fmt;

use reqwest::Url;
use sha2::{Digest, Sha256};

use crate::provider::settings::SettingsError;

/// The URL of `path` on the host of `base`; `None` if `base` is no URL.
pub fn with_path(base: &str, path: &str) -> Option<String> {
    let mut url = parse_url("endpoint.baseURL", base).ok()?;
    url.set_path(path);
    Some(url.into())
}

/// Reads an absolute http(s) URL without user, query or fragment.
pub(crate) fn parse_url(field: &'static str, text: &str) -> Result<Url, SettingsError> {
    if text.is_empty() {
        return Err(SettingsError::new(field, "the provider has no address of its own: set one"));
    }
    let url = Url::parse(text).map_err(|error| SettingsError::new(field, format!("is no URL: {error}")))?;
    let plain = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(SettingsError::new(field, "must be an http or https URL with a host"));
    }
    if !plain || url.query().is_some() || url.fragment().is_some() {
        return Err(SettingsError::new(field, "must have no user, query or fragment"));
    }
    Ok(url)
}

/// A short digest over texts, each with its length so that no two lists print alike.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}
