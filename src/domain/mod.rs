//! Busbar's rules, pure: no clock, no I/O, no randomness of its own. `now` is always an argument.
//!
//! What is decided here can be replayed and tested with values alone. Nothing in this layer may name Kubernetes, a
//! socket or a runtime; a test scans for that.

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod conditions;
pub mod duration;
pub mod health;
pub mod key;
pub mod lease;
pub mod money;
pub mod quota;
pub mod rights;
pub mod route;
pub mod schedule;
pub mod spread;
pub mod time;
pub mod window;
