//! The part of a requested range that the provider can show, where its responses state one: a consent or a plan may be
//! narrower than the window, and the list is then shorter without an error. Pure.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::profile::AvailableRange;

/// How far a stated bound may be within the requested range. Less is a bound that is rounded to a day, in the zone of the
/// provider, or that of a history of as many days as were asked for.
const TOLERANCE: SignedDuration = SignedDuration::from_hours(48);

/// The range that the provider says it can show.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Available {
    /// Its first instant, if the response states one.
    pub from: Option<Timestamp>,
    /// Its last one.
    pub to: Option<Timestamp>,
}

impl Available {
    /// What a response states in the places of `range`. What is neither an instant nor a day states nothing.
    pub fn of(range: &AvailableRange, value: impl Fn(&str) -> Option<Value>) -> Self {
        let bound = |pointer: &Option<String>| value(pointer.as_deref()?)?.as_str().and_then(instant);
        Self { from: bound(&range.from), to: bound(&range.to) }
    }

    /// The same with the bounds of an earlier page where this one states none.
    #[must_use]
    pub fn or(self, earlier: Self) -> Self {
        Self { from: self.from.or(earlier.from), to: self.to.or(earlier.to) }
    }

    /// The first instant that can be shown, if that is later than a range that starts at `from` needs.
    pub fn later_than(self, from: Timestamp) -> Option<Timestamp> {
        self.from.filter(|first| first.duration_since(from) > TOLERANCE)
    }

    /// The last instant that can be shown, if that is earlier than a range that ends at `to` needs.
    pub fn earlier_than(self, to: Timestamp) -> Option<Timestamp> {
        self.to.filter(|last| to.duration_since(*last) > TOLERANCE)
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(day)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bound_is_an_instant_or_a_day_and_everything_else_states_none() {
        let range = AvailableRange { from: Some("/first".into()), to: Some("/last".into()) };
        let stated = |first: Value| Available::of(&range, |pointer| (pointer == "/first").then(|| first.clone()));
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(stated(json!("2026-06-01T10:00:00+02:00")).from, at("2026-06-01T08:00:00Z"));
        assert_eq!(stated(json!("2026-06-01")).from, at("2026-06-01T00:00:00Z"));
        for nothing in [json!(null), json!(""), json!("soon"), json!(1_780_000_000), json!({})] {
            assert_eq!(stated(nothing), Available::default());
        }
        assert_eq!(Available::of(&AvailableRange { from: None, to: None }, |_| None), Available::default());
    }

    #[test]
    fn a_range_that_lacks_less_than_two_days_is_covered() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let available = Available { from: Some(at("2026-06-03T00:00:00Z")), to: Some(at("2026-06-20T00:00:00Z")) };
        assert_eq!(available.later_than(at("2026-06-01T00:00:00Z")), None);
        assert_eq!(available.later_than(at("2026-07-01T00:00:00Z")), None);
        assert_eq!(available.later_than(at("2026-05-31T23:00:00Z")), available.from);
        assert_eq!(available.earlier_than(at("2026-06-22T00:00:00Z")), None);
        assert_eq!(available.earlier_than(at("2026-06-22T00:00:01Z")), available.to);
        assert_eq!(Available::default().or(available), available);
    }
}
