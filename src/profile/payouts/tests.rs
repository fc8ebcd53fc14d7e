use std::time::Duration;

use crate::domain::payout::{BankReport, BankStatus};
use crate::profile::{Profile, ProfileError};

/// A profile with operations for payouts, and this `payouts` section.
fn parsed(payouts: &str) -> Result<Profile, ProfileError> {
    let text = format!(
        "id: x\ntitle: X\nbreaker: Bank\nhealthCheck: {{path: /}}\noperations:\n\
         \x20 payout-status:\n    path: /payouts/{{endToEndId}}\n    parameters: {{endToEndId: {{required: true}}}}\n\
         \x20 payout-cancel:\n    method: POST\n    class: Write\n    path: /payouts/{{endToEndId}}/cancel\n\
         \x20   headers: {{idempotency-key: '{{recallKey}}'}}\n\
         \x20   parameters: {{endToEndId: {{required: true}}, recallKey: {{required: true}}}}\n\
         \x20 unkeyed-cancel:\n    method: POST\n    class: Write\n    path: /payouts/{{endToEndId}}/cancel\n\
         \x20   parameters: {{endToEndId: {{required: true}}}}\n\
         \x20 by-iban:\n    path: /payouts\n    query: {{iban: '{{iban}}', ref: '{{attemptId}}'}}\n\
         \x20   parameters: {{iban: {{required: true}}, attemptId: {{required: true}}}}\n\
         \x20 latest:\n    path: /payouts/latest\n\
         payouts: {payouts}\n"
    );
    Profile::parse("x.yaml", &text)
}

fn error_of(payouts: &str) -> String {
    parsed(payouts).unwrap_err().to_string()
}

#[test]
fn what_a_profile_does_not_state_is_not_promised() {
    let empty = parsed("{}").unwrap().payouts.unwrap().promises();
    assert!(empty.is_manual_only() && !empty.not_found_proof && !empty.strong_read_your_writes);
    assert_eq!((empty.idempotency_window, empty.not_found_grace), (Duration::ZERO, Duration::from_mins(15)));
    let full = parsed(
        "{inquiry: {status: [/status], iso20022: true}, recall: {result: [/result], iso20022: true}, \
         idempotencyWindow: 72h, notFoundProof: afterGrace, notFoundGrace: 20m, strongReadYourWrites: true, schemeTimeout: 10s}",
    );
    let full = full.unwrap().payouts.unwrap().promises();
    assert!(full.inquiry && full.recall && full.not_found_proof && full.strong_read_your_writes);
    assert_eq!(full.idempotency_window, Duration::from_hours(72));
    assert_eq!((full.not_found_grace, full.scheme_timeout), (Duration::from_mins(20), Duration::from_secs(10)));
}

#[test]
fn a_status_that_is_not_named_is_open_and_one_that_cannot_be_read_says_nothing() {
    let profile = parsed(
        "{inquiry: {status: [/status, /data/state], statuses: {paid: settled, failed: rejected, gone: notFound}}}",
    );
    let inquiry = profile.unwrap().payouts.unwrap().inquiry.unwrap();
    for (body, want) in [
        (r#"{"status":"paid"}"#, BankReport::Status(BankStatus::Settled)),
        (r#"{"data":{"state":"failed"}}"#, BankReport::Status(BankStatus::Rejected)),
        (r#"{"status":"gone"}"#, BankReport::NotFound),
        // The spelling counts, and a status of ISO 20022 is none of this bank's.
        (r#"{"status":"Paid"}"#, BankReport::Status(BankStatus::Open)),
        (r#"{"status":"ACSC"}"#, BankReport::Status(BankStatus::Open)),
        (r#"{"status":null}"#, BankReport::InquirySilence),
        (r#"{"status":["paid"]}"#, BankReport::InquirySilence),
        ("[]", BankReport::InquirySilence),
        ("<html>paid</html>", BankReport::InquirySilence),
        ("", BankReport::InquirySilence),
    ] {
        assert_eq!(inquiry.report(body.as_bytes(), "BB1"), want, "{body}");
    }
}

#[test]
fn iso_statuses_are_final_as_the_standard_says() {
    let profile = parsed("{inquiry: {status: [/TxSts], reason: [/StsRsnInf/Rsn/Cd], iso20022: true}}");
    let inquiry = profile.unwrap().payouts.unwrap().inquiry.unwrap();
    for (status, reason, want) in [
        ("ACSC", "", BankStatus::Settled),
        ("ACCC", "", BankStatus::Settled),
        ("RJCT", "AC04", BankStatus::Rejected),
        ("RJCT", "AG09", BankStatus::NeverReceived),
        ("CANC", "", BankStatus::Cancelled),
        ("ACSP", "", BankStatus::Open),
        ("PDNG", "AG09", BankStatus::Open),
        ("acsc", "", BankStatus::Open),
    ] {
        let body = format!(r#"{{"TxSts":"{status}","StsRsnInf":{{"Rsn":{{"Cd":"{reason}"}}}}}}"#);
        assert_eq!(inquiry.report(body.as_bytes(), "BB1"), BankReport::Status(want), "{body}");
    }
}

#[test]
fn a_response_about_another_payout_says_nothing() {
    let profile = parsed("{inquiry: {status: [/status], reference: [/endToEndId], iso20022: true}}");
    let inquiry = profile.unwrap().payouts.unwrap().inquiry.unwrap();
    let of = |body: &str| inquiry.report(body.as_bytes(), "BB1");
    assert_eq!(of(r#"{"status":"RJCT","endToEndId":"BB1"}"#), BankReport::Status(BankStatus::Rejected));
    assert_eq!(of(r#"{"status":"RJCT","endToEndId":"BB2"}"#), BankReport::InquirySilence);
    assert_eq!(of(r#"{"status":"RJCT"}"#), BankReport::InquirySilence);
}

#[test]
fn a_cancellation_is_accepted_only_by_a_readable_success() {
    let profile = parsed(
        "{recall: {result: [/result], results: {cancelled: fundsBack, taken: accepted, late: refused}, iso20022: true, \
         refusedStatuses: [409]}}",
    );
    let recall = profile.unwrap().payouts.unwrap().recall.unwrap();
    for (status, body, want) in [
        (200, r#"{"result":"cancelled"}"#, BankReport::CancelAccepted { funds_back: true }),
        (202, r#"{"result":"taken"}"#, BankReport::CancelAccepted { funds_back: false }),
        (200, r#"{"result":"CNCL"}"#, BankReport::CancelAccepted { funds_back: false }),
        (200, r#"{"result":"PDCR"}"#, BankReport::CancelPending),
        (200, r#"{"result":"late"}"#, BankReport::CancelRefused),
        (409, "", BankReport::CancelRefused),
        (500, r#"{"result":"cancelled"}"#, BankReport::CancelSilence),
        (404, r#"{"result":"cancelled"}"#, BankReport::CancelSilence),
        (200, r#"{"result":"whatever"}"#, BankReport::CancelSilence),
        (200, "", BankReport::CancelSilence),
    ] {
        assert_eq!(recall.report(status, (200..300).contains(&status), body.as_bytes()), want, "{status} {body}");
    }
}

#[test]
fn a_section_that_could_not_be_followed_is_rejected() {
    for (payouts, problem) in [
        ("{inquiry: {status: [/s], iso20022: true, operation: nowhere}}", "nowhere is not an operation"),
        ("{inquiry: {status: [/s], iso20022: true, operation: payout-cancel}}", "must be of class Read"),
        ("{inquiry: {status: [/s], iso20022: true, operation: latest}}", "must have one of the parameters endToEndId"),
        ("{inquiry: {status: [/s], iso20022: true, operation: by-iban}}", "requires the parameter iban"),
        ("{inquiry: {status: [], iso20022: true}}", "payouts.inquiry.status: must name at least one"),
        ("{inquiry: {status: [status], iso20022: true}}", "is not a JSON pointer"),
        ("{inquiry: {status: [/s]}}", "must name the final statuses"),
        ("{recall: {result: [/r], iso20022: true, operation: payout-status}}", "must be of class Write"),
        ("{recall: {result: [/r], iso20022: true, operation: unkeyed-cancel}}", "must have the parameter recallKey"),
        ("{recall: {iso20022: true}}", "payouts.recall.result: must name at least one"),
        ("{recall: {result: [/r]}}", "must name the results"),
        ("{strongReadYourWrites: true, notFoundProof: never}", "contradicts notFoundProof"),
        ("{notFoundGrace: 0s}", "must be longer than zero"),
    ] {
        let error = error_of(payouts);
        assert!(error.contains(problem), "{payouts}: {error}");
    }
}
