//! How an `OAuth2` client authenticates at its token endpoint: in the form, or as HTTP Basic (RFC 6749 §2.3.1).
//!
//! Servers must support Basic, yet many document the form only, and some accept one of the two and answer the other with
//! `invalid_client`. Unless the spec says which, the form is sent first. A refusal of the client changes to the other
//! once; what the endpoint accepted is remembered for this endpoint and client, also when the secret is rotated. A refusal
//! after that is about the secret, and changes nothing at first. If both are refused, the secret is probably wrong: each
//! further request tries one of them, so that a client that a careful endpoint counts down is not counted twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::domain::hash::stable_hash;
use crate::settings::ClientAuthentication;

/// The characters a form does not escape.
pub(super) const FORM_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Where the client's id and secret are sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum SentIn {
    /// In the form.
    Body,
    /// In the header `Authorization`.
    Basic,
}

impl SentIn {
    const fn other(self) -> Self {
        match self {
            Self::Body => Self::Basic,
            Self::Basic => Self::Body,
        }
    }
}

/// What the endpoint of a connection last accepted, and of which client.
#[derive(Default)]
pub(crate) struct AcceptedMethod(Mutex<Option<(u64, SentIn)>>);

impl AcceptedMethod {
    fn lock(&self) -> MutexGuard<'_, Option<(u64, SentIn)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one client authenticates at one endpoint.
pub(crate) struct ClientMethod {
    configured: ClientAuthentication,
    /// Hash of the endpoint and of the client's id.
    of: u64,
    accepted: Arc<AcceptedMethod>,
    state: Mutex<State>,
}

struct State {
    current: SentIn,
    /// Whether the endpoint has accepted this one.
    settled: bool,
    /// Whether no further request follows a refusal at once, until the endpoint accepts one.
    changed: bool,
}

impl ClientMethod {
    /// The method for this client at `url`: as configured, else as `accepted` remembers it, else the form.
    pub(super) fn new(
        configured: ClientAuthentication,
        url: &str,
        client_id: &SecretString,
        accepted: Arc<AcceptedMethod>,
    ) -> Self {
        let of = stable_hash(&Zeroizing::new(format!("{url}\n{}", client_id.expose_secret())));
        let known = accepted.lock().filter(|(client, _)| *client == of);
        let current = match configured {
            ClientAuthentication::Basic => SentIn::Basic,
            ClientAuthentication::Body => SentIn::Body,
            ClientAuthentication::Auto => known.map_or(SentIn::Body, |(_, method)| method),
        };
        let state = State { current, settled: known.is_some(), changed: false };
        Self { configured, of, accepted, state: Mutex::new(state) }
    }

    /// Where the next request sends id and secret.
    pub(super) fn current(&self) -> SentIn {
        self.lock().current
    }

    /// The endpoint accepted the client.
    pub(super) fn accept(&self) {
        let current = {
            let mut state = self.lock();
            (state.settled, state.changed) = (true, false);
            state.current
        };
        *self.accepted.lock() = Some((self.of, current));
    }

    /// The endpoint refused the client: changes the method of the next request. Returns whether that one may follow at
    /// once, because the other method has not been tried.
    pub(super) fn change(&self) -> bool {
        if self.configured != ClientAuthentication::Auto {
            return false;
        }
        let mut state = self.lock();
        if std::mem::take(&mut state.settled) {
            state.changed = true;
            return false;
        }
        state.current = state.current.other();
        !std::mem::replace(&mut state.changed, true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header `Authorization` of RFC 6749 §2.3.1: id and secret are form-encoded before they are joined, so that a colon
/// in an id is no separator.
pub(super) fn basic(client_id: &SecretString, client_secret: &SecretString) -> Option<HeaderValue> {
    let (id, secret) = (client_id.expose_secret(), client_secret.expose_secret());
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    pair.extend(percent_encode(id.as_bytes(), FORM_ESCAPES));
    pair.push(':');
    pair.extend(percent_encode(secret.as_bytes(), FORM_ESCAPES));
    let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
    let value = Zeroizing::new(format!("Basic {}", encoded.as_str()));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    fn method(configured: ClientAuthentication, accepted: &Arc<AcceptedMethod>) -> ClientMethod {
        ClientMethod::new(configured, "https://bank.test/token", &secret("canary-id"), Arc::clone(accepted))
    }

    #[test]
    fn a_refused_client_changes_once_and_what_was_accepted_is_remembered() {
        let accepted = Arc::default();
        let first = method(ClientAuthentication::Auto, &accepted);
        assert_eq!(first.current(), SentIn::Body);
        assert!(first.change());
        assert_eq!(first.current(), SentIn::Basic);
        first.accept();
        assert_eq!(method(ClientAuthentication::Auto, &accepted).current(), SentIn::Basic, "after a rotation");
        let other = ClientMethod::new(
            ClientAuthentication::Auto,
            "https://other.test/token",
            &secret("canary-id"),
            Arc::clone(&accepted),
        );
        assert_eq!(other.current(), SentIn::Body, "another endpoint");
        assert!(!first.change(), "a refusal later is about the secret");
        assert_eq!(first.current(), SentIn::Basic);
        assert!(!first.change());
        assert_eq!(first.current(), SentIn::Body, "if it stays refused both are tried in turn");
    }

    #[test]
    fn a_client_that_is_refused_both_ways_is_tried_once_at_a_time() {
        let method = method(ClientAuthentication::Auto, &Arc::default());
        assert!(method.change());
        for next in [SentIn::Body, SentIn::Basic, SentIn::Body] {
            assert!(!method.change());
            assert_eq!(method.current(), next);
        }
    }

    #[test]
    fn a_configured_method_never_changes() {
        for (configured, sent) in
            [(ClientAuthentication::Basic, SentIn::Basic), (ClientAuthentication::Body, SentIn::Body)]
        {
            let method = method(configured, &Arc::default());
            assert!(!method.change());
            assert_eq!(method.current(), sent);
        }
    }

    #[test]
    fn id_and_secret_are_form_encoded_in_basic() {
        let value = basic(&secret("id:1"), &secret("a b+c%/é")).unwrap();
        assert!(value.is_sensitive());
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(pair, "id%3A1:a%20b%2Bc%25%2F%C3%A9");
    }
}
