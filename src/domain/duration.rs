//! Parser of durations as written in specs: `30s`, `1h30m`, `1m500ms`.
//!
//! The format is fixed by the pattern `^([0-9]{1,5}(h|m|s|ms)){1,4}$` in at most 28 characters, so that the API
//! server's CEL, Go's `time.ParseDuration` and this parser agree on every value; no signs, fractions, days or weeks. A
//! duration is never reformatted: status and logs show the text of the spec.

use std::time::Duration;

/// Longest accepted text, in bytes.
const MAX_LENGTH: usize = 28;

/// Reason for which a text is not a duration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("must not be empty; write for example 30s or 1h30m")]
    Empty,
    /// More than 28 characters, or more than four parts.
    #[error("must have at most four parts and 28 characters, for example 1h30m")]
    TooLong,
    /// A part has no digits, more than five digits, or other characters before its unit.
    #[error("each part must be 1 to 5 digits and a unit, for example 30s or 1h30m")]
    Number,
    /// A part's unit is not one of `h`, `m`, `s`, `ms`.
    #[error("each part must end in h, m, s or ms, for example 30s or 1h30m")]
    Unit,
}

/// Parses a duration.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.len() > MAX_LENGTH {
        return Err(DurationError::TooLong);
    }
    let mut rest = text.as_bytes();
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        parts += 1;
        if parts > 4 {
            return Err(DurationError::TooLong);
        }
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=5).contains(&digits) {
            return Err(DurationError::Number);
        }
        let (number, tail) = rest.split_at(digits);
        let number = number.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0'));
        let (length, unit) = match tail {
            [b'm', b's', ..] => (2, Duration::from_millis(number)),
            [b'h', ..] => (1, Duration::from_secs(number * 3600)),
            [b'm', ..] => (1, Duration::from_secs(number * 60)),
            [b's', ..] => (1, Duration::from_secs(number)),
            _ => return Err(DurationError::Unit),
        };
        // Four parts of at most 99 999 h cannot overflow.
        total += unit;
        rest = &tail[length..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_durations_are_parsed() {
        for (text, millis) in [
            ("0s", 0),
            ("30s", 30_000),
            ("1500ms", 1_500),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("99999h", 99_999 * 3_600_000),
            ("1m500ms", 60_500),
            ("5s5s", 10_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn texts_outside_the_pattern_are_rejected() {
        use DurationError::{Empty, Number, TooLong, Unit};
        for (text, error) in [
            ("", Empty),
            ("30", Unit),
            ("s", Number),
            ("1.5s", Unit),
            ("-1s", Number),
            ("+1s", Number),
            ("1d", Unit),
            ("1S", Unit),
            ("100000s", Number),
            (" 1s", Number),
            ("1s ", Number),
            ("1h1m1s1ms1s", TooLong),
            ("1µs", Unit),
            ("99999ms99999ms99999ms99999ms9", TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_that_matches_the_pattern_is_parsed(text in "([0-9]{1,5}(h|m|s|ms)){1,4}") {
            prop_assert!(parse_duration(&text).is_ok());
        }

        #[test]
        fn parsing_never_panics(text in "[0-9hms. ]{0,30}") {
            let _ = parse_duration(&text);
        }
    }
}
