//! An attempt as it was decided. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::promises::BankPromises;
use crate::domain::canonical::{instant, uuid_text};

/// The next attempt, as it was decided. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AttemptPlan {
    /// Its number, from 1.
    pub attempt_no: u32,
    /// The connection of the bank.
    pub bank: String,
    /// The candidate of the route.
    pub candidate: String,
    /// The decision that chose the bank.
    #[serde(with = "uuid_text")]
    pub decision_id: Uuid,
    /// What the bank promises, as of the decision.
    pub promises: BankPromises,
    /// When the permission to send ends: no submission may begin later.
    #[serde(with = "instant")]
    pub send_by: Timestamp,
}
