//! What people say became of an attempt. Pure.

use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::state::AttemptState;

/// What a person says became of an attempt.
#[derive(Copy, Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It was executed.
    Confirmed,
    /// The bank refused it.
    Rejected,
    /// The money came back.
    Returned,
    /// The bank never received it.
    NeverReceived,
}

impl Resolution {
    /// All resolutions.
    pub const ALL: [Self; 4] = [Self::Confirmed, Self::Rejected, Self::Returned, Self::NeverReceived];

    /// The state that the attempt is in then.
    pub const fn state(self) -> AttemptState {
        match self {
            Self::Confirmed => AttemptState::Confirmed,
            Self::Rejected => AttemptState::Rejected,
            Self::Returned => AttemptState::Returned,
            Self::NeverReceived => AttemptState::NeverReceived,
        }
    }

    /// The name in requests.
    pub const fn as_str(self) -> &'static str {
        self.state().as_str()
    }
}

/// What one person said became of an attempt. The fields are in the order of canonical JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProposedResolution {
    /// The person and the evidence.
    pub evidence: Evidence,
    /// What became of it.
    pub resolution: Resolution,
}
