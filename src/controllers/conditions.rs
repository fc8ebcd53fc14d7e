//! Builds and merges the conditions of a status; the only place that converts them to and from the API type.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::common::{Condition as ApiCondition, MESSAGE_MAX};
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::controllers::STALLED_REQUEUE;
use crate::domain::clock_skew::happened;
use crate::domain::conditions::{Condition, ConditionStatus, merge};
use crate::domain::json_prefix::json_prefix;
use crate::resolve::SpecError;

/// Collects the conditions of one status.
pub struct Conditions {
    generation: i64,
    now: Timestamp,
    collected: Vec<Condition>,
}

impl Conditions {
    /// An empty set for the object's `generation` at `now`.
    pub fn new(generation: i64, now: Timestamp) -> Self {
        Self { generation, now: truncate_to_seconds(now), collected: Vec::new() }
    }

    /// Adds a condition.
    pub fn set(
        &mut self,
        type_: ConditionType,
        status: impl Into<ConditionStatus>,
        reason: Reason,
        message: impl Into<String>,
    ) {
        let message = bounded(message.into());
        let condition = Condition::new(type_.as_str(), status, reason.as_str(), message, self.generation, self.now);
        self.collected.push(condition);
    }

    /// Adds a condition that is only present while True.
    pub fn set_if(&mut self, is_true: bool, type_: ConditionType, reason: Reason, message: impl Into<String>) {
        if is_true {
            self.set(type_, true, reason, message);
        }
    }

    /// Reports a spec that cannot be used: Ready is False, with Reconciling or Stalled; each condition type of `unevaluated`
    /// has the same reason. Returns the requeue delay: `recheck` while waiting for another object.
    pub fn reject_spec(
        &mut self,
        error: &SpecError,
        unevaluated: &[(ConditionType, ConditionStatus)],
        recheck: Duration,
    ) -> Duration {
        let (type_, requeue_after) = if error.waiting {
            (ConditionType::Reconciling, recheck)
        } else {
            (ConditionType::Stalled, STALLED_REQUEUE)
        };
        self.set(ConditionType::Ready, false, error.reason, error.message.clone());
        self.set(type_, true, error.reason, error.message.clone());
        for (type_, status) in unevaluated {
            let message = "not evaluated: the spec cannot be used; see condition Ready";
            self.set(*type_, *status, error.reason, message);
        }
        requeue_after
    }

    /// The conditions for the status; one whose status is unchanged keeps its transition time from `old`.
    pub fn merged(self, old: &[ApiCondition]) -> Vec<ApiCondition> {
        let as_of_now = |old: Condition| Condition { last_transition: happened(old.last_transition, self.now), ..old };
        let old: Vec<Condition> = old.iter().map(from_api).map(as_of_now).collect();
        merge(&old, self.collected).into_iter().map(to_api).collect()
    }
}

/// The message, or as much of it as may be stored.
fn bounded(message: String) -> String {
    const MORE: &str = " …";
    if json_prefix(&message, MESSAGE_MAX).len() == message.len() {
        return message;
    }
    format!("{}{MORE}", json_prefix(&message, MESSAGE_MAX - MORE.len()))
}

/// Suffix of the Ready message that names set fields without effect in this version; empty if there are none.
pub fn unused_fields_note(fields: &[&str]) -> String {
    if fields.is_empty() {
        String::new()
    } else {
        format!("; not used by this version: spec.{}", fields.join(", spec."))
    }
}

/// Status of the condition of type `type_`; `Unknown` if absent.
pub fn status_of(conditions: &[ApiCondition], type_: ConditionType) -> ConditionStatus {
    conditions
        .iter()
        .find(|c| c.type_ == type_.as_str())
        .map_or(ConditionStatus::Unknown, |c| ConditionStatus::parse(&c.status))
}

/// Reason of the condition of type `type_`; `None` if absent.
pub fn reason_of(conditions: &[ApiCondition], type_: ConditionType) -> Option<&str> {
    conditions.iter().find(|c| c.type_ == type_.as_str()).map(|c| c.reason.as_str())
}

/// Message of the condition of type `type_`; `None` if absent.
pub fn message_of(conditions: &[ApiCondition], type_: ConditionType) -> Option<&str> {
    conditions.iter().find(|c| c.type_ == type_.as_str()).map(|c| c.message.as_str())
}

/// When the status of the condition of type `type_` last changed; `None` if absent.
pub fn transition_of(conditions: &[ApiCondition], type_: ConditionType) -> Option<Timestamp> {
    conditions.iter().find(|c| c.type_ == type_.as_str()).map(|c| c.last_transition_time.0)
}

/// Converts a condition from the API type.
pub fn from_api(condition: &ApiCondition) -> Condition {
    Condition {
        type_: condition.type_.clone(),
        status: ConditionStatus::parse(&condition.status),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: condition.observed_generation.unwrap_or_default(),
        last_transition: condition.last_transition_time.0,
    }
}

fn to_api(condition: Condition) -> ApiCondition {
    ApiCondition {
        type_: condition.type_,
        status: condition.status.as_str().to_owned(),
        reason: condition.reason,
        message: condition.message,
        observed_generation: Some(condition.observed_generation),
        last_transition_time: Time(condition.last_transition),
    }
}

/// Truncates to whole seconds: the API server stores no finer ones, so an unchanged status would look changed.
pub fn truncate_to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The API form of an instant, in whole seconds.
pub fn time(at: Timestamp) -> Time {
    Time(truncate_to_seconds(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_to_the_bytes_that_a_status_may_have_for_it() {
        let stored = |text: &str| serde_json::to_string(text).unwrap().len() - 2;
        for short in [String::new(), "provider timed out".to_owned(), "é".repeat(1024), "\"".repeat(1024)] {
            assert_eq!(bounded(short.clone()), short);
        }
        for long in ["x", "é", "€", "🏦", "\"", "\\", "\n", "\u{1}", "a\"€\u{1f}"] {
            let cut = bounded(long.repeat(5_000));
            let size = stored(&cut);
            assert!(cut.ends_with(" …") && size <= MESSAGE_MAX && size > MESSAGE_MAX - 16, "{long:?}: {size}");
            assert!(cut.chars().count() <= MESSAGE_MAX, "the schema counts characters");
        }
        let mut conditions = Conditions::new(1, Timestamp::UNIX_EPOCH);
        conditions.set(ConditionType::Ready, false, Reason::InvalidSpec, "x".repeat(10_000));
        assert!(stored(&conditions.merged(&[])[0].message) <= MESSAGE_MAX);
    }

    #[test]
    fn a_transition_time_of_the_future_becomes_now_once() {
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let merged = |now: Timestamp, old: &[ApiCondition]| {
            let mut conditions = Conditions::new(1, now);
            conditions.set(ConditionType::Ready, true, Reason::Accepted, "");
            conditions.merged(old)
        };
        let wrong = merged(at(31_536_000), &[]);
        let right = merged(at(10), &wrong);
        assert_eq!(transition_of(&right, ConditionType::Ready), Some(at(10)));
        assert_eq!(transition_of(&merged(at(20), &right), ConditionType::Ready), Some(at(10)), "written once");
    }
}
