//! Limits how often lines about the same thing are logged. Pure.
//!
//! A line that is logged after others were left out reports their number, so that nothing is lost but the repetition.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::domain::time::Mono;
use crate::domain::token_buckets::{BucketLimit, TokenBuckets};

/// Lines about one thing that are logged in a row.
const BURST: u32 = 20;
/// After them, the time between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Decides which lines are logged. Keys come from a small closed set: never from a caller's text.
#[derive(Clone, Debug)]
pub struct LogLimit<K> {
    buckets: TokenBuckets<K>,
    omitted: HashMap<K, u64>,
}

impl<K: Hash + Eq + Clone> LogLimit<K> {
    /// A limit for up to `keys` things.
    pub fn new(keys: usize) -> Self {
        Self {
            buckets: TokenBuckets::new(BucketLimit { interval: INTERVAL, burst: BURST }, keys),
            omitted: HashMap::new(),
        }
    }

    /// Whether a line about `key` is logged now: then the number of lines left out since the last one.
    pub fn admit(&mut self, key: K, now: Mono) -> Option<u64> {
        if self.buckets.take(&key, now).is_ok() {
            return Some(self.omitted.remove(&key).unwrap_or_default());
        }
        *self.omitted.entry(key).or_default() += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_lines_are_left_out_and_their_number_is_reported() {
        let mut lines = LogLimit::new(10);
        let now = Mono::ZERO + Duration::from_mins(1);
        let logged: Vec<u64> = (0..1_000).filter_map(|_| lines.admit("a", now)).collect();
        assert_eq!(logged, [0; 20]);
        assert_eq!(lines.admit("b", now), Some(0), "another thing");
        assert_eq!(lines.admit("a", now + INTERVAL), Some(980));
        assert_eq!(lines.admit("a", now + INTERVAL), None);
        assert_eq!(lines.admit("a", now + INTERVAL * 2), Some(1));
    }
}
