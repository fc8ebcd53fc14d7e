//! What is a date, and what a number, among the digits of a text. Pure.

use jiff::civil::Date;

use crate::domain::unicode_digit::digit_value;

/// Minimum digits of a possible account number: the shortest in use have eight.
pub(super) const MIN_ACCOUNT_DIGITS: usize = 8;
/// Maximum separators between two digits of one number.
pub(super) const MAX_SEPARATORS: usize = 3;
/// Years of dates in bank data; eight digits of any other year are a number.
pub(super) const YEARS: std::ops::RangeInclusive<i16> = 1900..=2100;

/// Whether eight digits are a day of a plausible year, such as `20260901`, rather than a number.
pub fn is_compact_date(text: &str) -> bool {
    let chars: Vec<char> = text.chars().take(9).collect();
    let part = |at: usize, len: usize| number_at(&chars, at, len);
    chars.len() == 8 && is_date(part(0, 4), part(4, 2), part(6, 2))
}

pub(super) fn is_date(year: Option<i16>, month: Option<i16>, day: Option<i16>) -> bool {
    let small = |part: Option<i16>| part.and_then(|part| i8::try_from(part).ok());
    match (year.filter(|year| YEARS.contains(year)), small(month), small(day)) {
        (Some(year), Some(month), Some(day)) => Date::new(year, month, day).is_ok(),
        _ => false,
    }
}

/// A digit of any script, including full-width, superscript and circled ones.
pub(super) fn is_digit(c: char) -> bool {
    c.is_numeric() || digit_value(c).is_some()
}

/// A character that groups the digits of one number: a space of any width, a dash of any kind, or an invisible one.
/// A character that was not valid counts too: it may have been a no-break space in Latin-1.
pub(super) fn is_separator(c: char) -> bool {
    c.is_whitespace() || c.is_control() || is_dash(c) || is_invisible(c) || c == char::REPLACEMENT_CHARACTER
}

pub(super) const fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}')
}

/// Soft hyphens, zero-width characters, marks of direction and blank letters; and marks on digits, such as those that make
/// a digit a key of a keypad.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{2800}' | '\u{3164}')
        || matches!(c, '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// Whether a date with dashes starts at `at`, and no further group follows it.
pub(super) fn is_dashed_date(chars: &[char], at: usize) -> bool {
    dashed_date_at(chars, at).is_some() && dates_at(chars, at).is_some()
}

/// Whether the digits at `at` follow a dash that follows digits: then they are a part of one number with them.
pub(super) fn continues_a_number(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|index| chars.get(index));
    before(1).is_some_and(|c| is_dash(*c)) && before(2).is_some_and(|c| is_digit(*c))
}

/// The end of the dates that start at `from`, if there is one: a date with or
/// without dashes, with a time of day, or two dates with a dash between.
pub(super) fn dates_at(chars: &[char], from: usize) -> Option<usize> {
    let one = |at: usize| dashed_date_at(chars, at).or_else(|| compact_date_at(chars, at));
    let day = one(from)?;
    let end = time_at(chars, day);
    if end > day {
        return Some(end);
    }
    match (chars.get(end), chars.get(end + 1)) {
        (Some(dash), Some(c)) if is_dash(*dash) && is_digit(*c) && !is_clock_at(chars, end + 1) => {
            one(end + 1).filter(|end| !chars.get(*end).is_some_and(|c| is_dash(*c)))
        }
        _ => Some(end),
    }
}

/// The number that `len` decimal digits at `at` make, of any script; `None` if they are not decimal digits.
pub(super) fn number_at(chars: &[char], at: usize, len: usize) -> Option<i16> {
    let add = |number: i16, c: &char| number.checked_mul(10)?.checked_add(digit_value(*c)?.into());
    chars.get(at..at + len)?.iter().try_fold(0, add)
}

/// The end of the date that starts at `from`, if there is one: `2026-09-01` or `01-09-2026`, with the same dash twice and
/// no digits after it.
fn dashed_date_at(chars: &[char], from: usize) -> Option<usize> {
    let number = |at: usize, len: usize| number_at(chars, at, len);
    let same_dash = |first: usize, second: usize| {
        let dash = chars.get(first).filter(|c| is_dash(**c))?;
        (chars.get(second) == Some(dash)).then_some(())
    };
    let end = from + 10;
    if chars.get(end).is_some_and(|c| is_digit(*c)) {
        return None;
    }
    let year_first = || {
        same_dash(from + 4, from + 7)?;
        is_date(number(from, 4), number(from + 5, 2), number(from + 8, 2)).then_some(end)
    };
    let year_last = || {
        same_dash(from + 2, from + 5)?;
        let (first, second, year) = (number(from, 2), number(from + 3, 2), number(from + 6, 4));
        (is_date(year, second, first) || is_date(year, first, second)).then_some(end)
    };
    year_first().or_else(year_last)
}

/// The end of the date without dashes that starts at `from`, if there is one: `20260901` or `20260901103000`. Nothing that
/// could be a further group of one number follows: groups of an account number can look like a date.
fn compact_date_at(chars: &[char], from: usize) -> Option<usize> {
    let digits = chars.iter().skip(from).take(15).take_while(|c| is_digit(**c)).count();
    let number = |at: usize, len: usize| number_at(chars, from + at, len);
    let is_time = |at: usize| {
        let below = |at: usize, limit: i16| number(at, 2).is_some_and(|part| part < limit);
        below(at, 24) && below(at + 2, 60) && below(at + 4, 60)
    };
    let end = match digits {
        8 => from + 8,
        14 if is_time(8) => from + 14,
        _ => return None,
    };
    if !is_date(number(0, 4), number(4, 2), number(6, 2)) {
        return None;
    }
    let separators = chars.iter().skip(end).take(MAX_SEPARATORS).take_while(|c| is_separator(**c)).count();
    let is_grouped = separators > 0 && chars.get(end + separators).is_some_and(|c| is_digit(*c));
    let is_range = separators == 1 && chars.get(end).is_some_and(|c| is_dash(*c));
    let is_timed = separators == 1 && is_clock_at(chars, end + 1);
    (!is_grouped || is_timed || (is_range && dashed_or_compact(chars, end + 1))).then_some(end)
}

/// Whether a time of day such as `10:15` starts at `at`: no number of an account has a colon.
fn is_clock_at(chars: &[char], at: usize) -> bool {
    let below = |at: usize, limit: i16| number_at(chars, at, 2).is_some_and(|part| part < limit);
    below(at, 24) && chars.get(at + 2) == Some(&':') && below(at + 3, 60)
}

/// Whether a date starts at `from`.
fn dashed_or_compact(chars: &[char], from: usize) -> bool {
    dashed_date_at(chars, from).is_some() || compact_date_at(chars, from).is_some()
}

/// The end of the time of day with a fraction that starts at `from`, after `T` or a space, or `from`: the digits of
/// nanoseconds are not an account number.
fn time_at(chars: &[char], from: usize) -> usize {
    let is_part = |at: usize| number_at(chars, at, 2).is_some();
    let is_clock = matches!(chars.get(from), Some('T' | 't' | ' '))
        && is_part(from + 1)
        && chars.get(from + 3) == Some(&':')
        && is_part(from + 4)
        && chars.get(from + 6) == Some(&':')
        && is_part(from + 7);
    if !is_clock || !matches!(chars.get(from + 9), Some('.' | ',')) {
        return from;
    }
    let digits = chars.iter().skip(from + 10).take_while(|c| digit_value(**c).is_some()).count();
    if (1..=9).contains(&digits) { from + 10 + digits } else { from }
}
