//! Decimal digits of any script. Pure.

/// The zeros of all scripts: the digits of each follow it in order (general category Nd of Unicode 17).
const ZEROS: [char; 77] = [
    '\u{30}',
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{ff10}',
    '\u{104a0}',
    '\u{10d30}',
    '\u{10d40}',
    '\u{11066}',
    '\u{110f0}',
    '\u{11136}',
    '\u{111d0}',
    '\u{112f0}',
    '\u{11450}',
    '\u{114d0}',
    '\u{11650}',
    '\u{116c0}',
    '\u{116d0}',
    '\u{116da}',
    '\u{11730}',
    '\u{118e0}',
    '\u{11950}',
    '\u{11bf0}',
    '\u{11c50}',
    '\u{11d50}',
    '\u{11da0}',
    '\u{11de0}',
    '\u{11f50}',
    '\u{16130}',
    '\u{16a60}',
    '\u{16ac0}',
    '\u{16b50}',
    '\u{16d70}',
    '\u{1ccf0}',
    '\u{1d7ce}',
    '\u{1d7d8}',
    '\u{1d7e2}',
    '\u{1d7ec}',
    '\u{1d7f6}',
    '\u{1e140}',
    '\u{1e2f0}',
    '\u{1e4f0}',
    '\u{1e5f1}',
    '\u{1e950}',
    '\u{1fbf0}',
];

/// The value of a decimal digit: of `7`, of a full-width seven, of an Arabic one and so on; `None` for other characters.
pub fn digit_value(c: char) -> Option<u8> {
    let zero = ZEROS.partition_point(|zero| *zero <= c).checked_sub(1).and_then(|index| ZEROS.get(index))?;
    u8::try_from(u32::from(c) - u32::from(*zero)).ok().filter(|value| *value < 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_every_script_have_their_value_and_their_neighbours_have_none() {
        for zero in ZEROS {
            for value in 0..10 {
                assert_eq!(digit_value(char::from_u32(u32::from(zero) + value).unwrap()), u8::try_from(value).ok());
            }
        }
        for other in ['/', ':', 'a', ' ', '\u{ff0f}', '\u{ff1a}', '\u{2460}', '\u{b2}', '\u{4e00}'] {
            assert_eq!(digit_value(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_zeros_are_in_order() {
        assert!(ZEROS.is_sorted());
    }
}
