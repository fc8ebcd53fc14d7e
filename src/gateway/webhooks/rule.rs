//! How the webhooks of a connection are verified, and which of them trigger syncs.
//!
//! The signature is that of the raw body, before anything of it is read. Every secret is tried, and compared in constant
//! time: the time of an answer tells neither how much of a secret was right nor which one was.

use std::time::Duration;

use aws_lc_rs::hmac;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::domain::key::ObjectKey;
use crate::ledger::delivery::ReplayMark;
use crate::profile::{WebhookScheme, json};

/// How far the time of a webhook may be from now, where its signed content has one.
const REPLAY_WINDOW: Duration = Duration::from_mins(5);
/// Numbers from here on are milliseconds since 1970, below it seconds.
const FIRST_MILLISECOND: i64 = 100_000_000_000;

/// How the webhooks of a connection are verified.
pub struct WebhookRule {
    /// The header that carries the signature or the secret, in lower case.
    pub header: String,
    /// What the header carries.
    pub scheme: WebhookScheme,
    /// The current secret, and the previous one while the Secret holds it.
    pub secrets: Vec<SecretSlice<u8>>,
    /// JSON pointer to the event's name in the body.
    pub event: Option<String>,
    /// The events that trigger syncs; empty: all.
    pub pokes: Vec<String>,
    /// JSON pointer to the time in the signed body; `None`: it has none.
    pub time: Option<String>,
}

/// Why the rule of a connection is not known now.
#[derive(Debug, thiserror::Error)]
#[error("the Secret of the webhook cannot be read now: {0}")]
pub struct RuleUnavailable(pub String);

/// Where the rules of connections come from.
pub trait WebhookRules: Send + Sync {
    /// The rule of a connection; `None` if there is no such connection, or it accepts no webhooks. `refused`: the last
    /// webhook was not verified with the rule that is known, so its Secret may have changed.
    fn rule<'a>(
        &'a self,
        connection: &'a ObjectKey,
        refused: bool,
    ) -> BoxFuture<'a, Result<Option<WebhookRule>, RuleUnavailable>>;

    /// Notes that a webhook of the connection was verified.
    fn verified(&self, connection: &ObjectKey);
}

/// What a verified webhook is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verified {
    /// It triggers syncs; with what makes it known again, where its content has a time.
    Triggers(Option<ReplayMark>),
    /// Its event triggers none.
    Ignored,
    /// Its time is too far from now.
    Stale,
}

impl WebhookRule {
    /// Whether the header's value proves that the body comes from someone who knows a secret.
    pub fn is_authentic(&self, presented: &[u8], body: &[u8]) -> bool {
        // No early end: all secrets are tried.
        self.secrets
            .iter()
            .map(ExposeSecret::expose_secret)
            .filter(|secret| !secret.is_empty())
            .fold(false, |found, secret| found | self.proves(presented, body, secret))
    }

    fn proves(&self, presented: &[u8], body: &[u8], secret: &[u8]) -> bool {
        match self.scheme {
            WebhookScheme::HmacSha512 => {
                let key = hmac::Key::new(hmac::HMAC_SHA512, secret);
                hex::decode(presented).is_ok_and(|tag| hmac::verify(&key, body, &tag).is_ok())
            }
            WebhookScheme::StaticSecret => {
                // Compared as hashes: texts of different lengths take the same time.
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::verify(&key, presented, hmac::sign(&key, secret).as_ref()).is_ok()
            }
        }
    }

    /// What an authentic webhook is. A body that cannot be read triggers: it is the provider's.
    pub fn verified(&self, connection: &ObjectKey, body: &[u8], now: Timestamp) -> Verified {
        let needs_body = self.time.is_some() || (self.event.is_some() && !self.pokes.is_empty());
        let read: Option<Value> = if needs_body { json::read(body).ok() } else { None };
        let at = |pointer: Option<&str>| read.as_ref()?.pointer(pointer?);
        // A static secret signs nothing: the time beside it could be any.
        let is_timed = self.time.is_some() && self.scheme == WebhookScheme::HmacSha512;
        let mark = match at(self.time.as_deref()).and_then(instant) {
            _ if !is_timed => None,
            None => return Verified::Stale,
            Some(time) => {
                let age = now.duration_since(time).abs();
                if age > SignedDuration::try_from(REPLAY_WINDOW).unwrap_or(SignedDuration::MAX) {
                    return Verified::Stale;
                }
                let expires = time.checked_add(REPLAY_WINDOW).unwrap_or(Timestamp::MAX);
                Some(ReplayMark { digest: digest(connection, body), expires })
            }
        };
        let event = at(self.event.as_deref()).and_then(Value::as_str);
        let is_ignored =
            event.is_some_and(|event| !self.pokes.is_empty() && !self.pokes.iter().any(|poke| poke == event));
        if is_ignored { Verified::Ignored } else { Verified::Triggers(mark) }
    }
}

/// The instant of a time stamp: RFC 3339, or seconds or milliseconds since 1970.
fn instant(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => match number.as_i64()? {
            seconds if seconds < FIRST_MILLISECOND => Timestamp::from_second(seconds).ok(),
            millis => Timestamp::from_millisecond(millis).ok(),
        },
        _ => None,
    }
}

fn digest(connection: &ObjectKey, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [connection.namespace.as_bytes(), connection.name.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scheme: WebhookScheme, secrets: &[&str]) -> WebhookRule {
        WebhookRule {
            header: "x-signature".to_owned(),
            scheme,
            secrets: secrets.iter().map(|text| SecretSlice::from(text.as_bytes().to_vec())).collect(),
            event: Some("/event".to_owned()),
            pokes: vec!["account.updated".to_owned()],
            time: None,
        }
    }

    fn signature(secret: &str, body: &[u8]) -> String {
        hex::encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, secret.as_bytes()), body).as_ref())
    }

    #[test]
    fn a_signature_is_that_of_the_raw_body_by_a_current_or_previous_secret() {
        let (rule, body) = (rule(WebhookScheme::HmacSha512, &["new", "old"]), b"{\"a\": 1}");
        for secret in ["new", "old"] {
            assert!(rule.is_authentic(signature(secret, body).as_bytes(), body), "{secret}");
            assert!(rule.is_authentic(signature(secret, body).to_uppercase().as_bytes(), body));
        }
        let right = signature("new", body);
        let forged = [&right[..126], "", "zz", &signature("older", body), &signature("new", b"{\"a\":1}"), "new"];
        for presented in forged {
            assert!(!rule.is_authentic(presented.as_bytes(), body), "{presented}");
        }
        assert!(!rule_without_secret().is_authentic(signature("", body).as_bytes(), body));
    }

    fn rule_without_secret() -> WebhookRule {
        rule(WebhookScheme::HmacSha512, &[""])
    }

    #[test]
    fn a_static_secret_is_compared_as_a_whole() {
        let rule = rule(WebhookScheme::StaticSecret, &["s3cret"]);
        assert!(rule.is_authentic(b"s3cret", b"anything"));
        for presented in ["", "s3cre", "s3cret ", "S3CRET", "s3crets"] {
            assert!(!rule.is_authentic(presented.as_bytes(), b"anything"), "{presented}");
        }
    }

    #[test]
    fn an_event_that_triggers_nothing_is_ignored_and_an_unreadable_one_triggers() {
        let (rule, key) = (rule(WebhookScheme::StaticSecret, &["s"]), ObjectKey::new("team", "mono"));
        let now = Timestamp::UNIX_EPOCH;
        let of = |body: &str| rule.verified(&key, body.as_bytes(), now);
        assert_eq!(of(r#"{"event":"account.updated"}"#), Verified::Triggers(None));
        assert_eq!(of(r#"{"event":"account.deleted"}"#), Verified::Ignored);
        for unreadable in ["", "{", "[]", r#"{"event":7}"#, "{}"] {
            assert_eq!(of(unreadable), Verified::Triggers(None), "{unreadable}");
        }
    }

    #[test]
    fn a_signed_time_is_within_the_window_in_every_notation() {
        let mut rule = rule(WebhookScheme::HmacSha512, &["s"]);
        rule.time = Some("/at".to_owned());
        let (key, now) = (ObjectKey::new("team", "mono"), Timestamp::from_second(1_900_000_000).unwrap());
        let of = |at: &str| rule.verified(&key, format!(r#"{{"at":{at}}}"#).as_bytes(), now);
        for fresh in ["1900000000", "1900000299", "1899999701", "1900000000000", "\"2030-03-17T17:46:40Z\""] {
            assert!(matches!(of(fresh), Verified::Triggers(Some(_))), "{fresh}: {:?}", of(fresh));
        }
        for stale in ["1900000301", "1899999699", "1899999699000", "\"2030-03-17T17:41:39Z\"", "null", "\"today\""] {
            assert_eq!(of(stale), Verified::Stale, "{stale}");
        }
        assert_ne!(of("1900000000"), of("1900000001"), "another body is another webhook");
    }
}
