//! Followed payouts in the file.

mod codec;
pub(super) mod load;
mod read;
mod store;
pub(super) mod write;
