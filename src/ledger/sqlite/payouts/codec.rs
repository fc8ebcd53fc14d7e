//! Rows of payouts as values.

use jiff::Timestamp;
use rusqlite::Row;

use crate::domain::payout::{AttemptState, Evidence, HoldReason, Payout};
use crate::ledger::error::LedgerError;
use crate::ledger::payouts::{PayoutAct, PayoutCall, StoredPayout, TimelineEvent, TimelineRow};
use crate::ledger::sqlite::codec::{count, get, instant, stored_enum};

/// The columns that [`payout`] reads.
pub(super) const PAYOUT: &str = "seq, version, updated_ms, request_hash, body";
/// The columns that [`timeline`] reads.
pub(super) const TIMELINE: &str =
    "seq, place, at_ms, act, event, attempt_no, from_state, to_state, call, fence, evidence, hold, subject";

/// Its name, for errors.
const HOLD: &str = "payout_timeline.hold";

/// A payout.
pub(super) fn payout(row: &Row<'_>) -> Result<StoredPayout, LedgerError> {
    let (body, hash): (Vec<u8>, Vec<u8>) = (get(row, "body")?, get(row, "request_hash")?);
    Ok(StoredPayout {
        payout: Payout::decode(&body).map_err(|_| LedgerError::Corrupt { column: "payouts.body" })?,
        request_hash: hash.try_into().map_err(|_| LedgerError::Corrupt { column: "payouts.request_hash" })?,
        seq: count(row, "seq")?,
        updated_at: time(row, "updated_ms")?,
        version: count(row, "version")?,
    })
}

/// A row of the timeline.
pub(super) fn timeline(row: &Row<'_>) -> Result<TimelineRow, LedgerError> {
    let (act, event): (String, String) = (get(row, "act")?, get(row, "event")?);
    let evidence: Option<Vec<u8>> = get(row, "evidence")?;
    let hold: Option<String> = get(row, "hold")?;
    Ok(TimelineRow {
        act: stored_enum(PayoutAct::ALL, PayoutAct::as_str, &act, "payout_timeline.act")?,
        at: time(row, "at_ms")?,
        attempt_no: get(row, "attempt_no")?,
        event: match event.as_str() {
            "act" => TimelineEvent::Act,
            "transition" => TimelineEvent::Transition {
                from: attempt_state(row, "from_state")?,
                to: attempt_state(row, "to_state")?,
            },
            "intent" => {
                let call: String = get(row, "call")?;
                let call = stored_enum(PayoutCall::ALL, PayoutCall::as_str, &call, "payout_timeline.call")?;
                TimelineEvent::Intent { call, fence: get(row, "fence")? }
            }
            _ => return Err(LedgerError::Corrupt { column: "payout_timeline.event" }),
        },
        evidence: evidence.map(|bytes| decode_evidence(&bytes)).transpose()?,
        hold: hold.map(|hold| stored_enum(HoldReason::ALL, HoldReason::as_str, &hold, HOLD)).transpose()?,
        seq: count(row, "seq")?,
        place: get(row, "place")?,
        subject: get(row, "subject")?,
    })
}

/// The instant in a column.
pub(super) fn time(row: &Row<'_>, column: &'static str) -> Result<Timestamp, LedgerError> {
    instant(get(row, column)?, column)
}

/// The state of an attempt.
pub(super) fn attempt_state(row: &Row<'_>, column: &'static str) -> Result<AttemptState, LedgerError> {
    let text: String = get(row, column)?;
    stored_enum(AttemptState::ALL, AttemptState::as_str, &text, column)
}

fn decode_evidence(bytes: &[u8]) -> Result<Evidence, LedgerError> {
    serde_json::from_slice(bytes).map_err(|_| LedgerError::Corrupt { column: "payout_timeline.evidence" })
}
