//! The audit of routing on the server: replicas append in turn, under the lock of the chain's head.

mod checkpoint;
mod codec;
mod commit;
mod list;
mod load;
mod read;
mod store;
