//! What a bank promises about payouts, and how a route handles those that are stuck: the rules that an attempt keeps
//! for its life. Pure.

use std::time::Duration;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::canonical::{decimal, millis};

/// Guarantees of a bank, from its profile and `spec.payouts`. The default promises nothing. The fields are in the order
/// of canonical JSON.
#[expect(clippy::struct_excessive_bools, reason = "independent promises, stored by their names")]
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BankPromises {
    /// Time for which the bank deduplicates by idempotency key; zero: it does not.
    #[serde(with = "millis")]
    pub idempotency_window: Duration,
    /// Whether it can be asked for the status of a payout.
    pub inquiry: bool,
    /// Time between two "not found" that count, and after the last possible submission before any counts.
    #[serde(with = "millis")]
    pub not_found_grace: Duration,
    /// Whether "not found" may become a proof at all (`notFoundProof: AfterGrace`).
    pub not_found_proof: bool,
    /// Whether it can be asked to cancel a payout.
    pub recall: bool,
    /// Time after which the payment scheme itself has given a payout up.
    #[serde(with = "millis")]
    pub scheme_timeout: Duration,
    /// Whether "not found" is read from where payouts are written.
    pub strong_read_your_writes: bool,
    /// Which bank, endpoint and account promise this; empty: not known (an attempt of an earlier version).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

impl Default for BankPromises {
    fn default() -> Self {
        Self {
            idempotency_window: Duration::ZERO,
            inquiry: false,
            not_found_grace: Duration::from_mins(15),
            not_found_proof: false,
            recall: false,
            scheme_timeout: Duration::from_hours(1),
            strong_read_your_writes: false,
            target: String::new(),
        }
    }
}

impl BankPromises {
    /// Whether it promises nothing that a stuck payout could be followed by: `ManualOnly` is what is left.
    pub const fn is_manual_only(&self) -> bool {
        !self.inquiry && !self.recall
    }

    /// Whether they are promises of what is called `target` now.
    pub fn are_of(&self, target: &str) -> bool {
        self.target.is_empty() || self.target == target
    }
}

/// What is done about a stuck payout without a person.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StuckPolicy {
    /// The bank is inquired.
    Inquire,
    /// The bank is inquired, and then asked to cancel.
    #[default]
    InquireThenRecall,
    /// Nothing: the payout is held.
    ManualOnly,
}

/// How a route handles stuck payouts (`spec.stuck`). The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StuckRules {
    /// Time after which a payout without confirmation is stuck.
    #[serde(with = "millis")]
    pub after: Duration,
    /// Largest amount, in the payout's currency, for which two people may accept the risk of a duplicate; `None`: no
    /// payout.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option")]
    pub duplicate_risk_limit: Option<Decimal>,
    /// Most attempts without a person.
    pub max_attempts: u32,
    /// What is done without a person.
    pub policy: StuckPolicy,
}

impl Default for StuckRules {
    fn default() -> Self {
        Self {
            after: Duration::from_mins(30),
            duplicate_risk_limit: None,
            max_attempts: 5,
            policy: StuckPolicy::default(),
        }
    }
}
