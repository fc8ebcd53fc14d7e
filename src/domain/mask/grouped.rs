//! Numbers whose groups are separated by dots, slashes or underscores, and what only looks like one: dates, amounts,
//! versions, paths and addresses. Pure.

use super::dates::{
    MAX_SEPARATORS, MIN_ACCOUNT_DIGITS, YEARS, is_compact_date, is_dash, is_dashed_date, is_date, is_digit,
    is_separator, number_at,
};
use crate::domain::unicode_digit::digit_value;

/// How far before digits the start of a path is looked for.
const MAX_PATH_CHARS: usize = 256;
/// Words before a version.
const VERSION_WORDS: [&str; 4] = ["version", "release", "build", "v"];

/// What starts at a digit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Grouped {
    /// An account number up to this index.
    Number(usize),
    /// No account number up to this index.
    Plain(usize),
}

/// Digits joined by single marks.
struct Atom {
    /// Start and length of each group.
    groups: Vec<(usize, usize)>,
    /// The mark after each group but the last: `.`, `/` or `_`.
    marks: Vec<char>,
    end: usize,
    digits: usize,
}

/// The mark that a character stands for: full-width forms are the plain ones.
const fn mark(c: char) -> Option<char> {
    match c {
        '.' | '\u{ff0e}' => Some('.'),
        '/' | '\u{ff0f}' | '\u{2044}' | '\u{2215}' => Some('/'),
        '_' | '\u{ff3f}' | '\u{b7}' | '\u{2022}' => Some('_'),
        _ => None,
    }
}

/// What starts at the digit `from`, if its groups, or those that follow, have marks between them.
pub(super) fn grouped_at(chars: &[char], from: usize) -> Option<Grouped> {
    let before = |back: usize| from.checked_sub(back).and_then(|index| chars.get(index)).copied();
    // In the middle of groups, or in a time of day.
    if before(1).is_some_and(|c| c == ':' || (mark(c).is_some() && before(2).is_some_and(is_digit))) {
        return None;
    }
    let first = atom_at(chars, from);
    if first.groups.len() > 1 && is_plain(chars, &first) {
        return (first.is_short(chars) && (is_dates(chars, &first) || has_marks_after(chars, first.end)))
            .then_some(Grouped::Plain(first.end));
    }
    let (mut end, mut digits, mut has_marks) = (first.end, first.digits, first.groups.len() > 1);
    let mut stopped = false;
    while let Some(start) = next_group(chars, end) {
        let next = atom_at(chars, start);
        if next.groups.len() > 1 && is_plain(chars, &next) {
            stopped = true;
            break;
        }
        (end, digits, has_marks) = (next.end, digits + next.digits, has_marks || next.groups.len() > 1);
    }
    let is_number = digits >= MIN_ACCOUNT_DIGITS;
    if is_number && (has_marks || stopped) {
        return Some(Grouped::Number(end));
    }
    (stopped && !is_number).then_some(Grouped::Plain(end))
}

/// The start of the group that blanks or dashes join to the digits before `end`.
fn next_group(chars: &[char], end: usize) -> Option<usize> {
    let separators = chars.iter().skip(end).take(MAX_SEPARATORS + 1).take_while(|c| is_separator(**c)).count();
    let next = end + separators;
    let after_dash = chars.get(next.checked_sub(1)?).is_some_and(|c| is_dash(*c));
    ((1..=MAX_SEPARATORS).contains(&separators)
        && chars.get(next).is_some_and(|c| is_digit(*c))
        && (after_dash || !is_dashed_date(chars, next)))
    .then_some(next)
}

/// Whether groups with marks follow the digits before `end`.
fn has_marks_after(chars: &[char], end: usize) -> bool {
    next_group(chars, end).is_some_and(|start| atom_at(chars, start).groups.len() > 1)
}

fn atom_at(chars: &[char], from: usize) -> Atom {
    let mut atom = Atom { groups: Vec::new(), marks: Vec::new(), end: from, digits: 0 };
    loop {
        let start = atom.end;
        let len = chars.iter().skip(start).take_while(|c| is_digit(**c)).count();
        atom.groups.push((start, len));
        (atom.end, atom.digits) = (start + len, atom.digits + len);
        match chars.get(atom.end).copied().and_then(mark) {
            Some(mark) if chars.get(atom.end + 1).is_some_and(|c| is_digit(*c)) => atom.marks.push(mark),
            _ => return atom,
        }
        atom.end += 1;
    }
}

impl Atom {
    /// Whether no group is an account number by itself.
    fn is_short(&self, chars: &[char]) -> bool {
        self.groups.iter().all(|group| group.1 < MIN_ACCOUNT_DIGITS || is_day(chars, *group))
    }
}

fn is_plain(chars: &[char], atom: &Atom) -> bool {
    is_dates(chars, atom)
        || is_amount(chars, atom)
        || is_address(chars, atom)
        || is_version(chars, atom)
        || is_in_path(chars, atom)
}

fn value(chars: &[char], group: (usize, usize)) -> Option<i16> {
    number_at(chars, group.0, group.1)
}

fn has_leading_zero(chars: &[char], (start, len): (usize, usize)) -> bool {
    len > 1 && chars.get(start).and_then(|c| digit_value(*c)) == Some(0)
}

/// Whether a group is a date without separators.
fn is_day(chars: &[char], (start, len): (usize, usize)) -> bool {
    len == 8 && chars.get(start..start + len).is_some_and(|day| is_compact_date(&day.iter().collect::<String>()))
}

/// Whether an atom is dates only, with a time of day after them or without, or two years.
fn is_dates(chars: &[char], atom: &Atom) -> bool {
    let number = |index: usize| atom.groups.get(index).and_then(|group| value(chars, *group));
    let length = |index: usize| atom.groups.get(index).map_or(0, |group| group.1);
    let is_year = |index: usize| length(index) == 4 && number(index).is_some_and(|year| YEARS.contains(&year));
    if atom.groups.len() == 2 && is_year(0) && is_year(1) {
        return true;
    }
    let triple = |at: usize| {
        let (a, b, c) = (number(at), number(at + 1), number(at + 2));
        let short = |index: usize| (1..=2).contains(&length(index));
        atom.marks.get(at).is_some_and(|mark| atom.marks.get(at + 1) == Some(mark))
            && ((is_year(at) && short(at + 1) && short(at + 2) && is_date(a, b, c))
                || (short(at) && short(at + 1) && is_year(at + 2) && (is_date(c, b, a) || is_date(c, a, b))))
    };
    let mut at = 0;
    while at < atom.groups.len() {
        match atom.groups.get(at) {
            _ if triple(at) => at += 3,
            Some(group) if is_day(chars, *group) => at += 1,
            _ => break,
        }
    }
    at > 0 && is_time(chars, atom.groups.get(at..).unwrap_or_default())
}

/// Whether groups are a time of day, or none: `10.15.00`, `101500`, `1015`.
fn is_time(chars: &[char], groups: &[(usize, usize)]) -> bool {
    let part = |at: usize| number_at(chars, at, 2);
    let parts: Vec<Option<i16>> = match groups {
        [(start, len @ (4 | 6))] => (0..len / 2).map(|index| part(start + 2 * index)).collect(),
        _ => groups.iter().map(|group| value(chars, *group).filter(|_| group.1 <= 2)).collect(),
    };
    let limits = [24, 60, 60];
    parts.len() <= limits.len() && parts.iter().zip(limits).all(|(part, limit)| part.is_some_and(|part| part < limit))
}

/// Whether an atom is a decimal number, or groups of three after dots. An amount has no leading zeros.
fn is_amount(chars: &[char], atom: &Atom) -> bool {
    let [first, rest @ ..] = atom.groups.as_slice() else { return false };
    if atom.marks.iter().any(|mark| *mark != '.') {
        return false;
    }
    let no_cents = |(start, len): &(usize, usize)| {
        chars.iter().skip(*start).take(*len).all(|c| digit_value(*c) == Some(0)) && *len <= 2
    };
    let in_thousands = first.1 <= 3 && rest.iter().all(|group| group.1 == 3);
    // An account number that went through a float is masked without its fraction.
    (first.1 >= MIN_ACCOUNT_DIGITS && rest.len() == 1 && rest.iter().all(no_cents))
        || (!has_leading_zero(chars, *first) && (rest.len() == 1 || in_thousands))
}

/// Whether an atom is an IPv4 address, or a network of them.
fn is_address(chars: &[char], atom: &Atom) -> bool {
    let is_part = |group: &(usize, usize)| {
        !has_leading_zero(chars, *group) && value(chars, *group).is_some_and(|part| part <= 255)
    };
    matches!(atom.marks.as_slice(), ['.', '.', '.'] | ['.', '.', '.', '/']) && atom.groups.iter().all(is_part)
}

/// Whether an atom is a version: after a word that says so, or with a part of one digit.
fn is_version(chars: &[char], atom: &Atom) -> bool {
    let Some((start, _)) = atom.groups.first().copied() else { return false };
    if atom.marks.iter().any(|mark| *mark != '.') || atom.groups.iter().any(|group| group.1 >= MIN_ACCOUNT_DIGITS) {
        return false;
    }
    let before = chars.iter().take(start).rev().skip_while(|c| **c == ' ');
    let word: String = before.take(9).take_while(|c| c.is_alphabetic()).collect();
    let word: String = word.chars().rev().flat_map(char::to_lowercase).collect();
    let is_named = VERSION_WORDS.contains(&word.as_str());
    let has_small_part = atom.groups.iter().any(|group| group.1 == 1);
    let leading_zero = || atom.groups.iter().any(|group| has_leading_zero(chars, *group));
    is_named || ((3..=5).contains(&atom.groups.len()) && has_small_part && !leading_zero())
}

/// Whether an atom is in a path or a URL: in a text without blanks that begins as one, or has `://`.
fn is_in_path(chars: &[char], atom: &Atom) -> bool {
    let Some((start, _)) = atom.groups.first().copied() else { return false };
    let before = chars.iter().take(start).rev().take(MAX_PATH_CHARS).take_while(|c| !c.is_whitespace());
    let mut token: Vec<char> = before.copied().collect();
    token.reverse();
    let token: String = token.into_iter().collect();
    ["/", "./", "../", "~/"].iter().any(|begin| token.starts_with(begin)) || token.contains("://")
}
