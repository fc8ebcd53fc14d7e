//! What banks, and the systems that speak for them, call the fate of a payout.

use crate::domain::payout::BankStatus;

/// Words for a fate, in any case. A word that is in no list is no word for a fate; a failure that does not say whether the money
/// left the account is open.
const WORDS: [(BankStatus, &[&str]); 5] = [
    (BankStatus::Settled, &["settled", "confirmed", "completed", "executed", "paid", "success", "succeeded"]),
    (BankStatus::Rejected, &["rejected", "declined", "refused"]),
    (BankStatus::Cancelled, &["cancelled", "canceled"]),
    (BankStatus::Returned, &["returned", "refunded"]),
    (
        BankStatus::Open,
        &[
            "open",
            "pending",
            "received",
            "accepted",
            "processing",
            "submitted",
            "sent",
            "failed",
            "error",
            "unknown",
            "timeout",
        ],
    ),
];

/// What a status says: a word, or a transaction status of ISO 20022 with its reason, whose spelling counts. `None`: it is
/// neither.
pub(super) fn status(text: &str, reason: Option<&str>) -> Option<BankStatus> {
    let is_code = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code && !text.eq_ignore_ascii_case("paid") {
        return Some(BankStatus::from_iso(text, reason));
    }
    let word = text.to_ascii_lowercase();
    WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(status, _)| *status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_of_a_final_fate_are_final_and_all_others_open() {
        for (text, reason, expected) in [
            ("confirmed", None, Some(BankStatus::Settled)),
            ("PAID", None, Some(BankStatus::Settled)),
            ("Settled", None, Some(BankStatus::Settled)),
            ("ACSC", None, Some(BankStatus::Settled)),
            ("ACCC", None, Some(BankStatus::Settled)),
            ("ACSP", None, Some(BankStatus::Open)),
            ("PDNG", None, Some(BankStatus::Open)),
            ("XXXX", None, Some(BankStatus::Open)),
            ("RJCT", Some("AC04"), Some(BankStatus::Rejected)),
            ("RJCT", Some("AG09"), Some(BankStatus::NeverReceived)),
            ("CANC", None, Some(BankStatus::Cancelled)),
            ("declined", None, Some(BankStatus::Rejected)),
            ("returned", None, Some(BankStatus::Returned)),
            ("failed", None, Some(BankStatus::Open)),
            ("pending", None, Some(BankStatus::Open)),
            ("acsc", None, None),
            ("done?", None, None),
            ("", None, None),
        ] {
            assert_eq!(status(text, reason), expected, "{text} {reason:?}");
        }
    }
}
