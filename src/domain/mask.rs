//! Masking rules: account numbers and configured fields are reduced before a record leaves memory. Pure.
//!
//! An account number is reduced to its last four characters. Free text is kept, but digit runs as long as an account
//! number are reduced to their last four digits, because narrations often contain account numbers.

use std::collections::BTreeMap;

/// Minimum digits of a possible account number: the shortest in use have eight.
const MIN_ACCOUNT_DIGITS: usize = 8;
/// Separators allowed between the digits of one number.
const SEPARATORS: [char; 2] = [' ', '-'];
/// Maximum length of a text in characters; longer ones are truncated, no statement line is longer.
const MAX_TEXT_CHARS: usize = 1024;

/// How a field is masked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The field is removed.
    Drop,
    /// Only the last four characters are kept.
    Last4,
}

/// Masking rules by canonical field: `account`, `narration`, `counterparty`, `category`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskRules {
    /// Rules by field name.
    pub fields: BTreeMap<String, Mask>,
}

impl MaskRules {
    /// The masked form of an account number; never the whole number.
    pub fn account(&self, number: &str) -> String {
        match self.fields.get("account") {
            Some(Mask::Drop) => "****".to_owned(),
            Some(Mask::Last4) | None => last4(number),
        }
    }

    /// The masked text of `field`; `None` if nothing is left.
    pub fn text(&self, field: &str, text: &str) -> Option<String> {
        let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARS).collect();
        let clean = clean.trim();
        if clean.is_empty() {
            return None;
        }
        match self.fields.get(field) {
            Some(Mask::Drop) => None,
            Some(Mask::Last4) => Some(last4(clean)),
            None => Some(mask_numbers(clean)),
        }
    }
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

/// The text with every long number reduced to its last four digits.
fn mask_numbers(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        if !c.is_ascii_digit() {
            out.push(c);
            i += 1;
            continue;
        }
        let (digits, next) = number_at(&chars, i);
        if digits.len() >= MIN_ACCOUNT_DIGITS {
            out.push_str("****");
            out.extend(digits.iter().skip(digits.len() - 4));
        } else {
            out.extend(chars.iter().take(next).skip(i));
        }
        i = next;
    }
    out
}

/// The digits of the number that starts at `from` (single separators allowed between them), and its end.
fn number_at(chars: &[char], from: usize) -> (Vec<char>, usize) {
    let mut digits = Vec::new();
    let mut i = from;
    loop {
        match (chars.get(i), chars.get(i + 1)) {
            (Some(d), _) if d.is_ascii_digit() => {
                digits.push(*d);
                i += 1;
            }
            (Some(separator), Some(d)) if SEPARATORS.contains(separator) && d.is_ascii_digit() => i += 1,
            _ => return (digits, i),
        }
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
            ("invoice 2026-114", "invoice 2026-114"),
            ("paid 12.50", "paid 12.50"),
            ("a\u{0}b\n", "ab"),
        ] {
            assert_eq!(text(raw).as_deref(), Some(masked));
        }
        assert_eq!(text(" \n"), None);
    }

    #[test]
    fn a_field_can_be_dropped_or_masked_to_last4() {
        let rules = MaskRules {
            fields: [("narration".to_owned(), Mask::Drop), ("counterparty".to_owned(), Mask::Last4)].into(),
        };
        assert_eq!(rules.text("narration", "rent"), None);
        assert_eq!(rules.text("counterparty", "NG0131883461").as_deref(), Some("****3461"));
        assert_eq!(rules.text("counterparty", "Ada").as_deref(), Some("****"));
        assert_eq!(rules.account("0131883461"), "****3461");
    }

    proptest! {
        #[test]
        fn long_numbers_are_always_masked(prefix in "[a-z ]{0,10}", number in "[0-9]{8,30}", suffix in "[a-z ]{0,10}") {
            let masked = text(&format!("{prefix}{number}{suffix}")).unwrap();
            prop_assert!(!masked.contains(&number));
            let longest = masked.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap();
            prop_assert!(longest < MIN_ACCOUNT_DIGITS, "{}", masked);
        }
    }
}
