//! Features of the stream format that this version's sync does not support yet.
//!
//! A profile may use them anyway, because it is written once for all versions. A job that uses such a stream is
//! rejected instead of run in part.

use super::definition::{CommitScope, RecordKind, Stream};
use super::pagination::{Pagination, TokenSource, TokenTarget};

impl Stream {
    /// The features of this stream that are not supported yet, as the profile writes them; empty: a job may use it.
    pub fn unsupported_features(&self) -> Vec<&'static str> {
        let paging = match &self.pagination {
            Pagination::Token { from: TokenSource::Header { .. }, .. } => Some("pagination.from.kind: header"),
            Pagination::Token { to: TokenTarget::Body { .. }, .. } => Some("pagination.to.kind: body"),
            Pagination::NextUrl { .. } => Some("pagination.kind: nextUrl"),
            Pagination::LinkHeader { .. } => Some("pagination.kind: linkHeader"),
            Pagination::Page { .. }
            | Pagination::Offset { .. }
            | Pagination::Token { .. }
            | Pagination::LastRecordId { .. }
            | Pagination::None => None,
        };
        let set = [
            ("body", self.body.is_some()),
            // A pending row must be replaced by its booked one, which is not implemented: money would be counted twice.
            ("lists in a stream of transactions", !self.lists.is_empty() && self.record == RecordKind::Transaction),
            ("keyOf.fallback", self.key_of.as_ref().is_some_and(|key| !key.fallback.is_empty())),
            ("commitScope: Window", self.commit_scope == CommitScope::Window),
        ];
        paging.into_iter().chain(set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name)).collect()
    }
}
