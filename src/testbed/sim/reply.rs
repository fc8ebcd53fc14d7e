//! A response before the script's behaviour is applied to it.

use axum::body::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;

/// `application/json`, the media type of all regular responses.
pub(crate) const JSON: &str = "application/json";

/// Status, content type, body and additional headers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// A constant body, without allocation.
    pub(crate) const fn fixed(status: u16, body: &'static str) -> Self {
        Self { status, content_type: JSON, body: Bytes::from_static(body.as_bytes()), headers: Vec::new() }
    }

    /// `value` as JSON.
    pub(crate) fn json<T: Serialize>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, content_type: JSON, body: body.into(), headers: Vec::new() },
            Err(_) => {
                Self::fixed(500, r#"{"status":"failed","message":"internal error: response could not be serialized"}"#)
            }
        }
    }

    /// Mono's error body.
    pub(crate) fn failed(status: u16, message: &str) -> Self {
        #[derive(Serialize)]
        struct Failed<'a> {
            status: &'static str,
            message: &'a str,
        }
        Self::json(status, &Failed { status: "failed", message })
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.push((name, HeaderValue::from_static(value)));
        self
    }
}

/// The pairs of a query string, decoded.
pub(crate) fn pairs(query: Option<&str>) -> impl Iterator<Item = (String, String)> + '_ {
    query.unwrap_or_default().split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The first value of one query parameter.
pub(crate) fn param(query: Option<&str>, wanted: &str) -> Option<String> {
    pairs(query).find(|(name, _)| name == wanted).map(|(_, value)| value)
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}
