//! When something is due next: after a fixed interval, or by a cron line in a time zone. Pure: `last` and `now` go in,
//! an instant comes out, and the same object gets the same jitter in every process.
//!
//! Cron is the five-field form with Vixie's rules, by the `cronexpr` crate on jiff's calendar. Where the crate and
//! Vixie's cron part ways at daylight-saving changes, Vixie wins ("man 8 cron", Debian): a line with fixed hours runs
//! right after a gap that swallowed it, and once, not twice, when the hour repeats; a line with `*` in minute or hour
//! follows real time.

use std::fmt;
use std::time::Duration;

use cronexpr::Crontab;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::domain::spread;

/// The most jitter there is. It spreads a thousand jobs of the same slot to under four a second, and nobody's morning
/// sync is noticeably late; a tenth of a day, or of a month, would be.
pub const MAX_JITTER: Duration = Duration::from_mins(5);

/// Why a schedule cannot be used. Every message names the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("schedule must have five fields (minute hour day-of-month month day-of-week), but has {0}")]
    FieldCount(usize),
    /// A nickname.
    #[error("schedule must be written out in five fields: nicknames such as @daily are not read")]
    Nickname,
    /// A zone within the line.
    #[error("schedule must not set a time zone: use the field timeZone")]
    ZoneInLine,
    /// A field that cannot be read.
    #[error("schedule must be a cron line, for example \"*/15 * * * *\": {0}")]
    Malformed(String),
    /// Days that no year within reach has.
    #[error("schedule must match at least once in four years, but never does")]
    Never,
    /// Not a zone of the IANA database.
    #[error("timeZone must be a name of the IANA time zone database, for example Europe/Oslo")]
    TimeZone,
    /// No length.
    #[error("interval must be longer than zero")]
    ZeroInterval,
}

/// A cron line in a zone.
#[derive(Clone, Debug)]
pub struct Cron {
    line: String,
    zone: TimeZone,
    /// The line on a calendar without gaps and repeated hours.
    civil: Crontab,
    /// Minute or hour begin with `*`: follows real time over daylight-saving changes.
    wild: bool,
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

/// When something is due, again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// So long after the last start.
    Interval(Duration),
    /// At the slots of a cron line.
    Cron(Box<Cron>),
}

/// What is due now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// Start the run of this slot now.
    Start {
        /// The slot, without jitter.
        slot: Timestamp,
        /// Whether earlier slots passed without a run; this one run stands for all of them.
        missed: bool,
    },
    /// Nothing before `until`.
    Wait {
        /// The next slot, without jitter.
        slot: Timestamp,
        /// When its run is to start.
        until: Timestamp,
    },
    /// The slot passed longer than the starting deadline ago: note it as handled, and say so.
    Missed {
        /// The last slot that was missed.
        slot: Timestamp,
    },
}

impl Schedule {
    /// A fixed interval.
    pub fn interval(length: Duration) -> Result<Self, ScheduleError> {
        if length.is_zero() { Err(ScheduleError::ZeroInterval) } else { Ok(Self::Interval(length)) }
    }

    /// A cron line in a zone of the IANA database; `None` is UTC.
    pub fn cron(line: &str, time_zone: Option<&str>) -> Result<Self, ScheduleError> {
        Cron::parse(line, time_zone).map(|cron| Self::Cron(Box::new(cron)))
    }

    /// When the next run is to start, jitter included; in the past if it is overdue. `last` is the last slot (cron) or
    /// start (interval) that was handled; without one an interval is due at once, a cron line at its next slot. However
    /// many slots passed since `last`, only the latest is left.
    pub fn next_after(&self, last: Option<Timestamp>, now: Timestamp, uid_seed: &str, jitter_percent: u8) -> Timestamp {
        match (self, last) {
            (Self::Interval(_), None) => now,
            (Self::Interval(length), Some(last)) => {
                let slot = later(last, *length);
                later(slot, jitter(*length, jitter_percent, uid_seed))
            }
            (Self::Cron(cron), last) => {
                let slot = last
                    .and_then(|last| cron.latest(last, now).or_else(|| cron.next(last)))
                    .or_else(|| cron.next(now))
                    .unwrap_or(Timestamp::MAX);
                self.start_of(slot, uid_seed, jitter_percent)
            }
        }
    }

    /// What is due now. `last` is the last slot (cron) or start (interval) that was handled, `created` the time before
    /// which nothing was due. The deadline is for cron slots only: an interval has no slot to be late for.
    pub fn due(
        &self,
        last: Option<Timestamp>,
        created: Timestamp,
        now: Timestamp,
        uid_seed: &str,
        jitter_percent: u8,
        starting_deadline: Duration,
    ) -> Due {
        let cron = match self {
            Self::Interval(length) => {
                let slot = last.map_or(created, |last| later(last, *length));
                let until = last.map_or(created, |_| self.next_after(last, now, uid_seed, jitter_percent));
                let missed = last.is_some() && now >= later(slot, *length);
                return if now >= until { Due::Start { slot, missed } } else { Due::Wait { slot, until } };
            }
            Self::Cron(cron) => cron,
        };
        let anchor = last.unwrap_or(created);
        let Some(first) = cron.next(anchor) else {
            return Due::Wait { slot: Timestamp::MAX, until: Timestamp::MAX };
        };
        let slot = cron.latest(anchor, now).unwrap_or(first);
        let start = self.start_of(slot, uid_seed, jitter_percent);
        if now < start {
            Due::Wait { slot, until: start }
        } else if now > later(start, starting_deadline) {
            Due::Missed { slot }
        } else {
            Due::Start { slot, missed: slot != first }
        }
    }

    /// The time between two runs, as far as the schedule alone tells: the interval, or the gap between the next two
    /// slots after `now`. What a default staleness is reckoned from.
    pub fn gap(&self, now: Timestamp) -> Duration {
        match self {
            Self::Interval(length) => *length,
            Self::Cron(cron) => cron.next(now).map_or(Duration::MAX, |slot| cron.gap(slot)),
        }
    }

    fn start_of(&self, slot: Timestamp, uid_seed: &str, jitter_percent: u8) -> Timestamp {
        let gap = match self {
            Self::Interval(length) => *length,
            Self::Cron(cron) => cron.gap(slot),
        };
        later(slot, jitter(gap, jitter_percent, uid_seed))
    }
}

/// The object's own share of `percent` of the gap: from zero up to (not including) all of it, whole milliseconds.
pub fn jitter(gap: Duration, percent: u8, uid_seed: &str) -> Duration {
    let most = (gap.min(Duration::from_secs(1 << 32)) * u32::from(percent.min(100)) / 100).min(MAX_JITTER);
    let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(spread::scale(millis, spread::hash(uid_seed)))
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
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
        // The crate wants a zone as a sixth field. It is asked in civil time only: see `civil_after`.
        let civil = cronexpr::parse_crontab(&format!("{line} UTC"))
            .map_err(|e| ScheduleError::Malformed(first_line(&e.to_string()).to_owned()))?;
        // Any instant will do: the crate looks four years ahead, which holds every date but a weekday's 29 February.
        civil.find_next(PROBE_FROM).map_err(|_| ScheduleError::Never)?;
        let wild = fields[0].starts_with('*') || fields[1].starts_with('*');
        Ok(Self { line, zone, civil, wild })
    }

    /// The first slot after `at`; `None` beyond the calendar's end.
    pub(super) fn next(&self, at: Timestamp) -> Option<Timestamp> {
        if self.wild { self.next_in_real_time(at) } else { self.next_by_the_clock(at) }
    }

    /// The first match after the civil time `at`, both written as if they were UTC: the crate is never asked about a
    /// zone whose hours repeat, because it rounds down to the hour, and where half an hour repeats that leads it back
    /// to where it came from, for ever.
    fn civil_after(&self, at: DateTime) -> Option<DateTime> {
        let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
        // The crate gives up after four years; a 29 February may be eight away.
        let far = later(at, Duration::from_hours(35040));
        let found = self.civil.find_next(at).or_else(|_| self.civil.find_next(far)).ok()?;
        Some(found.datetime())
    }

    /// Every minute that really passes counts: a gap has none, and both passes of a repeated hour do.
    fn next_in_real_time(&self, at: Timestamp) -> Option<Timestamp> {
        let mut from = self.zone.to_datetime(at);
        let mut since = at;
        // Between two changes of offset civil time runs like real time; eight years have a few dozen changes.
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

    /// Each civil time counts once: one that a gap swallowed is at the gap's end, a repeated one is its first pass.
    fn next_by_the_clock(&self, at: Timestamp) -> Option<Timestamp> {
        let mut civil = self.zone.to_datetime(at);
        // In the second pass of a repeated hour all its minutes are behind; no hour or two have more of them.
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

    /// The latest slot after `after` and not after `now`: found by halving, because a line is only a rule, and a month
    /// of downtime holds 43 200 slots of `* * * * *`.
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
        // Within a minute and a half of the end: at most two more slots.
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
