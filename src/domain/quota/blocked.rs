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
    blocks: HashMap<u64, Block>,
    /// Number of entries at which expired ones are pruned.
    prune_at: usize,
}

/// The block of one partition. One that has expired is kept for a while: the next one is longer.
#[derive(Copy, Clone, Debug)]
struct Block {
    until: Mono,
    /// Blocks before this one without a success in between.
    repeats: u8,
}

impl BlockedPartitions {
    /// Blocks `partition` for `operation`. Like the rate limit of a whole connection, the end only moves later.
    /// `length` is asked for with the number of blocks before this one.
    pub fn block(&mut self, operation: &str, partition: &str, now: Mono, length: impl FnOnce(u8) -> Duration) {
        if self.blocks.len() >= self.prune_at.clamp(PRUNE_FROM, MAX_BLOCKED) {
            self.blocks.retain(|_, block| now < block.until);
            self.prune_at = self.blocks.len() * 2;
        }
        let part = part(operation, partition);
        let before = self.blocks.get(&part).copied();
        if before.is_none() && self.blocks.len() >= MAX_BLOCKED {
            return;
        }
        let block = match before {
            // An answer to a request sent before the block is no repetition.
            Some(block) if now < block.until => Block { until: block.until.max(now + length(block.repeats)), ..block },
            Some(block) => {
                let repeats = block.repeats.saturating_add(1);
                Block { until: now + length(repeats), repeats }
            }
            None => Block { until: now + length(0), repeats: 0 },
        };
        self.blocks.insert(part, block);
    }

    /// Ends the block of `partition`; the next one is longer all the same.
    pub fn unblock(&mut self, operation: &str, partition: &str, now: Mono) {
        if let Some(block) = self.blocks.get_mut(&part(operation, partition)) {
            block.until = block.until.min(now);
        }
    }

    /// Forgets the former blocks of `partition`: the provider has accepted a request. A block that has not ended stays,
    /// because the request was sent before it.
    pub fn forget(&mut self, operation: &str, partition: &str, now: Mono) {
        let part = part(operation, partition);
        if self.blocks.get(&part).is_some_and(|block| block.until <= now) {
            self.blocks.remove(&part);
        }
    }

    /// End of the block; `None` if the partition is not blocked.
    pub fn blocked_until(&self, operation: &str, partition: &str, now: Mono) -> Option<Mono> {
        self.blocks.get(&part(operation, partition)).map(|block| block.until).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_block_is_per_partition_and_operation_and_only_moves_later() {
        let (mut blocked, now) = (BlockedPartitions::default(), Mono::ZERO);
        blocked.block("balances", "acc-1", now, |_| HOUR);
        blocked.block("balances", "acc-1", now, |_| HOUR / 2);
        assert_eq!(blocked.blocked_until("balances", "acc-1", now), Some(now + HOUR));
        assert_eq!(blocked.blocked_until("balances", "acc-2", now), None);
        assert_eq!(blocked.blocked_until("transactions", "acc-1", now), None);
        assert_eq!(blocked.blocked_until("balances", "acc-1", now + HOUR), None, "the boundary admits");
    }

    #[test]
    fn a_block_grows_with_each_repetition_until_a_success() {
        let (mut blocked, mut now) = (BlockedPartitions::default(), Mono::ZERO);
        let length = |repeats: u8| Duration::from_secs(1 << repeats);
        let mut ends = Vec::new();
        for round in 0..4 {
            if round == 3 {
                blocked.forget("balances", "acc-1", now);
            }
            blocked.block("balances", "acc-1", now, length);
            blocked.block("balances", "acc-1", now, length);
            let until = blocked.blocked_until("balances", "acc-1", now).unwrap();
            ends.push(until.since(now).as_secs());
            blocked.forget("balances", "acc-1", now);
            assert_eq!(blocked.blocked_until("balances", "acc-1", now), Some(until), "of an earlier request");
            now = until;
            blocked.unblock("balances", "acc-1", now);
        }
        assert_eq!(ends, [1, 2, 4, 1]);
    }

    #[test]
    fn expired_blocks_are_pruned() {
        let mut blocked = BlockedPartitions::default();
        for second in 0..10_000 {
            let now = Mono::ZERO + Duration::from_secs(second);
            blocked.block("balances", &format!("acc-{second}"), now, |_| Duration::from_secs(10));
        }
        assert!(blocked.blocks.len() <= PRUNE_FROM + 1, "{}", blocked.blocks.len());
    }

    #[test]
    fn memory_for_blocks_is_bounded() {
        let mut blocked = BlockedPartitions::default();
        for n in 0..MAX_BLOCKED + 100 {
            blocked.block("balances", &format!("acc-{n}"), Mono::ZERO, |_| HOUR);
        }
        assert_eq!(blocked.blocks.len(), MAX_BLOCKED);
        assert!(blocked.blocked_until("balances", "acc-0", Mono::ZERO).is_some());
    }
}
