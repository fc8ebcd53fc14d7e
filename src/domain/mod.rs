//! Busbar's rules, pure: no clock, no I/O, no randomness of its own. `now` is always an argument.
//!
//! What is decided here can be replayed and tested with values alone. Nothing in this layer may name Kubernetes, a
//! socket or a runtime; a test scans for that.

pub mod key;
pub mod time;
