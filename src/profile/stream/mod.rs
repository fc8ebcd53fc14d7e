//! Streams: how a sync fetches records page by page, and how a record becomes canonical.
//!
//! Users can write the same format inline in a `SyncJob`. Paths into a body are JSON pointers (RFC 6901); where a
//! provider is known to respond in two structures, a list of pointers is tried in order. Pointers and the names of
//! query parameters may contain placeholders too, so that a job can describe the stream that it reads.

mod amounts;
mod definition;
mod expand;
mod inline;
mod key_template;
mod list_end;
mod pagination;
mod placeholders;
mod record_fields;
mod record_kind;
mod scope;
mod source;
mod validate;
mod validate_kind;
mod whole_days;

pub use amounts::{AmountRepr, Amounts, CurrencySource, Sign};
pub use definition::{
    AccountSource, AvailableRange, CommitScope, RecordList, RecordOrder, Stream, TimeField, WindowParameters,
    WindowPlace,
};
pub use inline::InlineContext;
pub use key_template::{KeyTemplate, RecordTemplate};
pub use list_end::{EmptyForm, EndSign};
pub use pagination::{LinkUse, Pagination, TokenSource, TokenTarget};
pub use record_fields::{OmittedRecords, RemovedList, StatusField, StreamField, Supersedes};
pub use record_kind::{KindField, RecordKind};
pub use whole_days::WHOLE_DAY_MARGIN;
