//! Whether the provider could show the range of a window that was read to its end.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Walk;
use super::window::OpenWindow;
use crate::domain::run_reason::RunReason;
use crate::sync::context::RunTotals;
use crate::sync::cursor;
use crate::sync::report::RunError;

impl Walk<'_> {
    /// Compares what the provider says that it can show with what was requested.
    ///
    /// A start that cannot be shown is an error of the first window and of a resync: the records before it were wanted.
    /// Later windows start before the cursor only to find late records. An end that cannot be shown is a note: the last
    /// record of a quiet account looks the same as the end of a consent.
    pub(super) fn check_coverage(&self, open: &OpenWindow, totals: &mut RunTotals) -> Result<(), RunError> {
        let bound = |text: &str| cursor::parse_cursor(text, self.granularity).ok();
        let (from, to) = (bound(&open.window.from), bound(&open.window.to));
        if let Some(last) = to.and_then(|to| open.available.earlier_than(to)) {
            totals.note = Some(format!(
                "the provider shows records up to {} only: if its consent or plan ends there, renew it",
                day(last)
            ));
        }
        let wanted = from.filter(|_| open.is_first);
        let Some((from, first)) = wanted.and_then(|from| Some((from, open.available.later_than(from)?))) else {
            return Ok(());
        };
        let detail = format!("the provider shows records from {} on only, requested from {}", day(first), day(from));
        Err(RunError::from(RunReason::RangeNotCovered).with_detail(detail))
    }
}

/// The day of an instant in UTC, for a text.
fn day(at: Timestamp) -> jiff::civil::Date {
    at.to_zoned(TimeZone::UTC).date()
}
