//! Which streams must be read in whole days.
//!
//! A record without an ID is told from an equal one by an ordinal: the number of equal records of the account and
//! booking day before it. That number is only right if the whole day is read, so a window of such a stream starts
//! before its first whole day, by the greatest difference of a time zone from UTC, and records before that day are left
//! to the window before.

use std::time::Duration;

use super::definition::Stream;
use super::pagination::Pagination;
use super::record_kind::RecordKind;
use crate::profile::time_encoding::TimeEncoding;

/// How long before a day in UTC that day can begin elsewhere.
pub const WHOLE_DAY_MARGIN: Duration = Duration::from_hours(14);

impl Stream {
    /// Whether a window must cover whole days: its records may lack an ID, and its bounds are instants.
    pub fn reads_whole_days(&self) -> bool {
        let has_ids = matches!(self.pagination, Pagination::LastRecordId { .. });
        self.record == RecordKind::Transaction
            && !has_ids
            && self.window.as_ref().is_some_and(|window| {
                let has_hours = |format: &String| {
                    ["%H", "%I", "%k", "%l", "%T", "%R", "%s", "%c", "%X"].iter().any(|hour| format.contains(hour))
                };
                window.encoding != TimeEncoding::Text || window.format.as_ref().is_none_or(has_hours)
            })
    }
}
