//! The digits of a decimal number, whatever its spelling: what two texts of one number have in common. Pure.

use std::borrow::Cow;

/// Most digits of an exponent; a number with more is compared as it is written.
const MAX_EXPONENT_DIGITS: usize = 9;
/// Longest number that is written out without an exponent, in digits before or after the point.
const MAX_PLAIN: i64 = 40;

/// An unsigned number: `0.digits × 10^point`, without zeros at either end of the digits. Zero has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecimalDigits {
    /// The digits.
    pub digits: String,
    /// The number of digits before the point; negative for zeros after it.
    pub point: i64,
}

impl DecimalDigits {
    /// Parses digits with an optional fraction and exponent, as JSON has them; leading zeros are allowed, a sign is not.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (text, 0),
        };
        let (whole, places) = match mantissa.split_once('.') {
            Some((whole, places)) if is_digits(places) => (whole, places),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !is_digits(whole) {
            return None;
        }
        let all = format!("{whole}{places}");
        let significant = all.trim_start_matches('0');
        let point = i64::try_from(significant.len()).ok()? - i64::try_from(places.len()).ok()? + exponent;
        let digits = significant.trim_end_matches('0').to_owned();
        let point = if digits.is_empty() { 0 } else { point };
        Some(Self { digits, point })
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..)?),
        Some(b'+') => (false, text.get(1..)?),
        _ => (false, text),
    };
    if !is_digits(digits) || digits.len() > MAX_EXPONENT_DIGITS {
        return None;
    }
    let value: i64 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

/// A JSON text in which equal numbers are spelled equally: `7.0`, `7.00` and `0.7e1` are `7`, and `-0.0` is `0`. Texts
/// between quotes are unchanged, so `"7.0"` stays as it is. The input is valid JSON.
pub fn with_plain_numbers(json: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    let bytes = json.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(bytes, at);
                let number = json.get(at..end).unwrap_or_default();
                if let Some(plain) = plain_number(number) {
                    out.push_str(json.get(copied..at).unwrap_or_default());
                    out.push_str(&plain);
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The position after the string that starts at `from`.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_number(bytes: &[u8], from: usize) -> usize {
    let part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    from + bytes.iter().skip(from).take_while(part).count()
}

/// The plain spelling of a number; `None` if it has it already.
fn plain_number(text: &str) -> Option<String> {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    // An integer has one spelling, but for a zero with a sign.
    if !unsigned.contains(['.', 'e', 'E']) && (sign.is_empty() || unsigned != "0") {
        return None;
    }
    let DecimalDigits { digits, point } = DecimalDigits::parse(unsigned)?;
    let length = i64::try_from(digits.len()).ok()?;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let plain = if digits.is_empty() {
        "0".to_owned()
    } else if point.abs() > MAX_PLAIN {
        format!("{sign}0.{digits}e{point}")
    } else if point <= 0 {
        format!("{sign}0.{}{digits}", zeros(-point))
    } else if point >= length {
        format!("{sign}{digits}{}", zeros(point - length))
    } else {
        let (whole, places) = digits.split_at_checked(usize::try_from(point).ok()?)?;
        format!("{sign}{whole}.{places}")
    };
    (plain != text).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_spelled_equally() {
        for (plain, spellings) in [
            ("7", &["7.0", "7.00", "0.7e1", "70e-1", "7E0", "7e+0"][..]),
            ("0", &["-0", "0.00", "-0.0", "0e7"]),
            ("-12.45", &["-12.450000000000", "-1245e-2"]),
            ("100", &["1e2", "1E+2", "100.0"]),
            ("0.001", &["1e-3", "0.0010"]),
            ("9007199254740993", &["9007199254740993.0"]),
        ] {
            assert_eq!(with_plain_numbers(plain), plain);
            for text in spellings {
                assert_eq!(with_plain_numbers(text), plain, "{text}");
            }
        }
        assert_eq!(with_plain_numbers("1e400"), with_plain_numbers("10.0e399"));
        assert_ne!(with_plain_numbers("1e400"), with_plain_numbers("1e401"));
    }

    #[test]
    fn only_numbers_outside_of_strings_are_respelled() {
        let json = r#"{"a":[7.00,-0.0],"b":"7.00 \" 1e2","c\\":1.50,"d":null}"#;
        assert_eq!(with_plain_numbers(json), r#"{"a":[7,0],"b":"7.00 \" 1e2","c\\":1.5,"d":null}"#);
        let plain = r#"{"a":[7,12.5],"b":"1.10","c":true}"#;
        assert!(matches!(with_plain_numbers(plain), Cow::Borrowed(_)));
        for odd in ["", "\"", "\"\\", "-", "1e", "1e99999999999"] {
            assert_eq!(with_plain_numbers(odd), odd);
        }
    }
}
