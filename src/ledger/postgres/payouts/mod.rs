//! Followed payouts on the server.

mod codec;
pub(super) mod load;
mod read;
mod store;
pub(super) mod write;
