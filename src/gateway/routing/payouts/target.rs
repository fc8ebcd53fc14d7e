//! The payout that a request is about, the rights on payouts, and the fields that acts share.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::HeaderMap;

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::domain::payout::Payout;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{check_json_type, read_body};
use crate::gateway::problem::Problem;
use crate::gateway::routing::adjustments::NamespaceQuery;
use crate::gateway::routing::fields::{Fields, invalid};
use crate::gateway::state::Gateway;
use crate::ledger::payouts::StoredPayout;

/// Longest reason, in characters.
pub(super) const MAX_REASON: usize = 256;
/// Longest ID of a payout.
const MAX_PAYOUT_ID: usize = 128;
/// Highest number of an attempt.
const MAX_ATTEMPT: u64 = 1_000;

/// A right on payouts.
#[derive(Copy, Clone, Debug)]
pub(super) struct PayoutRight {
    verb: &'static str,
    subresource: &'static str,
}

impl PayoutRight {
    /// Register payouts, and ask to send an attempt again.
    pub(super) const CREATE: Self = Self { verb: "create", subresource: "" };
    pub(super) const GET: Self = Self { verb: "get", subresource: "" };
    pub(super) const LIST: Self = Self { verb: "list", subresource: "" };
    /// Report what became of an attempt.
    pub(super) const REPORT: Self = Self { verb: "create", subresource: "outcomes" };
    /// Report what a bank said.
    pub(super) const CONFIRM: Self = Self { verb: "create", subresource: "confirmations" };
    /// Ask the bank for the status.
    pub(super) const INQUIRE: Self = Self { verb: "create", subresource: "inquiries" };
    /// Ask the bank to cancel.
    pub(super) const RECALL: Self = Self { verb: "create", subresource: "recalls" };
    /// Accept the risk that the next attempt is a duplicate.
    pub(super) const APPROVE: Self = Self { verb: "approve", subresource: "" };
    /// Say what became of an attempt.
    pub(super) const RESOLVE: Self = Self { verb: "update", subresource: "resolution" };
    /// Release payouts that are frozen or held.
    pub(super) const RESUME: Self = Self { verb: "update", subresource: "hold" };
}

/// The payout of a path.
pub(super) struct PayoutTarget {
    pub(super) namespace: String,
    pub(super) payout_id: String,
}

impl Gateway {
    /// Fails unless RBAC allows `subject` this on the payouts of the namespace; an empty namespace is all.
    pub(super) async fn require_payouts(
        &self,
        subject: &UserInfo,
        right: PayoutRight,
        namespace: &str,
    ) -> Result<(), Problem> {
        let PayoutRight { verb, subresource } = right;
        let namespace = namespace.to_owned();
        let access = AccessRequest { verb, resource: "payouts", subresource, namespace, name: String::new() };
        self.access.require(subject, access).await
    }

    /// The payout of a path and a query, for which RBAC allows the caller this. A caller without the right gets the denial,
    /// whether or not the payout exists.
    pub(super) async fn payout_target(
        &self,
        subject: &UserInfo,
        right: PayoutRight,
        id: Result<Path<String>, PathRejection>,
        query: Result<Query<NamespaceQuery>, QueryRejection>,
    ) -> Result<PayoutTarget, Problem> {
        let namespace = NamespaceQuery::read(self, query)?;
        self.require_payouts(subject, right, &namespace).await?;
        let payout_id = id.ok().map(|Path(id)| id).filter(|id| is_payout_id(id)).ok_or_else(not_found)?;
        Ok(PayoutTarget { namespace, payout_id })
    }

    /// The payout as stored.
    pub(super) async fn stored_payout(&self, target: &PayoutTarget) -> Result<StoredPayout, Problem> {
        Ok(self.routing.get_payout(&target.namespace, &target.payout_id).await?)
    }

    /// The body of an act: a JSON object, or nothing.
    pub(super) async fn act_text(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
        let (text, permit) = read_body(&self.request_limits, body).await?;
        if text.is_empty() {
            return Ok(b"{}".to_vec());
        }
        check_json_type(headers)?;
        let text = if text.trim_ascii() == b"null" { b"{}".to_vec() } else { text.to_vec() };
        drop(permit);
        Ok(text)
    }
}

/// That no payout of that ID is registered.
pub(super) fn not_found() -> Problem {
    let text = "payout not found: it is not registered in this namespace, or is older than the retention; check the ID and \
                the namespace";
    Problem::new(ErrorCode::PayoutNotFound, text)
}

/// Whether a text can be the ID of a payout.
fn is_payout_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_PAYOUT_ID && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The number of an attempt in a path.
pub(super) fn path_attempt(text: &str) -> Result<u32, Problem> {
    let number = text.parse().ok().filter(|number: &u32| *number >= 1 && u64::from(*number) <= MAX_ATTEMPT);
    number.ok_or_else(|| invalid("attempt_no", "must be the number of an attempt of the payout"))
}

/// The attempt in the field `attempt_no`: without one, the last attempt whose fate is not known, else the last one.
pub(super) fn attempt_field(fields: &Fields<'_>, payout: &Payout) -> Result<u32, Problem> {
    if let Some(number) = fields.whole("attempt_no", 1, MAX_ATTEMPT)? {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        if payout.attempt(number).is_none() {
            return Err(fields.invalid("attempt_no", "the payout has no attempt of this number; read the payout"));
        }
        return Ok(number);
    }
    let open = payout.attempts.iter().rev().find(|attempt| !attempt.state.is_final());
    let attempt = open.or(payout.attempts.last());
    attempt.map(|attempt| attempt.plan.attempt_no).ok_or_else(|| fields.missing("attempt_no"))
}
