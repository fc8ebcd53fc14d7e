//! Canonical JSON: one spelling for one value, so that equal values have equal bytes and equal hashes. Pure.
//!
//! It is the JSON that `serde_json` writes for a struct whose fields are declared in alphabetical order, with maps that
//! are ordered trees, decimals as normalized texts (`7.70` is `"7.7"`), instants in RFC 3339 with milliseconds, hashes
//! in lower-case hexadecimal, and no field for an absent option or an empty list (docs/adr/0027). The modules here are
//! for serde's `with`; each has an `option` for a field that is left out when absent.

use std::fmt;

use jiff::Timestamp;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::domain::decimal_text::DecimalText;
use crate::domain::money::Currency;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The canonical bytes of a value.
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Writing into memory fails only for a map whose keys are no texts, and no canonical type has one.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The hash of these bytes.
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// A hash as it is written: 64 lower-case hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    hex::encode(hash)
}

/// Reads a hash as it is written. Upper-case digits are no canonical spelling.
pub fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut hash).is_ok()).then_some(hash)
}

/// The instant without what is below a millisecond: the precision of canonical instants.
pub fn to_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Whether a flag is off, for serde's `skip_serializing_if`.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Reads a text by `parse`, without a copy where the input has it in one piece.
struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        // The value itself is not part of the message: it may be account data.
        (self.parse)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }
}

fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Text { expected, parse })
}

/// A module for serde's `with`: `$write` displays the value, `$parse` reads it.
macro_rules! text_module {
    ($(#[$meta:meta])* $name:ident: $type:ty, $expected:literal, $write:path, $parse:expr) => {
        $(#[$meta])*
        pub mod $name {
            use serde::{Deserializer, Serializer};

            /// Writes the value.
            pub fn serialize<S: Serializer>(value: &$type, serializer: S) -> Result<S::Ok, S::Error> {
                $write(value, serializer)
            }

            /// Reads the value.
            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                super::read(deserializer, $expected, $parse)
            }

            /// The same for a field that is left out when absent.
            pub mod option {
                use serde::{Deserializer, Serializer};

                /// Writes the value, if there is one.
                #[allow(clippy::ref_option, reason = "serde passes a reference")]
                pub fn serialize<S: Serializer>(value: &Option<$type>, serializer: S) -> Result<S::Ok, S::Error> {
                    match value {
                        Some(value) => super::serialize(value, serializer),
                        None => serializer.serialize_none(),
                    }
                }

                /// Reads the value: a field that is written is present.
                pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<$type>, D::Error> {
                    super::deserialize(deserializer).map(Some)
                }
            }
        }
    };
}

text_module!(
    /// Decimals as normalized texts: `7.70` and `7.7` are `"7.7"`, `-0` is `"0"`.
    decimal: rust_decimal::Decimal, "a decimal as text", super::write_decimal, |text| text.parse().ok()
);
text_module!(
    /// Instants in RFC 3339 with milliseconds: `2026-11-29T12:00:00.000Z`.
    instant: jiff::Timestamp, "an instant in RFC 3339", super::write_instant, |text| text.parse().ok()
);
text_module!(
    /// Hashes as 64 lower-case hexadecimal digits.
    hash: crate::domain::canonical::Hash, "64 lower-case hexadecimal digits", super::write_hash, super::parse_hash
);
text_module!(
    /// UUIDs in lower case with hyphens.
    uuid_text: uuid::Uuid, "a UUID", super::write_uuid, |text| uuid::Uuid::try_parse(text).ok()
);

fn write_decimal<S: Serializer>(value: &rust_decimal::Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(DecimalText::new().write(*value))
}

fn write_instant<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:.3}", to_millis(*value)))
}

/// An instant as [`instant`] writes it.
pub fn instant_text(at: Timestamp) -> String {
    format!("{:.3}", to_millis(at))
}

fn write_hash<S: Serializer>(value: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    let mut digits = [0; 64];
    // The buffer has the length that 32 bytes need.
    let _ = hex::encode_to_slice(value, &mut digits);
    serializer.serialize_str(std::str::from_utf8(&digits).unwrap_or_default())
}

fn write_uuid<S: Serializer>(value: &uuid::Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()))
}

/// Decimals by currency.
pub mod decimals_by_currency {
    use std::collections::BTreeMap;

    use rust_decimal::Decimal;

    use super::{Currency, Deserialize, Deserializer, Serialize, Serializer, decimal};

    #[derive(Serialize, Deserialize)]
    struct Value(#[serde(with = "decimal")] Decimal);

    /// Writes the map.
    pub fn serialize<S: Serializer>(map: &BTreeMap<Currency, Decimal>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(currency, value)| (currency, Value(*value))))
    }

    /// Reads the map.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Currency, Decimal>, D::Error> {
        let map = BTreeMap::<Currency, Value>::deserialize(deserializer)?;
        Ok(map.into_iter().map(|(currency, value)| (currency, value.0)).collect())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read(deserializer, "a currency of three upper-case letters", |text| Self::parse(text).ok())
    }
}

/// A duration in whole milliseconds.
pub mod millis {
    use std::time::Duration;

    use super::{Deserialize as _, Deserializer, Serializer};

    /// Writes the duration.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads the duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }

    /// The same for a field that is left out when absent.
    pub mod option {
        use super::{Deserializer, Duration, Serializer};

        /// Writes the duration, if there is one.
        #[allow(clippy::ref_option, reason = "serde passes a reference")]
        pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => super::serialize(value, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads the duration: a field that is written is present.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct All {
        #[serde(with = "decimal")]
        amount: rust_decimal::Decimal,
        #[serde(with = "instant")]
        at: Timestamp,
        currency: Currency,
        #[serde(with = "hash")]
        hash: Hash,
        #[serde(with = "uuid_text")]
        id: uuid::Uuid,
        #[serde(with = "millis::option", skip_serializing_if = "Option::is_none", default)]
        pause: Option<std::time::Duration>,
        #[serde(with = "instant::option", skip_serializing_if = "Option::is_none", default)]
        until: Option<Timestamp>,
    }

    fn all(amount: &str, at: &str) -> All {
        All {
            at: at.parse().unwrap(),
            amount: amount.parse().unwrap(),
            currency: Currency::parse("XOF").unwrap(),
            hash: sha256(b""),
            id: uuid::Uuid::from_u128(0xAB),
            pause: None,
            until: None,
        }
    }

    #[test]
    fn equal_values_have_one_spelling() {
        let want = concat!(
            r#"{"amount":"7.7","at":"2026-11-29T12:00:00.120Z","currency":"XOF","#,
            r#""hash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","#,
            r#""id":"00000000-0000-0000-0000-0000000000ab"}"#
        );
        for (amount, at) in [
            ("7.70", "2026-11-29T12:00:00.12Z"),
            ("7.7", "2026-11-29T13:00:00.120999999+01:00"),
            ("07.7000", "2026-11-29T12:00:00.1200Z"),
        ] {
            assert_eq!(String::from_utf8(to_bytes(&all(amount, at))).unwrap(), want);
        }
        assert!(
            String::from_utf8(to_bytes(&all("-0.00", "1969-12-31T23:59:59.5Z"))).unwrap().contains(r#""amount":"0""#)
        );
    }

    #[test]
    fn what_is_written_is_read_and_no_other_spelling_of_a_hash() {
        for at in
            ["2026-11-29T12:00:00Z", "1969-12-31T23:59:59.5Z", "-009999-01-02T01:59:59Z", "9999-12-30T22:00:00.999Z"]
        {
            let one = All {
                until: Some(at.parse().unwrap()),
                pause: Some(std::time::Duration::from_millis(7)),
                ..all("-1.5", at)
            };
            assert_eq!(serde_json::from_slice::<All>(&to_bytes(&one)).unwrap(), one, "{at}");
        }
        let hash = sha256(b"abc");
        assert_eq!(parse_hash(&hex(&hash)), Some(hash));
        assert_eq!(parse_hash(&hex(&hash).to_uppercase()), None);
        assert_eq!(parse_hash("ba78"), None);
    }

    #[test]
    fn an_error_names_the_kind_of_value_and_not_the_value() {
        let error = serde_json::from_str::<All>(r#"{"at":"2026-11-29T12:00:00Z","amount":"secret"}"#).unwrap_err();
        assert!(error.to_string().contains("a decimal as text") && !error.to_string().contains("secret"), "{error}");
    }
}
