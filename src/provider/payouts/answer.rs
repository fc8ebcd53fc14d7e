//! What a response of a bank says of an attempt.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::canonical::sha256;
use crate::domain::payout::{Attempt, BankReport, Evidence, EvidenceSource, Payout};
use crate::ledger::payouts::PayoutCall;
use crate::profile::{Operation, PayoutProfile, ResponseClass};
use crate::provider::call::{CallError, Response};
use crate::provider::payouts::port::BankAnswer;

/// When a call was made, and when it ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct CallTimes {
    /// Before the request was sent.
    pub(super) asked_at: Timestamp,
    /// When the response was complete, or was given up.
    pub(super) ended_at: Timestamp,
}

/// The parameters of `operation` that are known of an attempt.
pub(super) fn parameters(operation: &Operation, payout: &Payout, attempt: &Attempt) -> BTreeMap<String, String> {
    let values = [
        ("amount", payout.amount.normalize().to_string()),
        ("attemptId", attempt.attempt_id.hyphenated().to_string()),
        ("currency", payout.currency.to_string()),
        ("endToEndId", attempt.end_to_end_id()),
        ("idempotencyKey", attempt.idempotency_key()),
        ("payoutId", payout.payout_id.clone()),
        ("recallKey", attempt.recall_key()),
    ];
    let known = values.into_iter().filter(|(name, _)| operation.parameters.contains_key(*name));
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a response says.
pub(super) fn of_response(
    call: PayoutCall,
    profile: &PayoutProfile,
    attempt: &Attempt,
    response: &Response,
    times: CallTimes,
) -> BankAnswer {
    let class = response.classification.class;
    let is_success = matches!(class, ResponseClass::Ok | ResponseClass::EndOfData);
    let report = match (call, &profile.inquiry, &profile.recall) {
        (PayoutCall::Inquiry, Some(inquiry), _) if is_success => {
            inquiry.report(&response.body, &attempt.end_to_end_id())
        }
        (PayoutCall::Inquiry, Some(_), _) if class == ResponseClass::NotFound => BankReport::NotFound,
        (PayoutCall::Recall, _, Some(recall)) => recall.report(response.status.as_u16(), is_success, &response.body),
        _ => silence(call),
    };
    let evidence = Evidence::message(source(call), times.ended_at, sha256(&response.body))
        .answering(times.asked_at)
        .referenced(format!("HTTP {}", response.status.as_u16()));
    BankAnswer { report, evidence }
}

/// That there is no response, and why in our own words.
pub(super) fn of_error(call: PayoutCall, error: &CallError, times: CallTimes) -> BankAnswer {
    none(call, error.code(), times)
}

/// That there is no response, for a reason of our own.
pub(super) fn none(call: PayoutCall, reason: &str, times: CallTimes) -> BankAnswer {
    let evidence = Evidence::new(source(call), times.ended_at).answering(times.asked_at).referenced(reason);
    BankAnswer { report: silence(call), evidence }
}

const fn silence(call: PayoutCall) -> BankReport {
    match call {
        PayoutCall::Inquiry => BankReport::InquirySilence,
        PayoutCall::Recall => BankReport::CancelSilence,
    }
}

const fn source(call: PayoutCall) -> EvidenceSource {
    match call {
        PayoutCall::Inquiry => EvidenceSource::Inquiry,
        PayoutCall::Recall => EvidenceSource::Recall,
    }
}
