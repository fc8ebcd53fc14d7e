//! Decimals as normalized texts, without an allocation: an answer to a payout has dozens of them. Pure.

use rust_decimal::Decimal;

/// Longest text: a sign, 29 digits and a point.
const LONGEST: usize = 31;

/// Memory for one text.
pub struct DecimalText([u8; LONGEST]);

impl DecimalText {
    /// Empty memory.
    pub const fn new() -> Self {
        Self([b'0'; LONGEST])
    }

    /// The text of the value: `7.70` is `7.7`, `-0.00` is `0`.
    pub fn write(&mut self, value: Decimal) -> &str {
        let mut digits = Digits { start: LONGEST, point: value.scale(), written: 0, text: &mut self.0 };
        let mut left = value.mantissa().unsigned_abs();
        let is_negative = value.is_sign_negative() && left > 0;
        // Division of 128 bits is a function call: few amounts need it.
        while left > u128::from(u64::MAX) {
            digits.put(u8::try_from(left % 10).unwrap_or_default());
            left /= 10;
        }
        let mut left = u64::try_from(left).unwrap_or_default();
        while left > 0 || digits.needs_zero() {
            digits.put(u8::try_from(left % 10).unwrap_or_default());
            left /= 10;
        }
        if is_negative {
            digits.byte(b'-');
        }
        let start = digits.start;
        std::str::from_utf8(&self.0[start..]).unwrap_or_default()
    }
}

/// A text that is written from its last digit to its first.
struct Digits<'a> {
    text: &'a mut [u8; LONGEST],
    start: usize,
    /// Decimal places; zeros at their end are left out.
    point: u32,
    /// Digits so far, of those that are left out too.
    written: u32,
}

impl Digits<'_> {
    /// Whether a number without further digits needs a zero: before the point, or behind it.
    const fn needs_zero(&self) -> bool {
        self.written <= self.point
    }

    fn put(&mut self, digit: u8) {
        if self.written == self.point && self.start < LONGEST {
            self.byte(b'.');
        }
        if digit > 0 || self.start < LONGEST || self.written >= self.point {
            self.byte(b'0' + digit);
        }
        self.written += 1;
    }

    fn byte(&mut self, byte: u8) {
        self.start -= 1;
        self.text[self.start] = byte;
    }
}

impl Default for DecimalText {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LARGEST: i128 = (1 << 96) - 1;

    #[test]
    fn the_longest_texts_fit() {
        for (mantissa, scale, wanted) in [
            (LARGEST, 0, "79228162514264337593543950335"),
            (-LARGEST, 28, "-7.9228162514264337593543950335"),
            (-1, 28, "-0.0000000000000000000000000001"),
            (-LARGEST / 10, 28, "-0.7922816251426433759354395033"),
            (0, 28, "0"),
            (-10, 1, "-1"),
            (100, 1, "10"),
        ] {
            let value = Decimal::from_i128_with_scale(mantissa, scale);
            assert_eq!(DecimalText::new().write(value), wanted);
        }
        let negative_zero: Decimal = "-0.00".parse().unwrap();
        assert_eq!(DecimalText::new().write(negative_zero), "0");
    }

    proptest! {
        #[test]
        fn a_text_is_that_of_the_normalized_decimal(
            mantissa in prop_oneof![-LARGEST..=LARGEST, -1_000_000i128..1_000_000], zeros in 0u32..6, scale in 0u32..=28,
        ) {
            let shifted = mantissa.saturating_mul(10i128.pow(zeros));
            let value = Decimal::from_i128_with_scale(if shifted.abs() > LARGEST { mantissa } else { shifted }, scale);
            let mut text = DecimalText::new();
            prop_assert_eq!(text.write(value), value.normalize().to_string());
        }
    }
}
