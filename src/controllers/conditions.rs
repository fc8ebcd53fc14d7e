//! Conditions of a status, built and merged: the one place that knows how ours look on the wire.

use jiff::Timestamp;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::v1alpha1::common::Condition as Wire;
use crate::api::v1alpha1::reasons::{ConditionType, Reason};
use crate::domain::conditions::{Condition, Status, merge};

/// Collects the conditions of one status.
pub struct Conditions {
    generation: i64,
    now: Timestamp,
    wanted: Vec<Condition>,
}

impl Conditions {
    /// For the object's `generation`, as of `now`.
    pub fn new(generation: i64, now: Timestamp) -> Self {
        Self { generation, now: seconds(now), wanted: Vec::new() }
    }

    /// Adds one.
    pub fn set(&mut self, type_: ConditionType, status: impl Into<Status>, reason: Reason, message: impl Into<String>) {
        let condition = Condition::new(type_.as_str(), status, reason.as_str(), message, self.generation, self.now);
        self.wanted.push(condition);
    }

    /// Adds one that exists only while true.
    pub fn set_if(&mut self, holds: bool, type_: ConditionType, reason: Reason, message: impl Into<String>) {
        if holds {
            self.set(type_, true, reason, message);
        }
    }

    /// What goes on the wire: each with the transition time it had if its status is the same.
    pub fn merged(self, old: &[Wire]) -> Vec<Wire> {
        let old: Vec<Condition> = old.iter().map(read).collect();
        merge(&old, self.wanted).into_iter().map(write).collect()
    }
}

/// The status of one condition in a list, `Unknown` if it is not there.
pub fn status_of(conditions: &[Wire], type_: ConditionType) -> Status {
    conditions.iter().find(|c| c.type_ == type_.as_str()).map_or(Status::Unknown, |c| Status::parse(&c.status))
}

/// The reason of one condition in a list.
pub fn reason_of(conditions: &[Wire], type_: ConditionType) -> Option<&str> {
    conditions.iter().find(|c| c.type_ == type_.as_str()).map(|c| c.reason.as_str())
}

/// A condition from the wire.
pub fn read(wire: &Wire) -> Condition {
    Condition {
        type_: wire.type_.clone(),
        status: Status::parse(&wire.status),
        reason: wire.reason.clone(),
        message: wire.message.clone(),
        observed_generation: wire.observed_generation.unwrap_or_default(),
        last_transition: wire.last_transition_time.0,
    }
}

fn write(condition: Condition) -> Wire {
    Wire {
        type_: condition.type_,
        status: condition.status.as_str().to_owned(),
        reason: condition.reason,
        message: condition.message,
        observed_generation: Some(condition.observed_generation),
        last_transition_time: Time(condition.last_transition),
    }
}

/// Instants in a status are whole seconds: finer ones would make an unchanged status look changed after a round trip.
pub fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// An instant for a status.
pub fn time(at: Timestamp) -> Time {
    Time(seconds(at))
}
