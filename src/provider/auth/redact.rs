//! Redacts our credentials from a provider's response: a link to the next page may contain the key, an error may repeat
//! the request. Callers of the gateway may get the response unchanged, so it is redacted here, before anything else
//! reads it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::provider::call::Response;
use crate::settings::{Auth, Settings};

/// Shorter values occur by chance and are too short to be secret.
const MIN_SECRET_LEN: usize = 8;
/// Replaces a credential.
const MASK: &str = "***";
/// The characters a query value does not escape.
const QUERY_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Redacts the secrets of `settings`, and `token` if one was sent: plain, percent-encoded and JSON-escaped. User names
/// and client ids are not secret: the caller may have asked for them.
pub(super) fn redact(response: &mut Response, settings: &Settings, token: Option<&str>) {
    let mut encodings = Encodings(Vec::new());
    for secret in secrets(settings) {
        encodings.add(secret);
    }
    if let Some(token) = token {
        encodings.add(token);
    }
    if let Auth::Basic { username, password } = settings.auth() {
        let pair = Zeroizing::new(format!("{}:{}", username.expose_secret(), password.expose_secret()));
        encodings.0.push(Cow::Owned(STANDARD.encode(pair.as_bytes())));
    }
    for secret in encodings.0.iter().filter(|secret| secret.len() >= MIN_SECRET_LEN) {
        if let Some(body) = replaced(&response.body, secret) {
            response.body = Bytes::from(body);
            if response.headers.contains_key(CONTENT_LENGTH) {
                response.headers.insert(CONTENT_LENGTH, HeaderValue::from(response.body.len()));
            }
        }
        for value in response.headers.values_mut() {
            if let Some(Ok(redacted)) = replaced(value.as_bytes(), secret).map(|bytes| HeaderValue::from_bytes(&bytes))
            {
                *value = redacted;
            }
        }
    }
}

/// The encodings in which secrets may occur, wiped on drop.
struct Encodings<'a>(Vec<Cow<'a, str>>);

impl<'a> Encodings<'a> {
    fn add(&mut self, secret: &'a str) {
        self.0.push(Cow::Borrowed(secret));
        // Most keys need no escapes.
        if secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return;
        }
        self.0.push(Cow::Owned(utf8_percent_encode(secret, QUERY_ESCAPES).to_string()));
        let json = Zeroizing::new(serde_json::Value::from(secret).to_string());
        let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        self.0.extend(inside.map(|json| Cow::Owned(json.to_owned())));
    }
}

impl Drop for Encodings<'_> {
    fn drop(&mut self) {
        for encoding in &mut self.0 {
            if let Cow::Owned(encoding) = encoding {
                encoding.zeroize();
            }
        }
    }
}

fn secrets(settings: &Settings) -> Vec<&str> {
    match settings.auth() {
        Auth::None => Vec::new(),
        Auth::Bearer { token: secret } | Auth::Basic { password: secret, .. } | Auth::ApiKey { key: secret, .. } => {
            vec![secret.expose_secret()]
        }
        Auth::ClientCredentials(client) => vec![client.client_secret.expose_secret()],
        Auth::RefreshToken { client, refresh_token } => {
            vec![client.client_secret.expose_secret(), refresh_token.expose_secret()]
        }
        Auth::ProfileToken { fields, .. } => fields.iter().map(|(_, value)| value.expose_secret()).collect(),
        Auth::Profile { headers, query } => {
            let mapped = settings.profile().auth.as_ref();
            // The value in the Secret is what follows the profile's prefix.
            let bare = |(name, value): &'_ (String, SecretString)| -> usize {
                let prefix = mapped.and_then(|auth| auth.headers.iter().find(|header| header.name == *name));
                let prefix = prefix.map_or("", |header| header.prefix.as_str());
                if value.expose_secret().starts_with(prefix) { prefix.len() } else { 0 }
            };
            let headers = headers.iter().filter_map(|header| header.1.expose_secret().get(bare(header)..));
            headers.chain(query.iter().map(|(_, value)| value.expose_secret())).collect()
        }
    }
}

/// `bytes` with each `secret` replaced by [`MASK`]; `None` if it does not occur.
fn replaced(bytes: &[u8], secret: &str) -> Option<Vec<u8>> {
    let mut next = find(bytes, secret)?;
    let (mut redacted, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    loop {
        let (before, from) = rest.split_at_checked(next)?;
        redacted.extend_from_slice(before);
        redacted.extend_from_slice(MASK.as_bytes());
        rest = from.get(secret.len()..)?;
        match find(rest, secret) {
            Some(at) => next = at,
            None => break,
        }
    }
    redacted.extend_from_slice(rest);
    Some(redacted)
}

fn find(bytes: &[u8], secret: &str) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        // Much faster than comparing at each position.
        Ok(text) => text.find(secret),
        Err(_) => bytes.windows(secret.len()).position(|window| window == secret.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;

    use super::*;
    use crate::provider::testkit::{response, settings};
    use crate::settings::Placement;

    fn redacted(auth: Auth, token: Option<&str>, body: &[u8]) -> Vec<u8> {
        let settings = settings(|draft| draft.auth = auth);
        let mut response = Response { body: Bytes::copy_from_slice(body), ..response(200) };
        redact(&mut response, &settings, token);
        response.body.to_vec()
    }

    fn key(value: &str) -> Auth {
        let (name, prefix) = ("apikey".to_owned(), String::new());
        Auth::ApiKey { placement: Placement::Query, name, prefix, key: SecretString::from(value) }
    }

    #[test]
    fn an_echoed_key_is_redacted_in_every_encoding() {
        let body = br#"{"key":"canary+key/1","page":2}"#;
        assert_eq!(redacted(key("canary+key/1"), None, body), br#"{"key":"***","page":2}"#);
        let encoded = redacted(key("canary+key/1"), None, b"?apikey=canary%2Bkey%2F1&page=2");
        assert_eq!(encoded, b"?apikey=***&page=2");
        assert_eq!(redacted(key("canary\"key\""), None, br#"["canary\"key\""]"#), br#"["***"]"#);
        assert_eq!(redacted(key("canary-key"), None, b"canary-key\xffcanary-key"), b"***\xff***", "not UTF-8");
    }

    #[test]
    fn user_names_and_short_values_are_not_redacted() {
        let body = br#"{"holder":"treasury-team","amount":"12345"}"#;
        assert_eq!(redacted(key("12345"), None, body), body);
        let (username, password) = (SecretString::from("treasury-team"), SecretString::from("canary-password"));
        let basic = Auth::Basic { username, password };
        assert_eq!(redacted(basic.clone(), None, body), body);
        let pair = STANDARD.encode("treasury-team:canary-password");
        assert_eq!(redacted(basic, None, format!("Basic {pair} canary-password").as_bytes()), b"Basic *** ***");
        assert_eq!(redacted(Auth::None, None, body), body);
        assert_eq!(redacted(Auth::None, Some("canary-token"), b"canary-token!"), b"***!");
    }

    #[test]
    fn headers_are_redacted_and_content_length_is_adjusted() {
        let settings = settings(|draft| draft.auth = key("canary-key"));
        let mut response = Response { body: Bytes::from_static(b"<canary-key>"), ..response(302) };
        response.headers.insert(LOCATION, HeaderValue::from_static("/?apikey=canary-key&a=b"));
        response.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("12"));
        redact(&mut response, &settings, None);
        assert_eq!(
            (response.headers[LOCATION].as_bytes(), &response.body[..]),
            (&b"/?apikey=***&a=b"[..], &b"<***>"[..])
        );
        assert_eq!(response.headers[CONTENT_LENGTH], "5");
    }
}
