//! How a bank is asked about payouts, and what it promises: status inquiry, cancellation, idempotency keys, and what
//! "not found" means.
//!
//! The default is the safe one everywhere: what the profile does not state is not promised, a status that it does not
//! name is open, and a response that cannot be read says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::invalid_field::InvalidField;
use super::json::{self, check_pointer, scalar_text};
use super::operation::Operation;
use super::serde_duration::optional_duration;
use super::status_pattern::StatusPattern;
use crate::domain::breaker::CallClass;
use crate::domain::payout::{BankPromises, BankReport, BankStatus};

/// The parameters by which a bank can find an attempt; an operation must have one of them.
const REFERENCES: [&str; 3] = ["endToEndId", "attemptId", "idempotencyKey"];
/// The idempotency key of a recall.
const RECALL_KEY: &str = "recallKey";
/// The other values that an operation may ask for.
const OTHERS: [&str; 3] = ["payoutId", "amount", "currency"];

/// How a bank is asked about payouts, and what it promises.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayoutProfile {
    /// How the bank is asked for the status of a payout; absent: it cannot be asked.
    #[serde(default)]
    pub inquiry: Option<PayoutInquiry>,
    /// How the bank is asked to cancel a payout; absent: it cannot be asked.
    #[serde(default)]
    pub recall: Option<PayoutRecall>,
    /// Time for which the bank deduplicates by idempotency key; absent: not known, and taken for zero.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub idempotency_window: Option<Duration>,
    /// Whether "not found" may become a proof that a payout was not executed; absent: `never`, unless the connection
    /// says otherwise.
    #[serde(default)]
    pub not_found_proof: Option<NotFoundMeaning>,
    /// Least time between two responses "not found" that count; absent: 15m.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub not_found_grace: Option<Duration>,
    /// Whether "not found" is read from where payouts are written, never from a replica: one response after
    /// `notFoundGrace` is a proof then.
    #[serde(default)]
    pub strong_read_your_writes: bool,
    /// Time after which the payment scheme itself has given a payout up; absent: 1h. The ISO 20022 reason AG09 (never
    /// received) counts only after it.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub scheme_timeout: Option<Duration>,
}

/// What the response "not found" may mean.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NotFoundMeaning {
    /// Nothing: a lagging replica may have answered.
    Never,
    /// Together with an accepted cancellation, or with `strongReadYourWrites`: that the payout was not executed.
    AfterGrace,
}

/// How a bank is asked for the status of a payout.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayoutInquiry {
    /// The operation, of class `Read`. Its parameters `endToEndId`, `attemptId`, `idempotencyKey`, `payoutId`, `amount`
    /// and `currency` are set; it must have one of the first three.
    #[serde(default = "payout_status")]
    pub operation: String,
    /// JSON pointers to the status, tried in order. A response without one says nothing.
    pub status: Vec<String>,
    /// JSON pointers to the ISO 20022 reason of the status, tried in order.
    #[serde(default)]
    pub reason: Vec<String>,
    /// JSON pointers to the end-to-end ID, tried in order: a response with another one, or with none, says nothing.
    /// Empty: not compared.
    #[serde(default)]
    pub reference: Vec<String>,
    /// Whether statuses are those of ISO 20022 (ACSC and ACCC settled; RJCT rejected, with AG09 never received; CANC
    /// cancelled) where `statuses` does not name them.
    #[serde(default)]
    pub iso20022: bool,
    /// The meaning of each status, compared exactly. One that is not named is open.
    #[serde(default)]
    pub statuses: BTreeMap<String, PayoutStatus>,
}

/// What a status of a payout means.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PayoutStatus {
    /// Executed for good.
    Settled,
    /// Refused for good; no money left the account.
    Rejected,
    /// Cancelled before execution.
    Cancelled,
    /// The money came back to the account.
    Returned,
    /// The bank never received the payout; counts only after `schemeTimeout`.
    NeverReceived,
    /// The bank does not know the payout, like the HTTP status 404.
    NotFound,
    /// Not final.
    Open,
}

/// How a bank is asked to cancel a payout.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PayoutRecall {
    /// The operation, of class `Write`. It must have the parameter `recallKey`, the idempotency key of a cancellation,
    /// and one of `endToEndId`, `attemptId` and `idempotencyKey`.
    #[serde(default = "payout_cancel")]
    pub operation: String,
    /// JSON pointers to the result, tried in order. A response without one says nothing.
    #[serde(default)]
    pub result: Vec<String>,
    /// Whether results are those of ISO 20022 (CNCL accepted, RJCR refused, PDCR pending) where `results` does not name
    /// them.
    #[serde(default)]
    pub iso20022: bool,
    /// The meaning of each result, compared exactly. One that is not named says nothing.
    #[serde(default)]
    pub results: BTreeMap<String, RecallResult>,
    /// HTTP statuses that refuse the cancellation, such as 409; a refusal concludes nothing but that the bank knows the
    /// payout.
    #[serde(default)]
    pub refused_statuses: Vec<StatusPattern>,
}

/// What the result of a cancellation means.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecallResult {
    /// Cancelled, and the money is in the account.
    FundsBack,
    /// Accepted; where the money is, the status will show.
    Accepted,
    /// Refused: the payout may have been executed.
    Refused,
    /// Not decided yet.
    Pending,
}

fn payout_status() -> String {
    "payout-status".to_owned()
}

fn payout_cancel() -> String {
    "payout-cancel".to_owned()
}

impl PayoutProfile {
    /// What the bank promises by this profile alone.
    pub fn promises(&self) -> BankPromises {
        let default = BankPromises::default();
        BankPromises {
            idempotency_window: self.idempotency_window.unwrap_or(default.idempotency_window),
            inquiry: self.inquiry.is_some(),
            not_found_grace: self.not_found_grace.unwrap_or(default.not_found_grace),
            not_found_proof: self.not_found_proof == Some(NotFoundMeaning::AfterGrace),
            recall: self.recall.is_some(),
            scheme_timeout: self.scheme_timeout.unwrap_or(default.scheme_timeout),
            strong_read_your_writes: self.strong_read_your_writes,
            ..default
        }
    }

    /// Checks what serde cannot. `operations` holds the profile's operations.
    pub(super) fn check(&self, operations: &BTreeMap<String, Operation>) -> Result<(), InvalidField> {
        if let Some(inquiry) = &self.inquiry {
            inquiry.check(operations).map_err(|invalid| invalid.within(["inquiry"]))?;
        }
        if let Some(recall) = &self.recall {
            recall.check(operations).map_err(|invalid| invalid.within(["recall"]))?;
        }
        if self.strong_read_your_writes && self.not_found_proof == Some(NotFoundMeaning::Never) {
            let problem = "contradicts notFoundProof: never; remove one of the two";
            return Err(InvalidField::new(["strongReadYourWrites"], problem));
        }
        if self.not_found_grace.is_some_and(|grace| grace.is_zero()) {
            return Err(InvalidField::new(["notFoundGrace"], "must be longer than zero"));
        }
        Ok(())
    }
}

impl PayoutInquiry {
    /// What a successful response says of the attempt with this end-to-end ID.
    pub fn report(&self, body: &[u8], end_to_end_id: &str) -> BankReport {
        let Ok(document) = json::parse(body) else { return BankReport::InquirySilence };
        if !self.reference.is_empty() && text_at(&document, &self.reference).as_deref() != Some(end_to_end_id) {
            return BankReport::InquirySilence;
        }
        let Some(status) = text_at(&document, &self.status) else { return BankReport::InquirySilence };
        match self.statuses.get(&status) {
            Some(PayoutStatus::Settled) => BankReport::Status(BankStatus::Settled),
            Some(PayoutStatus::Rejected) => BankReport::Status(BankStatus::Rejected),
            Some(PayoutStatus::Cancelled) => BankReport::Status(BankStatus::Cancelled),
            Some(PayoutStatus::Returned) => BankReport::Status(BankStatus::Returned),
            Some(PayoutStatus::NeverReceived) => BankReport::Status(BankStatus::NeverReceived),
            Some(PayoutStatus::NotFound) => BankReport::NotFound,
            None if self.iso20022 => {
                BankReport::Status(BankStatus::from_iso(&status, text_at(&document, &self.reason).as_deref()))
            }
            Some(PayoutStatus::Open) | None => BankReport::Status(BankStatus::Open),
        }
    }

    fn check(&self, operations: &BTreeMap<String, Operation>) -> Result<(), InvalidField> {
        check_operation(operations, &self.operation, CallClass::Read, &[])?;
        if self.status.is_empty() {
            return Err(InvalidField::new(["status"], "must name at least one JSON pointer"));
        }
        for (field, pointers) in [("status", &self.status), ("reason", &self.reason), ("reference", &self.reference)] {
            check_pointers(field, pointers)?;
        }
        if self.statuses.is_empty() && !self.iso20022 {
            let problem = "must name the final statuses of the bank, or set iso20022: true";
            return Err(InvalidField::new(["statuses"], problem));
        }
        Ok(())
    }
}

impl PayoutRecall {
    /// What a response with this HTTP status says of the cancellation; `is_success`: whether the profile classifies it
    /// as a success.
    pub fn report(&self, status: u16, is_success: bool, body: &[u8]) -> BankReport {
        if self.refused_statuses.iter().any(|pattern| pattern.matches(status)) {
            return BankReport::CancelRefused;
        }
        let read = || text_at(&json::parse(body).ok()?, &self.result);
        let Some(result) = is_success.then(read).flatten() else { return BankReport::CancelSilence };
        match (self.results.get(&result), result.as_str()) {
            (Some(RecallResult::FundsBack), _) => BankReport::CancelAccepted { funds_back: true },
            (Some(RecallResult::Accepted), _) => BankReport::CancelAccepted { funds_back: false },
            (Some(RecallResult::Refused), _) => BankReport::CancelRefused,
            (Some(RecallResult::Pending), _) => BankReport::CancelPending,
            (None, "CNCL") if self.iso20022 => BankReport::CancelAccepted { funds_back: false },
            (None, "RJCR") if self.iso20022 => BankReport::CancelRefused,
            (None, "PDCR") if self.iso20022 => BankReport::CancelPending,
            (None, _) => BankReport::CancelSilence,
        }
    }

    fn check(&self, operations: &BTreeMap<String, Operation>) -> Result<(), InvalidField> {
        let operation = check_operation(operations, &self.operation, CallClass::Write, &[RECALL_KEY])?;
        // Without it, a recall whose response was lost could be a second one.
        if !operation.parameters.contains_key(RECALL_KEY) {
            let problem = format!("{} must have the parameter {RECALL_KEY}, its idempotency key", self.operation);
            return Err(InvalidField::new(["operation"], problem));
        }
        check_pointers("result", &self.result)?;
        if self.result.is_empty() && self.refused_statuses.is_empty() {
            return Err(InvalidField::new(["result"], "must name at least one JSON pointer"));
        }
        if !self.result.is_empty() && self.results.is_empty() && !self.iso20022 {
            return Err(InvalidField::new(["results"], "must name the results of the bank, or set iso20022: true"));
        }
        Ok(())
    }
}

/// The first scalar at one of the pointers.
fn text_at(document: &Value, pointers: &[String]) -> Option<String> {
    pointers.iter().find_map(|pointer| scalar_text(document.pointer(pointer)?))
}

fn check_pointers(field: &str, pointers: &[String]) -> Result<(), InvalidField> {
    pointers
        .iter()
        .try_for_each(|pointer| check_pointer(pointer))
        .map_err(|problem| InvalidField::new([field], problem))
}

/// The operation `name`, if it can be called for an attempt: of this class, and with parameters that can be set.
fn check_operation<'a>(
    operations: &'a BTreeMap<String, Operation>,
    name: &str,
    class: CallClass,
    also: &[&str],
) -> Result<&'a Operation, InvalidField> {
    let invalid = |problem: String| InvalidField::new(["operation"], problem);
    let Some(operation) = operations.get(name) else {
        return Err(invalid(format!("{name} is not an operation of the profile: add it under operations")));
    };
    if operation.class() != class {
        let wanted = if class == CallClass::Read { "Read" } else { "Write" };
        return Err(invalid(format!("{name} must be of class {wanted}")));
    }
    if operation.stub.is_some() || operation.cache {
        return Err(invalid(format!("{name} must call the bank: remove its stub and its cache")));
    }
    if operation.feature.is_some() {
        return Err(invalid(format!("{name} must not depend on a feature: payouts are followed in any case")));
    }
    let known = |name: &str| REFERENCES.contains(&name) || OTHERS.contains(&name) || also.contains(&name);
    if let Some((unknown, _)) =
        operation.parameters.iter().find(|(name, rule)| rule.required && rule.default.is_none() && !known(name))
    {
        let problem = format!(
            "{name} requires the parameter {unknown}, which is not known of an attempt: use {}, {}",
            REFERENCES.join(", "),
            OTHERS.join(", ")
        );
        return Err(invalid(problem));
    }
    if REFERENCES.iter().any(|reference| operation.parameters.contains_key(*reference)) {
        Ok(operation)
    } else {
        Err(invalid(format!("{name} must have one of the parameters {}", REFERENCES.join(", "))))
    }
}

#[cfg(test)]
mod tests;
