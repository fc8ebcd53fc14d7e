//! Dead letters of rejected records: why and where, and their structure without their values.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::rejection::Rejection;
use crate::domain::record::DeadLetter;
use crate::domain::rejection_reason::RejectionReason;

/// Maximum number of fields in a dead letter's sample.
const MAX_SAMPLE_FIELDS: usize = 32;

/// The dead letter of a rejected record, without its values.
pub fn dead_letter(record: &Value, rejection: Rejection, index: u32, page_no: u32) -> DeadLetter {
    DeadLetter {
        fingerprint: fingerprint(&record.to_string(), rejection.reason.as_str()),
        reason: rejection.reason,
        path: rejection.path,
        sample: match rejection.message {
            Some(message) => format!("{message}: {}", structure(record)),
            None => structure(record),
        },
        index,
        page_no,
    }
}

/// Identifies a record that was rejected for a reason, without its values.
pub fn fingerprint(record: &str, reason: &str) -> String {
    let digest = Sha256::new().chain_update(record).chain_update(reason);
    hex::encode(&digest.finalize()[..16])
}

/// The dead letter of a record that is too large to be parsed, without its values.
pub fn dead_letter_of_text(record: &str, index: u32, page_no: u32) -> DeadLetter {
    let reason = RejectionReason::RecordTooLarge;
    let kind = match record.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        _ => "number",
    };
    DeadLetter {
        reason,
        path: String::new(),
        sample: kind.to_owned(),
        fingerprint: fingerprint(record, reason.as_str()),
        index,
        page_no,
    }
}

/// The field names and types of a record.
fn structure(record: &Value) -> String {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let Some(fields) = record.as_object() else { return kind(record).to_owned() };
    // Field names can be data if the provider uses a map: only names that look like identifiers are included.
    let safe_name = |name: &str| {
        let is_identifier = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphabetic() || b"_-.@".contains(&b));
        if is_identifier { name.to_owned() } else { "?".to_owned() }
    };
    let fields: Vec<String> = fields
        .iter()
        .take(MAX_SAMPLE_FIELDS)
        .map(|(name, value)| format!("{}: {}", safe_name(name), kind(value)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}
