//! Domain rules, pure: no clock, no I/O, no randomness. `now` is always an argument.
//!
//! Every decision of this layer can be replayed and tested with plain values. It must not depend on Kubernetes, sockets
//! or an async runtime; an architecture test checks that.

pub mod backoff;
pub mod breaker;
pub mod canonical;
pub mod check_failure;
pub mod client_address;
pub mod clock_skew;
pub mod closed_list;
pub mod conditions;
pub mod consumer;
pub mod content_mismatch;
pub mod cursor;
pub mod decimal_digits;
pub mod decimal_text;
pub mod decision;
pub mod document;
pub mod duration;
pub mod event;
pub mod fair_queue;
pub mod fair_shares;
pub mod forecast;
pub mod hash;
pub mod health;
pub mod json_prefix;
pub mod key;
pub mod lease;
pub mod log_limit;
pub mod mask;
pub mod money;
pub mod payout;
pub mod ppm;
pub mod printable;
pub mod quota;
pub mod record;
pub mod records;
pub mod rejection_reason;
pub mod retry_budget;
pub mod rights;
pub mod route;
pub mod row_batch;
pub mod run_failure;
pub mod run_reason;
pub mod schedule;
pub mod sla;
pub mod time;
pub mod token_buckets;
pub mod unicode_digit;
pub mod window;
pub mod write_fault;
