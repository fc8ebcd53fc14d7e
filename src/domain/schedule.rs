//! Schedules: a fixed interval, or a cron expression in a time zone. Pure functions of `last` and `now`; an object gets
//! the same jitter in every process.
//!
//! Cron is the five-field form with Vixie's rules, evaluated by the `cronexpr` crate on jiff's calendar. Where the
//! crate and Vixie's cron differ at daylight-saving changes, this module follows Vixie ("man 8 cron", Debian): an
//! expression with fixed hours that falls into a gap runs right after it, and runs once in a repeated hour; an
//! expression with `*` in minute or hour follows elapsed time.

use std::fmt;
use std::time::Duration;

use cronexpr::Crontab;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::domain::clock_skew::after;
use crate::domain::hash;

/// Upper bound of the jitter. It spreads a thousand jobs of the same slot to fewer than four per second without making
/// a daily sync noticeably late; ten percent of a day or a month would.
pub const MAX_JITTER: Duration = Duration::from_mins(5);

/// Reason for which a schedule is invalid. Every message states the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("schedule must have five fields (minute hour day-of-month month day-of-week), but has {0}")]
    FieldCount(usize),
    /// A nickname.
    #[error("schedule must have five fields: nicknames such as @daily are not supported")]
    Nickname,
    /// A time zone inside the expression.
    #[error("schedule must not set a time zone: use the field timeZone")]
    ZoneInLine,
    /// A field that cannot be parsed.
    #[error("schedule must be a cron expression, for example \"*/15 * * * *\": {0}")]
    Malformed(String),
    /// A date that does not exist.
    #[error("schedule must match at least once in four years, but never does")]
    Never,
    /// Not a time zone of the IANA database.
    #[error("timeZone must be a name of the IANA time zone database, for example Europe/Oslo")]
    TimeZone,
    /// Zero length.
    #[error("interval must be longer than zero")]
    ZeroInterval,
}

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Cron {
    line: String,
    zone: TimeZone,
    /// The expression in civil time, without gaps and repeated hours.
    civil: Crontab,
    /// Minute or hour begin with `*`: follows elapsed time over daylight-saving changes.
    wildcard: bool,
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.line == other.line && self.zone == other.zone
    }
}

impl Eq for Cron {}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.line, self.zone.iana_name().unwrap_or("UTC"))
    }
}

/// A recurring schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// The slots `created`, `created + interval` …; a slot that was served shifts none of those after it.
    Interval(Duration),
    /// The slots of a cron expression.
    Cron(Box<Cron>),
}

/// Result of [`Schedule::due`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Start a run now.
    Start {
        /// The newest slot that is not later than now, without jitter. The run serves it and every one before it.
        slot: Timestamp,
        /// Whether earlier slots passed without a run; this run replaces all of them.
        missed: bool,
    },
    /// Nothing is due before `until`.
    Wait {
        /// The next slot, without jitter.
        slot: Timestamp,
        /// Start of its run, jitter included.
        until: Timestamp,
    },
    /// The slot is older than the starting deadline: mark it as handled and report it.
    Missed {
        /// The last missed slot.
        slot: Timestamp,
    },
}

impl Schedule {
    /// A fixed interval.
    pub fn interval(length: Duration) -> Result<Self, ScheduleError> {
        if length.is_zero() { Err(ScheduleError::ZeroInterval) } else { Ok(Self::Interval(length)) }
    }

    /// A cron expression in an IANA time zone; `None` is UTC.
    pub fn cron(line: &str, time_zone: Option<&str>) -> Result<Self, ScheduleError> {
        Cron::parse(line, time_zone).map(|cron| Self::Cron(Box::new(cron)))
    }

    /// Start of the next run, jitter included; in the past if it is overdue. `last` is the last handled slot; without one
    /// an interval is due at once, a cron schedule at its next slot. Of the slots that passed since `last` only the
    /// latest counts.
    pub fn next_after(&self, last: Option<Timestamp>, now: Timestamp, uid_seed: &str, jitter_percent: u8) -> Timestamp {
        match (self, last) {
            (Self::Interval(_), None) => now,
            (Self::Interval(length), Some(last)) => self.start_time(after(last, *length), uid_seed, jitter_percent),
            (Self::Cron(cron), last) => {
                let slot = last
                    .and_then(|last| cron.latest(last, now).or_else(|| cron.next(last)))
                    .or_else(|| cron.next(now))
                    .unwrap_or(Timestamp::MAX);
                self.start_time(slot, uid_seed, jitter_percent)
            }
        }
    }

    /// Decides what is due now. `last` is the last handled slot, `created` the time before which nothing was due. The
    /// deadline applies to cron slots only.
    ///
    /// However long no run was started, and for whatever reason, one run catches up: it handles the newest slot that is
    /// not later than now, so that nothing is due right after it.
    pub fn due(
        &self,
        last: Option<Timestamp>,
        created: Timestamp,
        now: Timestamp,
        uid_seed: &str,
        jitter_percent: u8,
        starting_deadline: Duration,
    ) -> Due {
        let first = match (self, last) {
            (Self::Interval(_), None) => Some(created),
            (Self::Interval(length), Some(last)) => Some(after(last, *length)),
            (Self::Cron(cron), last) => cron.next(last.unwrap_or(created)),
        };
        let Some(first) = first else {
            return Due::Wait { slot: Timestamp::MAX, until: Timestamp::MAX };
        };
        // The first run of an interval is not delayed: a new job shows at once whether it works.
        let at_once = last.is_none() && matches!(self, Self::Interval(_));
        let until = if at_once { first } else { self.start_time(first, uid_seed, jitter_percent) };
        if now < until {
            return Due::Wait { slot: first, until };
        }
        let slot = match self {
            Self::Interval(length) => newest_multiple(first, *length, now),
            Self::Cron(cron) => cron.latest(first, now).unwrap_or(first),
        };
        let expires = after(self.start_time(slot, uid_seed, jitter_percent), starting_deadline);
        if matches!(self, Self::Cron(_)) && now > expires {
            Due::Missed { slot }
        } else {
            Due::Start { slot, missed: slot != first }
        }
    }

    /// Time between two runs: the interval, or the gap between the next two slots after `now`. Base of the default
    /// maximum staleness.
    pub fn gap(&self, now: Timestamp) -> Duration {
        match self {
            Self::Interval(length) => *length,
            Self::Cron(cron) => cron.next(now).map_or(Duration::MAX, |slot| cron.gap(slot)),
        }
    }

    fn start_time(&self, slot: Timestamp, uid_seed: &str, jitter_percent: u8) -> Timestamp {
        let gap = match self {
            Self::Interval(length) => *length,
            Self::Cron(cron) => cron.gap(slot),
        };
        after(slot, jitter(gap, jitter_percent, uid_seed))
    }
}

/// Jitter of an object: a stable share of `percent` of the gap, from zero up to (not including) all of it, in whole
/// milliseconds.
pub fn jitter(gap: Duration, percent: u8, uid_seed: &str) -> Duration {
    let most = (gap.min(Duration::from_secs(1 << 32)) * u32::from(percent.min(100)) / 100).min(MAX_JITTER);
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(hash::scale(millis, hash::stable_hash(uid_seed)))
}

/// The latest of `first`, `first + length`, … that is not later than `now`; `first` if all are.
fn newest_multiple(first: Timestamp, length: Duration, now: Timestamp) -> Timestamp {
    let length = i128::try_from(length.as_nanos()).unwrap_or(i128::MAX).max(1);
    let elapsed = now.as_nanosecond().saturating_sub(first.as_nanosecond()).max(0);
    Timestamp::from_nanosecond(first.as_nanosecond() + elapsed / length * length).unwrap_or(first)
}

impl Cron {
    fn parse(line: &str, time_zone: Option<&str>) -> Result<Self, ScheduleError> {
        let upper = line.trim_start().to_ascii_uppercase();
        if upper.starts_with("TZ=") || upper.starts_with("CRON_TZ=") {
            return Err(ScheduleError::ZoneInLine);
        }
        if upper.starts_with('@') {
            return Err(ScheduleError::Nickname);
        }
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if fields.len() != 5 {
            return Err(ScheduleError::FieldCount(fields.len()));
        }
        let name = time_zone.unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| ScheduleError::TimeZone)?;
        let line = fields.join(" ");
        // The crate requires a zone as a sixth field. It is used in civil time only: see `civil_after`.
        let civil = cronexpr::parse_crontab(&format!("{line} UTC"))
            .map_err(|e| ScheduleError::Malformed(first_line(&e.to_string()).to_owned()))?;
        // Any instant works: the crate searches four years ahead, which covers every date but 29 February on a weekday.
        civil.find_next(PROBE_FROM).map_err(|_| ScheduleError::Never)?;
        let wildcard = fields[0].starts_with('*') || fields[1].starts_with('*');
        Ok(Self { line, zone, civil, wildcard })
    }

    /// The first slot after `at`; `None` after the end of the calendar.
    pub(super) fn next(&self, at: Timestamp) -> Option<Timestamp> {
        if self.wildcard { self.next_wildcard(at) } else { self.next_fixed(at) }
    }

    /// The first match after the civil time `at`, both treated as UTC: the crate must not evaluate a zone whose hours
    /// repeat, because it rounds down to the hour and loops forever where half an hour repeats.
    fn civil_after(&self, at: DateTime) -> Option<DateTime> {
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        // The crate stops after four years; the next 29 February may be eight years away.
        let far = after(at, Duration::from_hours(35040));
        let found = self.civil.find_next(at).or_else(|_| self.civil.find_next(far)).ok()?;
        Some(found.datetime())
    }

    /// Next slot of an expression that follows elapsed time: a gap has no minutes, a repeated hour counts twice.
    fn next_wildcard(&self, at: Timestamp) -> Option<Timestamp> {
        let mut from = self.zone.to_datetime(at);
        let mut since = at;
        // Between two offset changes civil time equals elapsed time; eight years have a few dozen changes.
        for _ in 0..64 {
            let offset = self.zone.to_offset(since);
            let end = self.zone.following(since).next().map(|change| change.timestamp());
            let slot = offset.to_timestamp(self.civil_after(from)?).ok()?;
            match end {
                Some(end) if slot >= end => {
                    // The first civil minute after the change may be a slot itself.
                    from = self.zone.to_datetime(end).checked_sub(SignedDuration::from_nanos(1)).ok()?;
                    since = end;
                }
                _ => return Some(slot),
            }
        }
        None
    }

    /// Next slot of an expression with fixed hours: a civil time inside a gap maps to the end of the gap, a repeated
    /// one to its first occurrence.
    fn next_fixed(&self, at: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(at);
        // In the second pass of a repeated hour all its minutes have passed; the bound exceeds the minutes of any fold.
        for _ in 0..240 {
            civil = self.civil_after(civil)?;
            let place = self.zone.to_ambiguous_timestamp(civil);
            let slot = match place.offset() {
                AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => place.earlier().ok()?,
                AmbiguousOffset::Gap { .. } => {
                    let after = place.later().ok()?;
                    let just_past = after.checked_add(SignedDuration::from_nanos(1)).ok()?;
                    self.zone.preceding(just_past).next().map_or(after, |change| change.timestamp())
                }
            };
            if slot > at {
                return Some(slot);
            }
        }
        None
    }

    /// The latest slot after `after` and not after `now`, found by bisection: a month of downtime has 43 200 slots of
    /// `* * * * *`.
    pub(super) fn latest(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut found = self.next(after).filter(|&slot| slot <= now)?;
        let mut end = now.as_second();
        for _ in 0..64 {
            let start = found.as_second();
            if end - start <= 60 {
                break;
            }
            let middle = start + (end - start) / 2;
            let from = Timestamp::from_second(middle).ok()?;
            match self.next(from).filter(|&slot| slot <= now) {
                Some(slot) => found = slot,
                None => end = middle,
            }
        }
        // At most two more slots follow within the last minute and a half.
        while let Some(slot) = self.next(found).filter(|&slot| slot <= now) {
            found = slot;
        }
        Some(found)
    }

    fn gap(&self, slot: Timestamp) -> Duration {
        let next = self.next(slot).unwrap_or(Timestamp::MAX);
        Duration::try_from(next.duration_since(slot)).unwrap_or_default()
    }
}

const PROBE_FROM: &str = "2025-01-01T00:00:00Z";

fn first_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or(text).trim()
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
