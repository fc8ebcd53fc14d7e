//! Client-side rate limiting: several sliding-window limits at once, which are never exceeded.
//!
//! A request passes if every applicable limit has capacity, and is counted in all of them or in none. Seconds, minutes
//! and hours are sliding windows; a day is a calendar day in the provider's zone. A share of each limit can be reserved
//! for money calls. A request that must wait gets the instant to retry at and is counted ahead of later requests. Time
//! is an argument; which requests wait, and for how long, is decided by the caller.
//!
//! Windows are created on first use and dropped when empty, so that idle connections and partitions use no memory. Daily
//! counts are stored, so that a restart does not grant a day's requests again ([`DayUsage`]).

mod blocked;
mod counters;
mod day;
mod limit;
mod partition;
mod request;
mod stored_days;
#[cfg(test)]
mod tests;
mod window;

pub use self::blocked::BlockedPartitions;
pub use self::counters::{Quota, RetryAt, WindowId};
pub use self::limit::{Limit, LimitScope, LimitUnit, QuotaRules};
pub use self::request::QuotaRequest;
pub use self::stored_days::DayUsage;
