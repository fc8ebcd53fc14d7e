//! Partitions that the provider rate limits by itself.
//!
//! A bank may reject further requests for one account and no other. This does not depend on the local counters: it
//! applies whatever was counted here, and also where no limit is declared.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::quota::partition::part;
use crate::domain::time::Mono;

/// Fewer entries than this are not pruned.
const PRUNE_FROM: usize = 64;
/// Blocked partitions of one connection. A further one is not remembered: the provider rejects its next request again.
const MAX_BLOCKED: usize = 10_000;

/// Blocked partitions, each for one operation.
#[derive(Clone, Debug, Default)]
pub struct BlockedPartitions {
    until: HashMap<u64, Mono>,
    /// Number of entries at which expired ones are pruned.
    prune_at: usize,
}

impl BlockedPartitions {
    /// Blocks `partition` for `operation`. Like the rate limit of a whole connection, the end only moves later.
    pub fn block(&mut self, operation: &str, partition: &str, length: Duration, now: Mono) {
        if self.until.len() >= self.prune_at.clamp(PRUNE_FROM, MAX_BLOCKED) {
            self.until.retain(|_, until| now < *until);
            self.prune_at = self.until.len() * 2;
        }
        let part = part(operation, partition);
        if self.until.len() >= MAX_BLOCKED && !self.until.contains_key(&part) {
            return;
        }
        let until = self.until.entry(part).or_insert(now);
        *until = (*until).max(now + length);
    }

    /// End of the block; `None` if the partition is not blocked.
    pub fn blocked_until(&self, operation: &str, partition: &str, now: Mono) -> Option<Mono> {
        self.until.get(&part(operation, partition)).copied().filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_block_is_per_partition_and_operation_and_only_moves_later() {
        let (mut blocked, now) = (BlockedPartitions::default(), Mono::ZERO);
        blocked.block("balances", "acc-1", HOUR, now);
        blocked.block("balances", "acc-1", HOUR / 2, now);
        assert_eq!(blocked.blocked_until("balances", "acc-1", now), Some(now + HOUR));
        assert_eq!(blocked.blocked_until("balances", "acc-2", now), None);
        assert_eq!(blocked.blocked_until("transactions", "acc-1", now), None);
        assert_eq!(blocked.blocked_until("balances", "acc-1", now + HOUR), None, "the boundary admits");
    }

    #[test]
    fn expired_blocks_are_pruned() {
        let mut blocked = BlockedPartitions::default();
        for second in 0..10_000 {
            let now = Mono::ZERO + Duration::from_secs(second);
            blocked.block("balances", &format!("acc-{second}"), Duration::from_secs(10), now);
        }
        assert!(blocked.until.len() <= PRUNE_FROM + 1, "{}", blocked.until.len());
    }

    #[test]
    fn memory_for_blocks_is_bounded() {
        let mut blocked = BlockedPartitions::default();
        for n in 0..MAX_BLOCKED + 100 {
            blocked.block("balances", &format!("acc-{n}"), HOUR, Mono::ZERO);
        }
        assert_eq!(blocked.until.len(), MAX_BLOCKED);
        assert!(blocked.blocked_until("balances", "acc-0", Mono::ZERO).is_some());
    }
}
