//! Tests of schedules: validation, daylight saving, missed slots, jitter.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(line: &str, zone: &str) -> Schedule {
    Schedule::cron(line, Some(zone)).unwrap()
}

/// The first `n` slots after `from`, without jitter.
fn slots(schedule: &Schedule, from: &str, n: usize) -> Vec<String> {
    let mut last = at(from);
    (0..n)
        .map(|_| {
            last = schedule.next_after(Some(last), last, "uid", 0);
            last.to_string()
        })
        .collect()
}

#[test]
fn invalid_expressions_are_rejected_with_the_remedy() {
    for (line, want) in [
        ("", "five fields"),
        ("* * * *", "has 4"),
        ("0 */5 * * * *", "has 6"),
        ("0 6 * * * Europe/Oslo", "has 6"),
        ("TZ=Europe/Oslo 0 6 * * *", "use the field timeZone"),
        ("CRON_TZ=Europe/Oslo 0 6 * * *", "use the field timeZone"),
        (" tz=UTC 0 6 * * *", "use the field timeZone"),
        ("@daily", "nicknames such as @daily"),
        ("61 * * * *", "must be a cron expression"),
        ("a b c d e", "must be a cron expression"),
        ("0 0 31 2 *", "never does"),
    ] {
        let error = Schedule::cron(line, None).unwrap_err().to_string();
        assert!(error.contains(want), "{line:?}: {error}");
        assert!(!error.contains('\n'), "{error:?} must be one line");
    }
    for zone in ["Mars/Olympus", "", "+02:00", "EST5EDT,M3.2.0,M11.1.0", "UTC evil"] {
        assert_eq!(Schedule::cron("0 6 * * *", Some(zone)), Err(ScheduleError::TimeZone), "{zone:?}");
    }
    assert_eq!(Schedule::interval(Duration::ZERO), Err(ScheduleError::ZeroInterval));
}

#[test]
fn cron_is_evaluated_in_its_zone_and_utc_is_the_default() {
    assert_eq!(slots(&cron("0 6 * * *", "Europe/Oslo"), "2026-01-10T00:00:00Z", 1), ["2026-01-10T05:00:00Z"]);
    let utc = Schedule::cron("  0\t6 * * 1-5 ", None).unwrap();
    assert_eq!(slots(&utc, "2026-01-09T07:00:00Z", 1), ["2026-01-12T06:00:00Z"]);
    assert_eq!(slots(&utc, "2026-01-12T06:00:00Z", 1), ["2026-01-13T06:00:00Z"], "the slot itself is not after itself");
}

#[test]
fn a_leap_day_is_found_across_a_century_without_one() {
    let leap = cron("0 0 29 2 *", "UTC");
    assert_eq!(slots(&leap, "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    assert_eq!(slots(&leap, "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
}

#[test]
fn a_slot_inside_a_dst_gap_runs_right_after_the_gap() {
    // Oslo: 29 March 2026, 02:00 → 03:00 at 01:00 UTC.
    let oslo = cron("30 2 * * *", "Europe/Oslo");
    assert_eq!(
        slots(&oslo, "2026-03-27T12:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    let minutes = cron("0,59 2 29 3 *", "Europe/Oslo");
    assert_eq!(
        slots(&minutes, "2026-03-01T00:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2027-03-29T00:00:00Z"],
        "two slots inside the gap are one run"
    );
    // The gap contains midnight in Santiago: 6 September 2026, 00:00 → 01:00 at 04:00 UTC.
    let santiago = cron("0 0 * * *", "America/Santiago");
    assert_eq!(slots(&santiago, "2026-09-05T12:00:00Z", 2), ["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"]);
}

#[test]
fn a_slot_at_the_end_of_a_gap_runs_once() {
    let three = cron("0 3 * * *", "Europe/Oslo");
    assert_eq!(slots(&three, "2026-03-28T12:00:00Z", 2), ["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]);
    let both = cron("0 2,3 * * *", "Europe/Oslo");
    assert_eq!(
        slots(&both, "2026-03-28T12:00:00Z", 2),
        ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        "the slot inside the gap and the one at its end are one run"
    );
}

#[test]
fn a_slot_in_a_repeated_hour_runs_once() {
    // Oslo: 25 October 2026, 03:00 → 02:00 at 01:00 UTC.
    let oslo = cron("30 2 * * *", "Europe/Oslo");
    assert_eq!(slots(&oslo, "2026-10-24T12:00:00Z", 2), ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let many = cron("0-59 2 * * *", "Europe/Oslo");
    assert_eq!(slots(&many, "2026-10-25T00:58:00Z", 2), ["2026-10-25T00:59:00Z", "2026-10-26T01:00:00Z"]);
}

#[test]
fn wildcard_expressions_follow_elapsed_time_over_dst_changes() {
    let quarter = cron("*/30 * * * *", "Europe/Oslo");
    assert_eq!(
        slots(&quarter, "2026-10-25T00:00:00Z", 4),
        ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]
    );
    assert_eq!(
        slots(&quarter, "2026-03-29T00:30:00Z", 3),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]
    );
}

#[test]
fn missed_slots_collapse_to_the_latest() {
    let hourly = cron("0 * * * *", "UTC");
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-02-01T00:20:00Z"));
    assert_eq!(hourly.next_after(Some(last), now, "uid", 0), at("2026-02-01T00:00:00Z"));
    assert_eq!(
        hourly.due(Some(last), last, now, "uid", 0, HOUR),
        Due::Start { slot: at("2026-02-01T00:00:00Z"), missed: true }
    );
    let slot = at("2026-02-01T00:00:00Z");
    assert_eq!(
        hourly.due(Some(slot), last, now, "uid", 0, HOUR),
        Due::Wait { slot: at("2026-02-01T01:00:00Z"), until: at("2026-02-01T01:00:00Z") },
        "after the slot was handled the next one is awaited"
    );
}

#[test]
fn a_slot_older_than_the_starting_deadline_is_missed() {
    let daily = cron("0 6 * * *", "UTC");
    let last = at("2026-01-01T06:00:00Z");
    let due = |now: &str| daily.due(Some(last), last, at(now), "uid", 0, HOUR);
    let slot = at("2026-01-02T06:00:00Z");
    assert_eq!(due("2026-01-02T05:59:59Z"), Due::Wait { slot, until: slot });
    assert_eq!(due("2026-01-02T06:00:00Z"), Due::Start { slot, missed: false });
    assert_eq!(due("2026-01-02T07:00:00Z"), Due::Start { slot, missed: false }, "the boundary still starts");
    assert_eq!(due("2026-01-02T07:00:01Z"), Due::Missed { slot });
}

#[test]
fn nothing_is_due_before_the_object_was_created() {
    let daily = cron("0 6 * * *", "UTC");
    let created = at("2026-01-02T06:00:00Z");
    let next = at("2026-01-03T06:00:00Z");
    assert_eq!(daily.due(None, created, created, "uid", 0, HOUR), Due::Wait { slot: next, until: next });
    assert_eq!(daily.next_after(None, created, "uid", 0), next);
}

#[test]
fn an_interval_is_due_at_once_and_then_after_the_last_start() {
    let five = Schedule::interval(5 * MINUTE).unwrap();
    let created = at("2026-01-01T00:00:00Z");
    assert_eq!(five.due(None, created, created, "uid", 10, HOUR), Due::Start { slot: created, missed: false });
    assert_eq!(five.next_after(None, created, "uid", 10), created);
    let slot = at("2026-01-01T00:05:00Z");
    let until = five.next_after(Some(created), created, "uid", 10);
    assert!(until >= slot && until < slot + SignedDuration::from_secs(30), "{until}");
    assert_eq!(
        five.due(Some(created), created, slot - SignedDuration::from_secs(1), "uid", 10, HOUR),
        Due::Wait { slot, until }
    );
    assert_eq!(
        five.due(Some(created), created, at("2026-01-09T00:02:00Z"), "uid", 10, HOUR),
        Due::Start { slot: at("2026-01-09T00:00:00Z"), missed: true },
        "after a week without a run it runs once, immediately"
    );
    assert_eq!(five.gap(created), 5 * MINUTE);
}

#[test]
fn an_interval_that_never_ran_catches_up_once() {
    let five = Schedule::interval(5 * MINUTE).unwrap();
    let (created, now) = (at("2026-01-01T00:00:30Z"), at("2026-01-08T00:00:00Z"));
    let slot = at("2026-01-07T23:55:30Z");
    assert_eq!(five.due(None, created, now, "uid", 0, HOUR), Due::Start { slot, missed: true });
    let next = at("2026-01-08T00:00:30Z");
    assert_eq!(five.due(Some(slot), created, now, "uid", 0, HOUR), Due::Wait { slot: next, until: next });
}

#[test]
fn late_evaluation_never_delays_a_slot_to_the_next_ones_jitter() {
    // A jitter of up to the whole gap: when it ends, the next slot has almost come.
    let minutely = cron("* * * * *", "UTC");
    let uid = (0..10_000).map(|n| n.to_string()).find(|uid| jitter(MINUTE, 100, uid) > 55 * MINUTE / 60).unwrap();
    let (last, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:02:10Z"));
    let due = minutely.due(Some(last), last, now, &uid, 100, HOUR);
    assert_eq!(due, Due::Start { slot: at("2026-01-01T00:02:00Z"), missed: true });
}

#[test]
fn the_gap_of_a_cron_schedule_is_between_its_next_two_slots() {
    assert_eq!(cron("0 6 * * *", "UTC").gap(at("2026-01-01T00:00:00Z")), 24 * HOUR);
    assert_eq!(cron("0 6 * * 1-5", "UTC").gap(at("2026-01-09T00:00:00Z")), 72 * HOUR, "over the weekend");
}

#[test]
fn jitter_only_delays_and_is_stable_per_object() {
    assert_eq!(jitter(HOUR, 0, "uid"), Duration::ZERO);
    assert_eq!(jitter(HOUR, 10, "uid"), jitter(HOUR, 10, "uid"));
    assert_ne!(jitter(HOUR, 10, "uid"), jitter(HOUR, 10, "another"));
    assert!((0..1000).all(|n| jitter(24 * HOUR, 10, &n.to_string()) < MAX_JITTER));
    assert!(jitter(Duration::MAX, 100, "uid") < MAX_JITTER);
    let daily = cron("0 6 * * *", "UTC");
    let start = daily.next_after(Some(at("2026-01-01T06:00:00Z")), at("2026-01-01T06:00:00Z"), "uid", 10);
    let late = start.duration_since(at("2026-01-02T06:00:00Z"));
    assert!(!late.is_negative() && late < SignedDuration::try_from(MAX_JITTER).unwrap(), "{late}");
}

/// Expressions that cover every relevant combination.
fn line() -> impl Strategy<Value = String> {
    let minute = prop::sample::select(vec!["*", "0", "30", "*/7", "0-59", "5,35"]);
    let hour = prop::sample::select(vec!["*", "2", "0,12", "*/5", "1-3"]);
    let day = prop::sample::select(vec!["*", "1", "28-31", "*/2", "L"]);
    let week = prop::sample::select(vec!["*", "0", "1-5"]);
    (minute, hour, day, week).prop_map(|(m, h, d, w)| format!("{m} {h} {d} * {w}"))
}

fn zone() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["UTC", "Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
}

/// Regression: in a repeated half hour, rounding down to the hour steps back before it.
#[test]
fn a_repeated_half_hour_does_not_loop() {
    let before: Timestamp = "2026-04-04T14:00:00Z".parse().unwrap();
    for (line, first) in [
        ("0 2 * * *", "2026-04-04T15:30:00Z"),
        ("*/15 2 * * *", "2026-04-04T15:30:00Z"),
        ("45 1 * * *", "2026-04-04T14:45:00Z"),
    ] {
        let Schedule::Cron(cron) = cron(line, "Australia/Lord_Howe") else { unreachable!() };
        assert_eq!(cron.next(before).unwrap().to_string(), first, "{line}");
    }
    let Schedule::Cron(wild) = cron("45 * * * *", "Australia/Lord_Howe") else { unreachable!() };
    let mut slots = Vec::new();
    let mut at = before;
    for _ in 0..3 {
        at = wild.next(at).unwrap();
        slots.push(at.to_string());
    }
    assert_eq!(slots, ["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-04T16:15:00Z"], "both passes of 01:45");
}

/// Any schedule: an interval from ten seconds to a month, or a cron expression.
fn schedule() -> impl Strategy<Value = Schedule> {
    prop_oneof![
        (10u64..2_592_000).prop_map(|seconds| Schedule::interval(Duration::from_secs(seconds)).unwrap()),
        (line(), zone()).prop_filter_map("a date that exists", |(line, zone)| Schedule::cron(&line, Some(zone)).ok()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever kept the job silent, and for how long: at most one run starts, and its slot leaves nothing due.
    #[test]
    fn after_any_silence_at_most_one_run_starts(
        schedule in schedule(), ran in any::<bool>(), from in 1_760_000_000i64..1_800_000_000,
        silence in prop_oneof![0i64..100, 0i64..100_000, 0i64..40_000_000], percent in 0u8..=100, uid in "[a-z]{4}",
        deadline in 0u64..100_000,
    ) {
        let from = Timestamp::from_second(from).unwrap();
        let (now, deadline) = (from + SignedDuration::from_secs(silence), Duration::from_secs(deadline));
        let mut last = ran.then_some(from);
        let mut starts = 0;
        // As long as something is due, it is done at once.
        for _ in 0..5 {
            match schedule.due(last, from, now, &uid, percent, deadline) {
                Due::Wait { slot, until } => {
                    prop_assert!(until > now && until >= slot);
                    break;
                }
                Due::Start { slot, .. } => {
                    starts += 1;
                    prop_assert!(slot <= now && last.is_none_or(|last| slot > last));
                    last = Some(slot);
                }
                Due::Missed { slot } => last = Some(slot),
            }
        }
        prop_assert!(starts <= 1, "{starts} runs back to back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn latest_agrees_with_a_linear_search(
        line in line(), zone in zone(), from in 1_760_000_000i64..1_800_000_000, hours in 0i64..200,
    ) {
        let Ok(Schedule::Cron(cron)) = Schedule::cron(&line, Some(zone)) else { return Ok(()) };
        let (from, now) = (Timestamp::from_second(from).unwrap(), Timestamp::from_second(from + hours * 3600).unwrap());
        let mut walked = None;
        let mut slot = cron.next(from).unwrap();
        while slot <= now {
            walked = Some(slot);
            let next = cron.next(slot).unwrap();
            prop_assert!(next > slot, "slots ascend");
            slot = next;
        }
        prop_assert_eq!(cron.latest(from, now), walked);
    }

    #[test]
    fn a_daily_expression_runs_once_per_civil_day(
        zone in zone(), minute in 0u8..60, hour in 0u8..24, from in 1_760_000_000i64..1_800_000_000,
    ) {
        let daily = cron(&format!("{minute} {hour} * * *"), zone);
        let mut last = Timestamp::from_second(from).unwrap();
        for _ in 0..10 {
            let next = daily.next_after(Some(last), last, "uid", 0);
            if last.as_second() != from {
                let gap = next.duration_since(last).as_secs();
                prop_assert!((22 * 3600..=26 * 3600).contains(&gap), "{} then {}", last, next);
            }
            last = next;
        }
    }
}
