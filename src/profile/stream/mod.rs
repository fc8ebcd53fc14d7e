//! Streams: how a sync fetches records page by page, and how a record becomes canonical.
//!
//! Users can write the same format inline in a `SyncJob`. Paths into a body are JSON pointers (RFC 6901); where a
//! provider is known to respond in two structures, a list of pointers is tried in order. Pointers and the names of
//! query parameters may contain placeholders too, so that a job can describe the stream that it reads.

mod amounts;
mod definition;
mod expand;
mod key_template;
mod list_end;
mod pagination;
mod source;
mod unsupported;
mod validate;

pub use amounts::{AmountRepr, Amounts, CurrencySource, Sign};
pub use definition::{
    AccountSource, CommitScope, RecordKind, RecordList, RecordOrder, Stream, TimeField, WindowParameters,
};
pub use key_template::{KeyTemplate, RecordTemplate};
pub use list_end::{EmptyForm, EndSign};
pub use pagination::{LinkUse, Pagination, TokenSource, TokenTarget};
