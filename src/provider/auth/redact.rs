//! Redacts our credentials from a provider's response: a link to the next page may contain the key, an error may repeat
//! the request. Callers of the gateway may get the response unchanged, so it is redacted here, before anything else
//! reads it.
//!
//! A credential is found in whatever escapes the provider wrote it ([`escapes`](super::escapes)), and as base64 or hex,
//! alone or in the middle of a longer text.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use crate::provider::auth::escapes;
use crate::provider::call::Response;
use crate::settings::{Auth, Settings};

/// Shorter values occur by chance and are too short to be secret.
const MIN_SECRET_LEN: usize = 8;
/// Replaces a credential.
const MASK: &str = "***";
/// Length of the parts of a secret by which it is searched.
const GRAM: usize = 4;
/// Every so many bytes of a text are looked at: each occurrence of a secret has a whole part there.
const STRIDE: usize = MIN_SECRET_LEN - GRAM + 1;
/// Size of the table of hashes: a bit for each value of two bytes.
const GRAM_WORDS: usize = 65_536 / 64;

/// Redacts the secrets of `settings`, and `token` if one was sent. User names and client ids are not secret: the caller
/// may have asked for them.
pub(super) fn redact(response: &mut Response, settings: &Settings, token: Option<&str>) {
    let mut needles = Needles::new();
    for secret in secrets(settings).into_iter().chain(token) {
        needles.add(secret);
    }
    if let Auth::Basic { username, password } = settings.auth() {
        let pair = Zeroizing::new(format!("{}:{}", username.expose_secret(), password.expose_secret()));
        needles.push(STANDARD.encode(pair.as_bytes()));
    }
    if let Some(body) = needles.redacted(&response.body) {
        response.body = Bytes::from(body);
        if response.headers.contains_key(CONTENT_LENGTH) {
            response.headers.insert(CONTENT_LENGTH, HeaderValue::from(response.body.len()));
        }
    }
    for value in response.headers.values_mut() {
        if let Some(Ok(redacted)) = needles.redacted(value.as_bytes()).map(|bytes| HeaderValue::from_bytes(&bytes)) {
            *value = redacted;
        }
    }
}

/// A text that reveals a secret.
struct Needle {
    text: String,
    /// Base64 characters before it that encode bits of the secret and of other data.
    before: usize,
    /// The same after it.
    after: usize,
}

/// The texts that reveal a secret, wiped on drop.
struct Needles {
    list: Vec<Needle>,
    /// A bit for the hash of each part of theirs.
    grams: Box<[u64; GRAM_WORDS]>,
}

impl Needles {
    fn new() -> Self {
        Self { list: Vec::new(), grams: Box::new([0; GRAM_WORDS]) }
    }

    /// Adds the forms of `secret` that are not mere escapes of its characters.
    fn add(&mut self, secret: &str) {
        if secret.len() < MIN_SECRET_LEN {
            return;
        }
        self.push(secret.to_owned());
        // A secret that looks escaped is compared both as it is and decoded as far as the text is.
        if let Ok(decoded) = std::str::from_utf8(&escapes::innermost(secret.as_bytes()))
            && decoded != secret
        {
            self.push(decoded.to_owned());
        }
        // The form encoding of a space.
        if secret.contains(' ') {
            self.push(secret.replace(' ', "+"));
        }
        let digits = hex::encode(secret);
        self.push(digits.to_ascii_uppercase());
        self.push(digits);
        for shift in 0..3 {
            self.add_base64(secret.as_bytes(), shift);
        }
    }

    /// Adds the base64 of `secret` after `shift` other bytes: the characters that depend on the secret alone.
    fn add_base64(&mut self, secret: &[u8], shift: usize) {
        let shifted = Zeroizing::new(std::iter::repeat_n(0, shift).chain(secret.iter().copied()).collect::<Vec<u8>>());
        let (head, after) = ((shift * 8).div_ceil(6), usize::from(!shifted.len().is_multiple_of(3)));
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*shifted));
            let Some(core) = encoded.get(head..encoded.len().saturating_sub(after)) else { continue };
            if self.list.last().is_none_or(|last| last.text != core) {
                self.insert(Needle { text: core.to_owned(), before: usize::from(shift > 0), after });
            }
        }
    }

    /// Adds a text unless it is too short to be secret.
    fn push(&mut self, text: String) {
        if text.len() >= MIN_SECRET_LEN {
            self.insert(Needle { text, before: 0, after: 0 });
        }
    }

    fn insert(&mut self, needle: Needle) {
        for gram in needle.grams() {
            let bit = gram_hash(gram);
            if let Some(word) = self.grams.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        self.list.push(needle);
    }

    /// `bytes` with each secret replaced by [`MASK`]; `None` if there is none.
    fn redacted(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if self.list.is_empty() || bytes.len() < MIN_SECRET_LEN {
            return None;
        }
        let mut found = escapes::find(bytes, |layer, found| self.find(layer, found));
        found.sort_unstable_by_key(|range| range.start);
        let (mut redacted, mut done) = (Vec::with_capacity(bytes.len()), 0);
        for range in &found {
            if range.start >= done {
                redacted.extend_from_slice(bytes.get(done..range.start)?);
                redacted.extend_from_slice(MASK.as_bytes());
            }
            done = done.max(range.end);
        }
        redacted.extend_from_slice(bytes.get(done..)?);
        (!found.is_empty()).then_some(redacted)
    }

    /// Adds where the needles occur in `text`, one of the layers of a response.
    ///
    /// One pass over a fifth of the bytes, however many needles there are: pages of some megabytes are searched, and
    /// almost none has a secret in it.
    fn find(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        for (gram, at) in text.windows(GRAM).step_by(STRIDE).zip((0_usize..).step_by(STRIDE)) {
            let Some(gram) = gram.first_chunk::<GRAM>() else { continue };
            let bit = gram_hash(*gram);
            if self.grams.get(bit / 64).is_none_or(|word| word & (1 << (bit % 64)) == 0) {
                continue;
            }
            if found.len() > escapes::MAX_FOUND {
                return;
            }
            for needle in &self.list {
                let starts = needle.grams().enumerate().filter(|(_, own)| own == gram);
                for start in starts.filter_map(|(offset, _)| at.checked_sub(offset)) {
                    if text.get(start..).is_some_and(|rest| rest.starts_with(needle.text.as_bytes())) {
                        found.push(needle.widened(text, start));
                    }
                }
            }
        }
    }
}

/// Index of the bit of a part of a text.
fn gram_hash(gram: [u8; GRAM]) -> usize {
    usize::from(u16::try_from(u32::from_le_bytes(gram).wrapping_mul(0x9E37_79B1) >> 16).unwrap_or_default())
}

impl Needle {
    /// The parts at its first bytes; one of them is where a text is looked at.
    fn grams(&self) -> impl Iterator<Item = [u8; GRAM]> {
        self.text.as_bytes().windows(GRAM).take(STRIDE).filter_map(|gram| gram.first_chunk().copied())
    }

    /// Its range at `at` in `text`, with the adjacent base64 characters that also encode bits of the secret.
    fn widened(&self, text: &[u8], at: usize) -> Range<usize> {
        let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
        let is_at = |at: &usize| text.get(*at).is_some_and(is_base64);
        let start = at.checked_sub(self.before).filter(is_at).unwrap_or(at);
        let end = at + self.text.len();
        start..end + self.after * usize::from(is_at(&end))
    }
}

impl Drop for Needles {
    fn drop(&mut self) {
        for needle in &mut self.list {
            needle.text.zeroize();
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
        Auth::Profile { headers, query, body } => {
            let mapped = settings.profile().auth.as_ref();
            // The value in the Secret is what follows the profile's prefix.
            let bare = |(name, value): &'_ (String, SecretString)| -> usize {
                let prefix = mapped.and_then(|auth| auth.headers.iter().find(|header| header.name == *name));
                let prefix = prefix.map_or("", |header| header.prefix.as_str());
                if value.expose_secret().starts_with(prefix) { prefix.len() } else { 0 }
            };
            let headers = headers.iter().filter_map(|header| header.1.expose_secret().get(bare(header)..));
            let in_body = body.iter().filter_map(|(_, value)| value.as_ref()).map(secrecy::ExposeSecret::expose_secret);
            headers.chain(query.iter().map(|(_, value)| value.expose_secret())).chain(in_body).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;
    use proptest::prelude::*;

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
    fn an_echoed_key_is_redacted_in_every_escaping() {
        let body = br#"{"key":"canary+key/1","page":2}"#;
        assert_eq!(redacted(key("canary+key/1"), None, body), br#"{"key":"***","page":2}"#);
        for echoed in [
            "canary%2Bkey%2F1",
            "canary%2bkey%2f1",
            "canary%252Bkey%252f1",
            r"canary+key\/1",
            r"canary\u002bkey\u002F1",
            r"canary\\u002bkey\\/1",
            "canary&#43;key&#x2F;1",
            "canary&plus;key&sol;1",
            r"\u0063anary\x2bkey/1",
            "%63%61%6e%61%72%79%2b%6B%65%79%2F%31",
        ] {
            let body = format!("?apikey={echoed}&page=2");
            assert_eq!(redacted(key("canary+key/1"), None, body.as_bytes()), b"?apikey=***&page=2", "{echoed}");
        }
        assert_eq!(redacted(key("canary\"key\""), None, br#"["canary\"key\""]"#), br#"["***"]"#);
        assert_eq!(redacted(key("canary-key"), None, b"canary-key\xffcanary-key"), b"***\xff***", "not UTF-8");
        assert_eq!(redacted(key("canary key 1"), None, b"?k=canary+key+1"), b"?k=***", "a form");
        // A key that looks escaped.
        assert_eq!(redacted(key("canary%2Fkey"), None, br"canary%2Fkey canary%252fkey"), b"*** ***");
    }

    #[test]
    fn a_body_that_repeats_the_key_without_end_is_redacted_whole() {
        let many = |times: usize, end: &str| format!("[{}]{end}", "canary-1".repeat(times));
        let all = redacted(key("canary-1"), None, many(1_000, "").as_bytes());
        assert_eq!(all.len(), "[]".len() + 1_000 * MASK.len());
        for end in ["", "%252541"] {
            let body = many(escapes::MAX_FOUND + 1, end);
            assert_eq!(redacted(key("canary-1"), None, body.as_bytes()), MASK.as_bytes(), "{end}");
        }
    }

    #[test]
    fn an_echoed_key_is_redacted_in_base64_and_hex() {
        for key_text in ["canary+key/1", "canary??key>>", "canary-key"] {
            for before in ["", "u", "us", "user:"] {
                let text = format!("{before}{key_text}:after");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let body = redacted(key(key_text), None, format!("x={encoded}").as_bytes());
                    let body = String::from_utf8(body).unwrap();
                    assert!(body.contains("***") && body.len() < 3 + before.len() * 2 + 15, "{encoded}: {body}");
                }
            }
            let escaped = STANDARD.encode(key_text).replace('/', r"\/").replace('+', "%2B").replace('=', "%3d");
            let body = redacted(key(key_text), None, format!("<{escaped}>").as_bytes());
            assert!(body.starts_with(b"<***"), "{escaped}: {}", String::from_utf8_lossy(&body));
            for encoded in [hex::encode(key_text), hex::encode_upper(key_text)] {
                assert_eq!(redacted(key(key_text), None, format!("<{encoded}>").as_bytes()), b"<***>");
            }
        }
    }

    /// Applies an escaping to every character that is not alphanumeric, or to all.
    fn escaped(text: &str, kind: u8, all: bool) -> String {
        let escape = |c: char| {
            let code = u32::from(c);
            match kind {
                _ if c.is_ascii_alphanumeric() && !all => c.to_string(),
                0 => format!("%{code:02x}"),
                1 => format!("%{code:02X}"),
                2 => format!("\\u{code:04x}"),
                3 => format!("\\u{code:04X}"),
                4 => format!("&#{code};"),
                5 => format!("&#x{code:x};"),
                _ if c.is_ascii_alphanumeric() => format!("\\x{code:02x}"),
                _ => format!("\\{c}"),
            }
        };
        text.chars().map(escape).collect()
    }

    proptest! {
        #[test]
        fn a_key_is_redacted_however_often_it_is_escaped(
            secret in r#"[a-zA-Z0-9+/=_.<>"' -]{8,40}"#,
            kinds in proptest::collection::vec((0..7u8, any::<bool>()), 0..4),
        ) {
            let echoed = kinds.iter().fold(secret.clone(), |text, (kind, all)| escaped(&text, *kind, *all));
            let mut needles = Needles::new();
            needles.add(&secret);
            let body = needles.redacted(format!("[{echoed}]").as_bytes()).unwrap_or_default();
            prop_assert_eq!(String::from_utf8_lossy(&body), "[***]", "{}", echoed);
        }
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
