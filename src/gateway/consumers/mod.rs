//! Consumers of events: their keys, what they are told, and what they say of it.
//!
//! - [`access`] has the authentication by API key.
//! - [`reader`] says who reads or confirms events: a consumer, or staff.
//! - [`manage`] serves `/api/consumers`.
//! - [`delivery`] has confirmations, and events that are sent again.
//! - [`dead_letters`] has the dead-letter queue of a consumer.
//! - [`view`] has what is answered.

pub mod access;
pub mod dead_letters;
pub mod delivery;
pub mod manage;
pub mod reader;
pub mod view;

pub use self::access::ConsumerAccess;
