//! An inline stream: the profile's stream format as fields of a `SyncJob`.
//!
//! Every union is flat (`kind` and the fields of all its variants), because a structural schema has no other; what a
//! kind needs is checked when the job is resolved.

pub mod paging;
pub mod records;
mod stream;

pub use stream::HttpStream;
