//! `POST /api/treasury/payouts/{payout_id}/confirmations`: what a bank said of a payout, as its receiver reports it.
//!
//! The bodies of payout confirmations that payment systems keep are accepted as they are: each field has the names that are in
//! use, and all but those of the attempt may be left out.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::auth::UserInfo;
use crate::domain::canonical::sha256;
use crate::domain::payout::{
    Attempt, AttemptPlan, BankReport, BankStatus, Evidence, EvidenceSource, Payout, PayoutInput,
};
use crate::gateway::envelope::Envelope;
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::routing::access::{actor, json_text};
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::fields::{DecimalInput, Fields};
use crate::gateway::routing::payouts::acts::{ActedView, MAX_REFERENCE, acted, message_hash};
use crate::gateway::routing::payouts::bank_words;
use crate::gateway::routing::payouts::target::{MAX_REASON, PayoutRight};
use crate::gateway::state::Gateway;
use crate::ledger::payouts::PayoutAct;
use crate::routing::PayoutRequest;

/// Highest number of an attempt.
const MAX_ATTEMPT: u64 = 1_000;
/// How far ahead of this clock a reported instant may be.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(4);
/// Longest text of a status.
const MAX_STATUS: usize = 32;
/// Longest name of a bank.
const MAX_BANK: usize = 253;
/// Names of the status.
const STATUS: [&str; 2] = ["status", "transaction_status"];
/// Names of the bank's reference of its message.
const REFERENCE: [&str; 5] = ["reference", "bank_reference", "external_reference", "confirmation_id", "message_id"];
/// Names of the instant that the bank states.
const INSTANT: [&str; 4] = ["confirmed_at", "settled_at", "received_at", "at"];
/// Names of the bank.
const BANK: [&str; 3] = ["bank_profile_id", "candidate", "bank"];
/// The names of [`ConfirmationBody`], with those that are in use elsewhere.
const NAMES: &[&str] = &[
    "attempt_no",
    "attempt_id",
    "end_to_end_id",
    "bank_profile_id",
    "candidate",
    "bank",
    "status",
    "transaction_status",
    "reason",
    "reference",
    "bank_reference",
    "external_reference",
    "confirmation_id",
    "message_id",
    "message_hash",
    "amount",
    "confirmed_amount",
    "currency",
    "confirmed_at",
    "settled_at",
    "received_at",
    "at",
    "source",
    "complete_through",
    "payout_id",
    "namespace",
    "note",
];

/// The bank that a body names.
struct NamedBank {
    /// The candidates of the route that have it as a bank profile.
    candidates: Vec<String>,
    name: String,
}

/// What a bank said of a payout.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"attempt_no": 1, "status": "ACSC", "reference": "7f31", "confirmed_at": "2026-11-30T09:00:00Z"}))]
pub struct ConfirmationBody {
    /// Number of the attempt. A payout with one attempt needs none; else one of `attempt_no`, `attempt_id`, `end_to_end_id` and
    /// the bank is required.
    #[schema(minimum = 1, maximum = 1000)]
    pub attempt_no: Option<u32>,
    /// ID of the attempt.
    #[schema(format = "uuid")]
    pub attempt_id: Option<String>,
    /// End-to-end ID of the attempt.
    #[schema(min_length = 1, max_length = 128)]
    pub end_to_end_id: Option<String>,
    /// The bank, if only one attempt was made with it: its `bankProfileID`, candidate or connection. `candidate` and `bank` are
    /// accepted too.
    #[schema(min_length = 1, max_length = 253)]
    pub bank_profile_id: Option<String>,
    /// Transaction status of ISO 20022 (`ACSC`), or a word such as `confirmed`, `rejected`, `returned`, `cancelled` or `pending`.
    /// What is not known to be final is open. Unset: `confirmed`, or with `source: statement` that there is no debit.
    /// `transaction_status` is accepted too.
    #[schema(min_length = 1, max_length = 32)]
    pub status: Option<String>,
    /// Reason code of the status (`AC04`).
    #[schema(min_length = 1, max_length = 32)]
    pub reason: Option<String>,
    /// The bank's reference of its message. `bank_reference`, `external_reference`, `confirmation_id` and `message_id` are
    /// accepted too.
    #[schema(min_length = 1, max_length = 128)]
    pub reference: Option<String>,
    /// SHA-256 of the bank's message, hexadecimal. Unset: that of this body.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub message_hash: Option<String>,
    /// Amount that was executed; must be that of the payout. `confirmed_amount` is accepted too.
    pub amount: Option<DecimalInput>,
    /// Currency of the amount; must be that of the payout.
    #[schema(min_length = 3, max_length = 3)]
    pub currency: Option<String>,
    /// When the bank says it happened. `settled_at`, `received_at` and `at` are accepted too.
    #[schema(format = DateTime)]
    pub confirmed_at: Option<String>,
    /// `bank` (a message of the bank) or `statement` (the account's statement). Unset: `bank`.
    pub source: Option<String>,
    /// With `source: statement`, and no debit for the attempt in it: up to when the statement is complete.
    #[schema(format = DateTime)]
    pub complete_through: Option<String>,
}

/// Reports what a bank said: an executed payout is confirmed by it, a refused or returned one may be attempted again. A late
/// confirmation of an earlier attempt freezes the payout and recalls the newer one. The same message again changes nothing.
#[utoipa::path(
    post,
    path = "/api/treasury/payouts/{payout_id}/confirmations",
    operation_id = "confirmPayout",
    tag = "payouts",
    params(("payout_id" = String, Path, description = "The caller's ID of the payout"), NamespaceQuery),
    request_body = ConfirmationBody,
    responses((status = 200, description = "The payout then", body = Envelope<ActedView>))
)]
pub async fn confirm(
    State(gateway): State<Arc<Gateway>>,
    Extension(subject): Extension<Arc<UserInfo>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    query: Result<Query<NamespaceQuery>, QueryRejection>,
    body: Body,
) -> Result<Response, Problem> {
    let (text, permit) = json_text(&gateway, &headers, body).await?;
    let fields = Fields::of_body(&text, NAMES)?;
    // A body may carry the namespace, as those of decisions do; a query counts before it.
    let query = match query {
        Ok(Query(NamespaceQuery { namespace: None })) => {
            let namespace = fields.short_text("namespace", MAX_BANK)?;
            Ok(Query(NamespaceQuery { namespace }))
        }
        query => query,
    };
    let target = gateway.payout_target(&subject, PayoutRight::CONFIRM, id, query).await?;
    let now = gateway.clock.now().wall;
    let report = report(&fields, now)?;
    let stored = gateway.stored_payout(&target).await?;
    check_payout(&fields, &stored.payout)?;
    let bank = first_text(&fields, &BANK, MAX_BANK)?
        .map(|name| NamedBank { candidates: gateway.routing.candidates_of_bank(&stored.payout, &name), name });
    let attempt = attempt(&fields, &stored.payout, bank.as_ref())?;
    let hash = message_hash(&fields)?.unwrap_or_else(|| sha256(&text));
    let source = if is_statement(&fields)? { EvidenceSource::Statement } else { EvidenceSource::Confirmation };
    let is_repeated = attempt.evidence.source == source && attempt.evidence.message_hash == Some(hash);
    let attempt_no = attempt.plan.attempt_no;
    if is_repeated {
        return Ok(acted(stored, true));
    }
    let evidence = Evidence {
        message_id: first_text(&fields, &REFERENCE, MAX_REFERENCE)?,
        ..Evidence::message(source, now, hash).by(subject.user.as_str())
    };
    let request = PayoutRequest {
        act: PayoutAct::Report,
        input: PayoutInput::Report { attempt_no, report, evidence },
        namespace: target.namespace,
        payout_id: target.payout_id,
        reason: fields.short_text("note", MAX_REASON)?,
    };
    drop(permit);
    Ok(acted(gateway.routing.act_on(stored, &request, &actor(&subject, request_id)).await?, false))
}

/// What the body says of the attempt.
fn report(fields: &Fields<'_>, now: Timestamp) -> Result<BankReport, Problem> {
    for name in INSTANT {
        if fields.instant(name)?.is_some_and(|at| at > now + MAX_SKEW) {
            return Err(fields.invalid(name, "must not be in the future; send the time that the bank states"));
        }
    }
    let through = fields.instant("complete_through")?;
    let reason = fields.short_text("reason", MAX_STATUS)?;
    let status = first_text(fields, &STATUS, MAX_STATUS)?;
    match (is_statement(fields)?, through, status) {
        (true, Some(through), None) if through <= now => Ok(BankReport::StatementWithoutDebit { through }),
        (true, Some(_), None) => {
            Err(fields.invalid("complete_through", "must not be in the future; send the end of the statement"))
        }
        (true, None, None) => {
            let text = "missing; send complete_through for a statement without a debit, or the status of the debit";
            Err(fields.invalid("complete_through", text))
        }
        (_, Some(_), _) => {
            Err(fields.invalid("complete_through", "only for source statement without status; leave it out"))
        }
        (false, None, None) => Ok(BankReport::Confirmation),
        (_, None, Some(text)) => match bank_words::status(&text, reason.as_deref()) {
            Some(BankStatus::Settled) => Ok(BankReport::Confirmation),
            Some(status) => Ok(BankReport::Status(status)),
            None => {
                let text = "must be a transaction status of ISO 20022 such as ACSC, or one of: confirmed, rejected, \
                            returned, cancelled, pending";
                Err(fields.invalid("status", text))
            }
        },
    }
}

/// Whether the body is of the account's statement.
fn is_statement(fields: &Fields<'_>) -> Result<bool, Problem> {
    match fields.text("source")?.as_deref() {
        None | Some("bank") => Ok(false),
        Some("statement") => Ok(true),
        Some(_) => Err(fields.invalid("source", "must be bank or statement")),
    }
}

/// Fails if the body names another payout, or other money.
fn check_payout(fields: &Fields<'_>, payout: &Payout) -> Result<(), Problem> {
    if fields.text("payout_id")?.is_some_and(|id| id != payout.payout_id) {
        return Err(fields.invalid("payout_id", "differs from the path; send the confirmation to its own payout"));
    }
    for name in ["amount", "confirmed_amount"] {
        if fields.decimal(name)?.is_some_and(|amount| amount != payout.amount) {
            let text =
                "differs from the amount of the payout; settle the difference with the bank, then resolve the payout";
            return Err(fields.invalid(name, text));
        }
    }
    if fields.text("currency")?.is_some_and(|currency| currency != payout.currency.as_str()) {
        return Err(fields.invalid("currency", "differs from the currency of the payout; check which payout is meant"));
    }
    Ok(())
}

/// The attempt that the body names; of a payout with a single one, that. `bank` is the bank that it names, with the candidates
/// that have it as a bank profile.
fn attempt<'p>(fields: &Fields<'_>, payout: &'p Payout, bank: Option<&NamedBank>) -> Result<&'p Attempt, Problem> {
    let number = fields.whole("attempt_no", 1, MAX_ATTEMPT)?;
    let id = fields.uuid("attempt_id")?;
    let end_to_end = fields.short_text("end_to_end_id", MAX_REFERENCE)?;
    let is_of_bank = |attempt: &Attempt, bank: &NamedBank| {
        let AttemptPlan { bank: connection, candidate, .. } = &attempt.plan;
        *connection == bank.name || *candidate == bank.name || bank.candidates.contains(candidate)
    };
    let is_named = |attempt: &&Attempt| {
        number.is_none_or(|number| u64::from(attempt.plan.attempt_no) == number)
            && id.is_none_or(|id| attempt.attempt_id == id || attempt.plan.decision_id == id)
            && end_to_end.as_ref().is_none_or(|id| attempt.end_to_end_id() == *id)
            && bank.is_none_or(|bank| is_of_bank(attempt, bank))
    };
    let mut named = payout.attempts.iter().filter(is_named);
    match (named.next(), named.next()) {
        (Some(attempt), None) => Ok(attempt),
        (Some(_), Some(_)) => {
            Err(fields.invalid("attempt_no", "missing; the payout has several attempts that may be meant: name one"))
        }
        (None, _) => Err(fields.invalid("attempt_no", "the payout has no such attempt; read the payout")),
    }
}

/// The first of these fields that is there.
fn first_text(fields: &Fields<'_>, names: &[&'static str], most: usize) -> Result<Option<String>, Problem> {
    for name in names.iter().copied() {
        if let Some(text) = fields.short_text(name, most)? {
            return Ok(Some(text));
        }
    }
    Ok(None)
}
