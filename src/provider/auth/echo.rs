//! What a provider sends back of our own credentials, which nobody who asked is to see: a link to the next page with the
//! key in it, an error that repeats the request. Callers of the gateway may get a provider's answer as it came, so it is
//! taken out here, before anybody else has the answer.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::provider::call::Answer;
use crate::provider::settings::{Auth, Settings};

/// Shorter values are in every second answer by chance, and secret to nobody.
const LEAST: usize = 8;
/// What stands in place of a credential.
const HIDDEN: &str = "***";
/// What a query value is written with as it is.
const AS_IT_IS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Takes the secrets of `settings`, and `token` where one was sent, out of an answer: plain, percent-encoded and as JSON
/// writes them. Names of users and clients are no secrets: they may well be what was asked for.
pub(super) fn hide(answer: &mut Answer, settings: &Settings, token: Option<&str>) {
    let mut forms = Forms(Vec::new());
    for secret in secrets(settings) {
        forms.add(secret);
    }
    if let Some(token) = token {
        forms.add(token);
    }
    if let Auth::Basic { username, password } = settings.auth() {
        let pair = Zeroizing::new(format!("{}:{}", username.expose_secret(), password.expose_secret()));
        forms.0.push(Cow::Owned(STANDARD.encode(pair.as_bytes())));
    }
    for form in forms.0.iter().filter(|form| form.len() >= LEAST) {
        if let Some(body) = without(&answer.body, form) {
            answer.body = Bytes::from(body);
            if answer.headers.contains_key(CONTENT_LENGTH) {
                answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(answer.body.len()));
            }
        }
        for value in answer.headers.values_mut() {
            if let Some(Ok(hidden)) = without(value.as_bytes(), form).map(|bytes| HeaderValue::from_bytes(&bytes)) {
                *value = hidden;
            }
        }
    }
}

/// The ways that secrets may be written in, wiped when done.
struct Forms<'a>(Vec<Cow<'a, str>>);

impl<'a> Forms<'a> {
    fn add(&mut self, secret: &'a str) {
        self.0.push(Cow::Borrowed(secret));
        // Most keys are written alike everywhere.
        if secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return;
        }
        self.0.push(Cow::Owned(utf8_percent_encode(secret, AS_IT_IS).to_string()));
        let json = Zeroizing::new(serde_json::Value::from(secret).to_string());
        let inside = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        self.0.extend(inside.map(|json| Cow::Owned(json.to_owned())));
    }
}

impl Drop for Forms<'_> {
    fn drop(&mut self) {
        for form in &mut self.0 {
            if let Cow::Owned(form) = form {
                form.zeroize();
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
            // The value in the Secret is what comes after the profile's own words.
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

/// `bytes` with each `secret` in them hidden; none if there is none.
fn without(bytes: &[u8], secret: &str) -> Option<Vec<u8>> {
    let mut next = find(bytes, secret)?;
    let (mut hidden, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
    loop {
        let (before, from) = rest.split_at_checked(next)?;
        hidden.extend_from_slice(before);
        hidden.extend_from_slice(HIDDEN.as_bytes());
        rest = from.get(secret.len()..)?;
        match find(rest, secret) {
            Some(at) => next = at,
            None => break,
        }
    }
    hidden.extend_from_slice(rest);
    Some(hidden)
}

fn find(bytes: &[u8], secret: &str) -> Option<usize> {
    match std::str::from_utf8(bytes) {
        // Much faster than looking at each place.
        Ok(text) => text.find(secret),
        Err(_) => bytes.windows(secret.len()).position(|window| window == secret.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;

    use super::*;
    use crate::provider::settings::Placement;
    use crate::provider::testkit::{answer, settings};

    fn hidden(auth: Auth, token: Option<&str>, body: &[u8]) -> Vec<u8> {
        let settings = settings(|draft| draft.auth = auth);
        let mut said = Answer { body: Bytes::copy_from_slice(body), ..answer(200) };
        hide(&mut said, &settings, token);
        said.body.to_vec()
    }

    fn key(value: &str) -> Auth {
        let (name, prefix) = ("apikey".to_owned(), String::new());
        Auth::ApiKey { placement: Placement::Query, name, prefix, key: SecretString::from(value) }
    }

    #[test]
    fn a_key_that_comes_back_is_hidden_however_it_is_written() {
        let body = br#"{"key":"canary+key/1","page":2}"#;
        assert_eq!(hidden(key("canary+key/1"), None, body), br#"{"key":"***","page":2}"#);
        let encoded = hidden(key("canary+key/1"), None, b"?apikey=canary%2Bkey%2F1&page=2");
        assert_eq!(encoded, b"?apikey=***&page=2");
        assert_eq!(hidden(key("canary\"key\""), None, br#"["canary\"key\""]"#), br#"["***"]"#);
        assert_eq!(hidden(key("canary-key"), None, b"canary-key\xffcanary-key"), b"***\xff***", "no text at all");
    }

    #[test]
    fn what_is_no_secret_or_too_short_to_be_one_stays() {
        let body = br#"{"holder":"treasury-team","amount":"12345"}"#;
        assert_eq!(hidden(key("12345"), None, body), body);
        let (username, password) = (SecretString::from("treasury-team"), SecretString::from("canary-password"));
        let basic = Auth::Basic { username, password };
        assert_eq!(hidden(basic.clone(), None, body), body);
        let pair = STANDARD.encode("treasury-team:canary-password");
        assert_eq!(hidden(basic, None, format!("Basic {pair} canary-password").as_bytes()), b"Basic *** ***");
        assert_eq!(hidden(Auth::None, None, body), body);
        assert_eq!(hidden(Auth::None, Some("canary-token"), b"canary-token!"), b"***!");
    }

    #[test]
    fn headers_are_looked_at_and_the_length_stays_true() {
        let settings = settings(|draft| draft.auth = key("canary-key"));
        let mut said = Answer { body: Bytes::from_static(b"<canary-key>"), ..answer(302) };
        said.headers.insert(LOCATION, HeaderValue::from_static("/?apikey=canary-key&a=b"));
        said.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("12"));
        hide(&mut said, &settings, None);
        assert_eq!((said.headers[LOCATION].as_bytes(), &said.body[..]), (&b"/?apikey=***&a=b"[..], &b"<***>"[..]));
        assert_eq!(said.headers[CONTENT_LENGTH], "5");
    }
}
