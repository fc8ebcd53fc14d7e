//! Masking rules: account numbers and configured fields are reduced before a record leaves memory. Pure.
//!
//! An account number is reduced to its last four characters. Free text is kept, but digit runs as long as an account
//! number are reduced to their last four digits, because narrations often contain account numbers: in digits of any
//! script, and however they are grouped. Kept are dates, with or without separators, and amounts, versions, paths and
//! addresses that have dots or slashes; seconds since 1970 are not told from an account number, and are masked. The
//! names of e-mail addresses are masked too.

use std::collections::BTreeMap;

mod dates;
mod emails;
mod grouped;
#[cfg(test)]
mod grouped_tests;
mod token;

pub use self::dates::is_compact_date;
use self::dates::{
    MAX_SEPARATORS, MIN_ACCOUNT_DIGITS, continues_a_number, dates_at, is_dash, is_dashed_date, is_digit, is_separator,
};
use self::emails::mask_emails;
use self::grouped::{Grouped, grouped_at};
pub use self::token::MaskKey;

/// Maximum length of a text in characters; longer ones are truncated, no statement line is longer.
const MAX_TEXT_CHARS: usize = 1024;

/// How a field is masked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The field is removed.
    Drop,
    /// Only the last four characters are kept.
    Last4,
    /// The value is replaced by a keyed token: equal values stay equal, and can be joined.
    Token,
}

/// Masking rules by canonical field: `account`, `narration`, `counterparty`, `category`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskRules {
    /// Rules by field name.
    pub fields: BTreeMap<String, Mask>,
    /// The key of tokens. A field with rule [`Mask::Token`] is removed without one.
    pub key: Option<MaskKey>,
}

impl MaskRules {
    /// The same rules with the key of tokens.
    #[must_use]
    pub fn with_key(self, key: MaskKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The token of a value.
    pub fn token(&self, value: &str) -> Option<String> {
        self.key.as_ref().and_then(|key| key.token(value))
    }

    /// The masked form of an account number; never the whole number.
    pub fn account(&self, number: &str) -> String {
        match self.fields.get("account") {
            Some(Mask::Drop) => "****".to_owned(),
            Some(Mask::Token) => self.token(number).unwrap_or_else(|| "****".to_owned()),
            Some(Mask::Last4) | None => last4(number),
        }
    }

    /// The masked text of `field`; `None` if nothing is left.
    pub fn text(&self, field: &str, text: &str) -> Option<String> {
        let clean: String = text.chars().filter(|c| !c.is_control()).collect();
        let cut: String = clean.chars().take(MAX_TEXT_CHARS).collect();
        let cut = cut.trim();
        if cut.is_empty() {
            return None;
        }
        match self.fields.get(field) {
            Some(Mask::Drop) => None,
            Some(Mask::Last4) => Some(last4(cut)),
            Some(Mask::Token) => self.token(&clean),
            // Not of the truncated text: what is left of a number at its end could be too short to be recognized.
            None => Some(mask_first(&mask_emails(&clean), MAX_TEXT_CHARS).trim().to_owned()),
        }
    }
}

/// The first `most` characters of a text that needs no mask, without control characters; `None` if nothing is left.
pub fn plain_text(text: &str, most: usize) -> Option<String> {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(most).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

/// `****` and the last four characters; only `****` for a text too short to mask.
pub fn last4(text: &str) -> String {
    let count = text.chars().count();
    if count < MIN_ACCOUNT_DIGITS {
        return "****".to_owned();
    }
    let tail: String = text.chars().skip(count - 4).collect();
    format!("****{tail}")
}

/// The text with every long number reduced to its last four digits; dates such as `2026-09-01` and `20260901` are kept.
pub fn mask_numbers(text: &str) -> String {
    mask_first(text, usize::MAX)
}

/// The first `most` characters of the text, masked; a number that begins in them is not cut.
fn mask_first(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while let Some(&c) = chars.get(i).filter(|_| i < most) {
        if !is_digit(c) {
            out.push(c);
            i += 1;
            continue;
        }
        let date = if continues_a_number(&chars, i) { None } else { dates_at(&chars, i) };
        let grouped = if date.is_some() { None } else { grouped_at(&chars, i) };
        let (next, is_plain) = match (date, grouped) {
            (Some(end), _) | (None, Some(Grouped::Plain(end))) => (end, true),
            (None, Some(Grouped::Number(end))) => (end, false),
            (None, None) => (end_of_number(&chars, i), false),
        };
        let number = || chars.iter().take(next).skip(i);
        let digits: Vec<char> = number().copied().filter(|c| is_digit(*c)).collect();
        if !is_plain && digits.len() >= MIN_ACCOUNT_DIGITS {
            out.push_str("****");
            out.extend(digits.iter().skip(digits.len() - 4));
        } else {
            out.extend(number());
        }
        i = next;
    }
    out
}

/// The end of the number that starts at `from`. A date after a space is not part of it.
fn end_of_number(chars: &[char], from: usize) -> usize {
    let mut end = from;
    loop {
        while chars.get(end).is_some_and(|c| is_digit(*c)) {
            end += 1;
        }
        let separators = chars.iter().skip(end).take(MAX_SEPARATORS + 1).take_while(|c| is_separator(**c)).count();
        let next = end + separators;
        let continues = (1..=MAX_SEPARATORS).contains(&separators) && chars.get(next).is_some_and(|c| is_digit(*c));
        let after_dash = chars.get(next.saturating_sub(1)).is_some_and(|c| is_dash(*c));
        if !continues || (!after_dash && is_dashed_date(chars, next)) {
            return end;
        }
        end = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Option<String> {
        MaskRules::default().text("narration", text)
    }

    #[test]
    fn account_numbers_in_text_are_masked_to_four_digits() {
        for (raw, masked) in [
            ("TRF TO 0131883461 ADA", "TRF TO ****3461 ADA"),
            ("card 4000-0000-0000-0002.", "card ****0002."),
            ("GB29 NWBK 6016 1331 9268 19", "GB29 NWBK ****6819"),
            (
                "TRF TO \u{ff10}\u{ff11}\u{ff13}\u{ff11}\u{ff18}\u{ff18}\u{ff13}\u{ff14}",
                "TRF TO ****\u{ff18}\u{ff18}\u{ff13}\u{ff14}",
            ),
            ("\u{0660}\u{0661}\u{0663}\u{0661}88346\u{2460}", "****346\u{2460}"),
            ("0131\u{a0}883\u{202f}461", "****3461"),
            ("0131\u{2013}883\u{2011}461", "****3461"),
            ("0131 - 883   461", "****3461"),
            ("0131\u{200b}88\u{ad}3461", "****3461"),
            ("0131\u{0}883461", "****3461"),
            ("60-16-13 31926819", "****6819"),
            ("12-11-2026-55 x", "****2655 x"),
            ("12345678", "****5678"),
            ("invoice 2026-114", "invoice 2026-114"),
            ("paid 12.50", "paid 12.50"),
            ("two    1234    5678", "two    1234    5678"),
            ("a\u{0}b\n", "ab"),
        ] {
            assert_eq!(text(raw).as_deref(), Some(masked));
        }
        assert_eq!(text(" \n"), None);
    }

    #[test]
    fn a_number_at_the_end_of_a_truncated_text_is_masked() {
        for digits_before_the_end in [1, 5, 7, 8, 9] {
            let before = "x".repeat(MAX_TEXT_CHARS - digits_before_the_end);
            assert_eq!(text(&format!("{before}0131883461 y")), Some(format!("{before}****3461")));
        }
        let long = "x".repeat(MAX_TEXT_CHARS);
        assert_eq!(text(&format!("{long}0131883461")), Some(long));
    }

    #[test]
    fn digits_with_marks_are_digits_of_one_number() {
        for mark in ["\u{fe0f}\u{20e3}", "\u{336}", "\u{2800}"] {
            let number: String = "0131883461".chars().flat_map(|c| [c.to_string(), mark.to_owned()]).collect();
            assert_eq!(text(&number), Some(format!("****3461{mark}")), "{mark:?}");
        }
    }

    #[test]
    fn dates_in_text_are_not_masked() {
        for kept in [
            "rent 2026-09-01",
            "2026-09-01T10:00:00Z",
            "2026-09-01 10:00:00",
            "from 2026-08-01 to 2026-09-01",
            "2026-08-01 2026-09-01",
            "1234 2026-09-01",
            "01-09-2026, 13-09-2026, 09-13-2026",
            "2026\u{2011}09\u{2011}01",
            "01/09/2026",
            "01.09.2026",
            "\u{ff12}\u{ff10}\u{ff12}\u{ff16}\u{ff0d}\u{ff10}\u{ff19}\u{ff0d}\u{ff10}\u{ff11}",
            "\u{ff12}\u{ff10}\u{ff12}\u{ff16}\u{ff10}\u{ff19}\u{ff10}\u{ff11}",
            "\u{662}\u{660}\u{662}\u{666}-\u{660}\u{669}-\u{660}\u{661}",
            "20261129",
            "paid 20261129, value 2026-11-29",
            "20261129T101500Z",
            "20261129101500",
            "20261129 10:15:00",
            "20261129-10:15:00.123",
            "2026-11-29-10:15",
            "20261129 10:15:00.123456789",
            "INV-2026-11-29",
            "2026-11-01-2026-11-30",
            "20261101-20261130",
            "2026-11-29T10:15:00.123456789+01:00",
            "2026-11-29 10:15:00.123456789",
        ] {
            assert_eq!(text(kept).as_deref(), Some(kept));
        }
        for (raw, masked) in [
            ("2026-09-01 0131883461", "2026-09-01 ****3461"),
            ("0131883461 2026-09-01", "****3461 2026-09-01"),
            ("2026-13-01", "****1301"),
            (
                "\u{ff12}\u{ff10}\u{ff12}\u{ff16}\u{ff11}\u{ff13}\u{ff10}\u{ff11}",
                "****\u{ff11}\u{ff13}\u{ff10}\u{ff11}",
            ),
            ("\u{1d7ce}\u{1d7cf}31883461", "****3461"),
            ("\u{9e6}\u{9e7}\u{9e9}\u{9e7}\u{9ee}\u{9ee}\u{9e9}\u{9ea}", "****\u{9ee}\u{9ee}\u{9e9}\u{9ea}"),
            ("1234-05-06", "****0506"),
            ("4000-2026-09-01", "****0901"),
            ("20261301", "****1301"),
            ("20261129 12345678", "****5678"),
            ("20261129 10 15 00", "****1500"),
            ("20261129-34:15", "****2934:15"),
            ("0131883461 20261129", "****1129"),
            ("20261129-4455", "****4455"),
            ("2026112910", "****2910"),
            ("20261129256000", "****6000"),
            ("1796000000", "****0000"),
            ("2026-11-29-2026-13-30", "****1330"),
            ("2026-11-29T10:15:00.0131883461", "2026-11-29T10:15:00.****3461"),
        ] {
            assert_eq!(text(raw).as_deref(), Some(masked));
        }
        assert!(is_compact_date("20260901") && !is_compact_date("20261301") && !is_compact_date("12340901"));
    }

    #[test]
    fn a_field_can_be_dropped_or_masked_to_last4() {
        let rules = MaskRules {
            fields: [("narration".to_owned(), Mask::Drop), ("counterparty".to_owned(), Mask::Last4)].into(),
            ..MaskRules::default()
        };
        assert_eq!(rules.text("narration", "rent"), None);
        assert_eq!(rules.text("counterparty", "NG0131883461").as_deref(), Some("****3461"));
        assert_eq!(rules.text("counterparty", "Ada").as_deref(), Some("****"));
        assert_eq!(rules.account("0131883461"), "****3461");
    }

    proptest! {
        #[test]
        fn a_number_is_masked_in_any_script_and_grouping(
            digits in proptest::collection::vec((0..10u32, 0..4usize), 8..30),
            separators in proptest::collection::vec(0..6usize, 30),
        ) {
            let mut number = String::from("x");
            for (index, (digit, script)) in digits.iter().enumerate() {
                let zero = ['0', '\u{ff10}', '\u{660}', '\u{966}'][*script];
                number.push(char::from_u32(u32::from(zero) + digit).unwrap());
                // Grouped, but not as a date.
                let between = ["", " ", "-", "\u{a0}", " - ", "\u{2009}"][separators[index]];
                number.push_str(if index % 3 == 1 { between } else { "" });
            }
            let masked = text(&number).unwrap();
            let shown = masked.trim_end_matches(['-', ' ', '\u{a0}', '\u{2009}']);
            prop_assert_eq!(shown.chars().count(), "x****1234".len(), "{}", masked);
        }

        #[test]
        fn long_numbers_are_always_masked(prefix in "[a-z ]{0,10}", number in "[0-9]{8,30}", suffix in "[a-z ]{0,10}") {
            prop_assume!(!(is_compact_date(&number) || number.len() == 14 && is_compact_date(&number[..8])));
            let masked = text(&format!("{prefix}{number}{suffix}")).unwrap();
            prop_assert!(!masked.contains(&number));
            let longest = masked.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap();
            prop_assert!(longest < MIN_ACCOUNT_DIGITS, "{}", masked);
        }
    }
}
