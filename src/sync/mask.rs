//! Hiding what must not be shown: before a record leaves memory, and whatever field it is in.
//!
//! An account is shown by its last four characters. Free text is kept, but runs of digits as long as an account number
//! lose all but their last four, because people write account numbers into narrations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::Value;

/// Digits in a row from which on they may be an account number: the shortest in use have eight.
const TELLING_DIGITS: usize = 8;
/// What may stand between the digits of one number.
const JOINERS: [char; 2] = [' ', '-'];
/// Longer texts are cut: no statement line is longer, and a row must stay small.
const MAX_TEXT: usize = 1024;

/// What happens to a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// It is not kept.
    Drop,
    /// Its last four characters are kept.
    Last4,
}

/// What is hidden, by canonical field: `account`, `narration`, `counterparty`, `category`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskRules {
    /// The fields with a rule of their own.
    pub fields: BTreeMap<String, Mask>,
}

impl MaskRules {
    /// An account's text: never whole.
    pub fn account(&self, number: &str) -> String {
        match self.fields.get("account") {
            Some(Mask::Drop) => "****".to_owned(),
            Some(Mask::Last4) | None => last4(number),
        }
    }

    /// A text of `field`; `None` when nothing is left of it.
    pub fn text(&self, field: &str, text: &str) -> Option<String> {
        let clean: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        let clean = clean.trim();
        if clean.is_empty() {
            return None;
        }
        match self.fields.get(field) {
            Some(Mask::Drop) => None,
            Some(Mask::Last4) => Some(last4(clean)),
            None => Some(without_numbers(clean)),
        }
    }

    /// A whole record: every text of it under its field's name, numbers and the rest as they are. Days, instants, ids in
    /// the form of a UUID and amounts with a fraction are told from account numbers and kept.
    pub fn document(&self, record: &Value) -> Value {
        self.value("", record).unwrap_or(Value::Null)
    }

    fn value(&self, field: &str, value: &Value) -> Option<Value> {
        if self.fields.get(field) == Some(&Mask::Drop) {
            return None;
        }
        Some(match value {
            Value::String(text) if is_plain(text) && !self.fields.contains_key(field) => value.clone(),
            Value::String(text) => Value::String(self.text(field, text).unwrap_or_default()),
            Value::Array(items) => Value::Array(items.iter().filter_map(|item| self.value(field, item)).collect()),
            Value::Object(fields) => {
                // Sorted, so that a provider that shuffles its fields has changed nothing.
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort_unstable();
                let field = |name: &String| Some((name.clone(), self.value(name, fields.get(name)?)?));
                Value::Object(names.into_iter().filter_map(field).collect())
            }
            Value::Number(number) if self.fields.get(field) == Some(&Mask::Last4) => {
                Value::String(last4(&number.to_string()))
            }
            plain => plain.clone(),
        })
    }
}

/// Whether a text is a day, an instant, a UUID or an amount, whatever digits it has.
fn is_plain(text: &str) -> bool {
    let amount = text.contains('.') && text.parse::<rust_decimal::Decimal>().is_ok();
    amount
        || uuid::Uuid::parse_str(text).is_ok()
        || text.parse::<Timestamp>().is_ok()
        || text.parse::<DateTime>().is_ok()
}

/// `****` and the last four characters; a text too short to hide anything shows none.
pub fn last4(text: &str) -> String {
    let count = text.chars().count();
    if count < TELLING_DIGITS {
        return "****".to_owned();
    }
    let tail: String = text.chars().skip(count - 4).collect();
    format!("****{tail}")
}

/// The text with every long number cut to its last four digits.
fn without_numbers(text: &str) -> String {
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
        if digits.len() >= TELLING_DIGITS {
            out.push_str("****");
            out.extend(digits.iter().skip(digits.len() - 4));
        } else {
            out.extend(chars.iter().take(next).skip(i));
        }
        i = next;
    }
    out
}

/// The digits of the number that starts at `from` (single joiners allowed between them), and where it ends.
fn number_at(chars: &[char], from: usize) -> (Vec<char>, usize) {
    let mut digits = Vec::new();
    let mut i = from;
    loop {
        match (chars.get(i), chars.get(i + 1)) {
            (Some(d), _) if d.is_ascii_digit() => {
                digits.push(*d);
                i += 1;
            }
            (Some(joiner), Some(d)) if JOINERS.contains(joiner) && d.is_ascii_digit() => i += 1,
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
    fn account_numbers_in_text_lose_all_but_four_digits() {
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
    fn a_field_may_be_dropped_or_cut() {
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
        fn no_long_number_survives(prefix in "[a-z ]{0,10}", number in "[0-9]{8,30}", suffix in "[a-z ]{0,10}") {
            let masked = text(&format!("{prefix}{number}{suffix}")).unwrap();
            prop_assert!(!masked.contains(&number));
            let longest = masked.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap();
            prop_assert!(longest < TELLING_DIGITS, "{}", masked);
        }
    }
}
