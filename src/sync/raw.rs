//! The bodies of responses as they are stored beside their page: encrypted, or with every value masked.
//!
//! Only the body: neither header nor address of a request, so no credential. What else is stored names the operation, the
//! window and the page.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::record::AccountInfo;
use crate::domain::key::ObjectKey;
use crate::domain::run_reason::RunReason;
use crate::ledger::encryption::Keyring;
use crate::ledger::raw::{RawMode, RawPayload};
use crate::settings::sync_plan::{RawRetention, RawStorage};

/// What stands for a masked text, in quotes.
const MASKED_TEXT: &[u8] = b"\"***\"";
/// Longest name of a field that is kept: a longer one is data.
const MAX_NAME: usize = 64;

/// A body to store, and what it is the body of.
pub(super) struct RawBody<'a> {
    pub(super) job: &'a ObjectKey,
    pub(super) operation: &'a str,
    /// Kind and bounds of the window, and its partition.
    pub(super) window: &'a str,
    pub(super) page_no: u32,
    pub(super) id: Uuid,
    pub(super) status: u16,
    /// The account that the records belong to: what a replay cannot learn from the body.
    pub(super) account: &'a AccountInfo,
    pub(super) body: &'a [u8],
    pub(super) now: Timestamp,
}

/// How a run stores bodies: as its job says, and as the operator's keys allow.
pub(super) fn mode(retention: RawRetention, keys: &Keyring) -> Option<RawMode> {
    match retention.mode {
        RawStorage::Off => None,
        RawStorage::IfKey if !keys.has_key() => None,
        RawStorage::Masked => Some(RawMode::Masked),
        RawStorage::IfKey | RawStorage::Encrypted => Some(RawMode::Encrypted),
    }
}

/// The payload to store for a body; `None` if none is stored.
///
/// # Errors
/// [`RunReason::KeyMissing`]: it must be encrypted and there is no key, so the page must not be committed without it.
pub(super) fn payload(
    raw: &RawBody<'_>,
    retention: RawRetention,
    keys: &Keyring,
) -> Result<Option<RawPayload>, RunReason> {
    let Some(mode) = mode(retention, keys) else { return Ok(None) };
    let body = match mode {
        RawMode::Masked => masked(raw.body),
        RawMode::Encrypted => {
            let context = RawPayload::context(raw.job, raw.window, raw.page_no, raw.id);
            keys.encrypt(&context, raw.body).map_err(|_| RunReason::KeyMissing)?
        }
    };
    // Of what is stored: that of the plain body would say which of some bodies it is.
    let sha256 = Sha256::digest(&body).into();
    let ttl = SignedDuration::try_from(retention.ttl).unwrap_or(SignedDuration::MAX);
    Ok(Some(RawPayload {
        id: raw.id,
        mode,
        body: body.into(),
        sha256,
        size: raw.body.len() as u64,
        request: request(raw),
        window: raw.window.to_owned(),
        page_no: raw.page_no,
        expires: raw.now.checked_add(ttl).unwrap_or(Timestamp::MAX),
    }))
}

/// What was requested, without a parameter of it.
fn request(raw: &RawBody<'_>) -> String {
    let account = raw.account;
    json!({
        "operation": raw.operation,
        "page": raw.page_no,
        "status": raw.status,
        "account": {
            "display": account.display,
            "currency": account.currency.as_ref().map(std::string::ToString::to_string),
        },
    })
    .to_string()
}

/// A JSON text in which every value is replaced by one that says its type alone: texts by `***`, numbers by 0, truth values
/// by false. Names of fields are kept unless they look like data. What is no JSON becomes `null`.
pub(super) fn masked(body: &[u8]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(body.len() / 2);
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => {
                let end = text_end(after);
                let (text, after) = after.split_at(end);
                let after = after.strip_prefix(b"\"").unwrap_or_default();
                let is_name = after.trim_ascii_start().first() == Some(&b':');
                if is_name && is_plain_name(text) {
                    masked.push(b'"');
                    masked.extend_from_slice(text);
                    masked.push(b'"');
                } else {
                    masked.extend_from_slice(MASKED_TEXT);
                }
                after
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' => {
                masked.push(*first);
                after
            }
            b'n' => word(rest, &mut masked, b"null"),
            b't' | b'f' => word(rest, &mut masked, b"false"),
            b'-' | b'0'..=b'9' => word(rest, &mut masked, b"0"),
            byte if byte.is_ascii_whitespace() => after,
            _ => return b"null".to_vec(),
        };
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(&masked).is_ok() { masked } else { b"null".to_vec() }
}

/// Where a text ends whose opening quote is passed.
fn text_end(text: &[u8]) -> usize {
    let mut escaped = false;
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place,
            _ => {}
        }
    }
    text.len()
}

/// Writes `masked` for a number or a word, and returns what is after it.
fn word<'a>(text: &'a [u8], into: &mut Vec<u8>, masked: &[u8]) -> &'a [u8] {
    into.extend_from_slice(masked);
    let end = text.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"+-.".contains(byte)));
    text.split_at(end.unwrap_or(text.len())).1
}

/// Whether a field's name is one, and not the value of a map's key: an account number, an address, a name.
fn is_plain_name(name: &[u8]) -> bool {
    let digits = name.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_identifier = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte));
    is_identifier && digits < 4 && name.len() <= MAX_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> String {
        String::from_utf8(masked(body.as_bytes())).unwrap()
    }

    #[test]
    fn every_value_is_masked_and_the_structure_is_kept() {
        assert_eq!(
            of(
                r#"{"data": [{"id": "t-1", "amount": -12.50e3, "ok": true, "none": null, "n": {"iban": "DE89 \" 3704"}}]}"#
            ),
            r#"{"data":[{"id":"***","amount":0,"ok":false,"none":null,"n":{"iban":"***"}}]}"#
        );
        assert_eq!(of(r#""0131883461""#), r#""***""#);
        assert_eq!(of("[1,\"a\",[true,false],{}]"), "[0,\"***\",[false,false],{}]");
        assert_eq!(of("\u{feff}[7]"), "[0]");
    }

    #[test]
    fn a_name_that_is_data_is_masked_too() {
        assert_eq!(of(r#"{"0131883461": 1, "ann@example.test": 2, "Ann Lee": 3}"#), r#"{"***":0,"***":0,"***":0}"#);
        assert_eq!(of(r#"{"address_2" : "x"}"#), r#"{"address_2":"***"}"#);
    }

    #[test]
    fn what_is_no_json_leaves_nothing() {
        for body in ["", "<html>0131883461</html>", r#"{"a": "0131883461"#, "[1", "{]", "Ann", "1 2", r#"{"a" 1}"#] {
            assert_eq!(of(body), "null", "{body}");
        }
    }

    #[test]
    fn without_a_key_nothing_is_stored_by_default_and_encrypted_is_an_error() {
        let keys = Keyring::none();
        let job = ObjectKey::new("team", "books");
        let raw = RawBody {
            job: &job,
            operation: "transactions",
            window: "w",
            page_no: 1,
            id: Uuid::from_u128(1),
            status: 200,
            account: &AccountInfo { token: "t".into(), display: "****3461".into(), currency: None },
            body: b"[\"0131883461\"]",
            now: Timestamp::UNIX_EPOCH,
        };
        let with = |mode| payload(&raw, RawRetention { mode, ttl: std::time::Duration::from_mins(1) }, &keys);
        assert_eq!(with(RawStorage::IfKey), Ok(None));
        assert_eq!(with(RawStorage::Off), Ok(None));
        assert_eq!(with(RawStorage::Encrypted), Err(RunReason::KeyMissing));
        let masked = with(RawStorage::Masked).unwrap().unwrap();
        assert_eq!((masked.mode, &*masked.body, masked.size), (RawMode::Masked, &b"[\"***\"]"[..], 14));
        assert_eq!(masked.sha256, <[u8; 32]>::from(Sha256::digest(&masked.body)));
        assert_eq!(masked.expires, "1970-01-01T00:01:00Z".parse().unwrap());
        assert!(!format!("{masked:?}").contains("0131883461"));
    }
}
