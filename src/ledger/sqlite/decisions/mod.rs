//! The audit of routing in the file.

mod checkpoint;
mod codec;
mod commit;
mod list;
mod load;
mod read;
mod store;
