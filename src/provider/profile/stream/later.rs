//! What the format can say of a stream and this version's sync cannot run yet.
//!
//! A profile may say it all the same: it is written once, for every version to come. A job that uses such a stream is
//! refused instead of half done.

use super::{CommitScope, Pagination, Record, Stream, TokenSource, TokenTarget};

impl Stream {
    /// The features of this stream that no sync runs yet, as the profile writes them; none: a job may use it.
    pub fn not_run_yet(&self) -> Vec<&'static str> {
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
            // A pending row must end when its booked one comes, which nobody does yet: money would be counted twice.
            ("lists in a stream of transactions", !self.lists.is_empty() && self.record == Record::Transaction),
            ("keyOf.fallback", self.key_of.as_ref().is_some_and(|key| !key.fallback.is_empty())),
            ("commitScope: Window", self.commit_scope == CommitScope::Window),
        ];
        paging.into_iter().chain(set.into_iter().filter(|(_, set)| *set).map(|(name, _)| name)).collect()
    }
}
