//! What a provider has closed by its own word, partition by partition.
//!
//! A bank that has told four times today what one account holds says no to that account, and to no other. That is not a
//! counter of ours: it holds whatever was counted here, and also where no limit is declared.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::time::Mono;

/// Fewer than this are not worth looking through.
const PRUNE_FROM: usize = 64;

/// Partitions that are closed, each for one operation. Empty until the first.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    until: HashMap<u64, Mono>,
    /// Looked through for what is open again when there are this many.
    prune_at: usize,
}

impl Closed {
    /// Closes `partition` for `operation`. Like a pause of the whole connection it only ever moves later.
    pub fn close(&mut self, operation: &str, partition: &str, length: Duration, now: Mono) {
        if self.until.len() >= self.prune_at.max(PRUNE_FROM) {
            self.until.retain(|_, until| now < *until);
            self.prune_at = self.until.len() * 2;
        }
        let until = self.until.entry(super::part(operation, partition)).or_insert(now);
        *until = (*until).max(now + length);
    }

    /// Until when it is closed; `None` if it is not.
    pub fn until(&self, operation: &str, partition: &str, now: Mono) -> Option<Mono> {
        self.until.get(&super::part(operation, partition)).copied().filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn one_partition_is_closed_for_one_operation_and_only_moves_later() {
        let (mut closed, now) = (Closed::default(), Mono::ZERO);
        closed.close("balances", "acc-1", HOUR, now);
        closed.close("balances", "acc-1", HOUR / 2, now);
        assert_eq!(closed.until("balances", "acc-1", now), Some(now + HOUR));
        assert_eq!(closed.until("balances", "acc-2", now), None);
        assert_eq!(closed.until("transactions", "acc-1", now), None);
        assert_eq!(closed.until("balances", "acc-1", now + HOUR), None, "the boundary admits");
    }

    #[test]
    fn what_is_open_again_is_forgotten() {
        let mut closed = Closed::default();
        for second in 0..10_000 {
            let now = Mono::ZERO + Duration::from_secs(second);
            closed.close("balances", &format!("acc-{second}"), Duration::from_secs(10), now);
        }
        assert!(closed.until.len() <= PRUNE_FROM + 1, "{}", closed.until.len());
    }
}
