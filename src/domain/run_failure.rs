//! What a run says about its end, beside its result and reason: the HTTP status, what was received or which field is at
//! fault, the partitions that failed or were slow, and the resync that it served. Our own text, bounded and masked: nothing
//! of the provider's records.

use serde::{Deserialize, Serialize};

use super::mask::mask_numbers;
use super::printable;

/// Longest text about a cause, in characters.
const MAX_DETAIL: usize = 256;
/// Longest name of a partition, in characters: that of the schema.
const MAX_NAME: usize = 63;
/// Most partitions that are named.
pub const MAX_NAMED_PARTITIONS: usize = 5;

/// The cause of a run's end, as stored with the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunFailure {
    /// The provider's HTTP status, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// What was received, or which field is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether a partition's list was read to a point that is not known to be its end: it may lack records until a run is
    /// complete.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut_short: bool,
    /// How many partitions failed, those included that were not read because the cause is common to all.
    pub failing: u32,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<FailingPartition>,
    /// Partitions whose requests took longer than `spec.sla.fetchDuration`.
    pub slow: u32,
    /// ID of the resync that the run served; unset for other runs, and for those of versions that did not store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync: Option<String>,
}

/// A partition that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FailingPartition {
    /// Its name, masked; empty for a job without partitions.
    pub name: String,
    /// The reason of its failure.
    pub reason: String,
}

impl RunFailure {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl FailingPartition {
    /// The partition `name`, which failed for `reason`.
    pub fn new(name: &str, reason: impl Into<String>) -> Self {
        Self { name: printable::cell_of(&mask_numbers(name), MAX_NAME), reason: reason.into() }
    }
}

/// A text about a cause as it may be stored and shown: one line, bounded, without account numbers.
pub fn detail(text: &str) -> String {
    printable::cell_of(&mask_numbers(text), MAX_DETAIL)
}

/// A size for a text, in the largest unit that leaves it at least one.
pub fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_one_bounded_line_without_account_numbers() {
        assert_eq!(detail("no list at /data/0131883461\n\u{1b}[2J"), r"no list at /data/****3461\n\u{1b}[2J");
        assert_eq!(detail(&"x".repeat(1000)).chars().count(), MAX_DETAIL + 1);
        assert_eq!(FailingPartition::new("acc-0131883461", "NotFound").name, "acc-****3461");
        assert_eq!([0, 1023, 1024, 8 << 20].map(size), ["0 bytes", "1023 bytes", "1 KiB", "8 MiB"]);
    }
}
