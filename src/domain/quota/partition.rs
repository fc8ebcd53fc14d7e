//! Keys of partitions.

use crate::domain::hash;

/// Key of one partition and operation.
pub(super) fn part(operation: &str, partition: &str) -> u64 {
    hash::stable_hash(partition) ^ hash::mix(hash::stable_hash(operation))
}
