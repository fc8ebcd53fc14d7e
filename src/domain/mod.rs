//! Domain rules, pure: no clock, no I/O, no randomness. `now` is always an argument.
//!
//! Every decision of this layer can be replayed and tested with plain values. It must not depend on Kubernetes, sockets
//! or an async runtime; an architecture test checks that.

pub mod backoff;
pub mod breaker;
pub mod clock_skew;
pub mod conditions;
pub mod duration;
pub mod hash;
pub mod health;
pub mod key;
pub mod lease;
pub mod money;
pub mod quota;
pub mod retry_budget;
pub mod rights;
pub mod route;
pub mod schedule;
pub mod time;
pub mod window;
