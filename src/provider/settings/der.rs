//! One date out of a certificate: when it ends.
//!
//! The TLS library reads certificates and judges their dates, and shows neither. To tell people in time, the one field is
//! walked to here; what is not as X.509 (RFC 5280 §4.1) has it has no date for us, and the TLS library says what is wrong.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the certificate's validity.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        (_, fields) = any(fields)?;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        (_, fields) = any(fields)?;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (_, not_after) = any(validity)?;
    let tag = *not_after.first()?;
    let (text, _) = any(not_after)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The content of the first element, and what follows it, if it has this tag.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if bytes.first() == Some(&tag) { any(bytes) } else { None }
}

/// The content of the first element, and what follows it.
fn any(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        long => {
            let (digits, rest) =
                rest.split_at_checked(long - 0x80).filter(|(digits, _)| (1..=4).contains(&digits.len()))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` (a year below 50 is of this century) or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z')?;
    let whole = match tag {
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let civil = DateTime::strptime("%Y%m%d%H%M%S", whole).ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(year: i32, month: u8, day: u8) -> Option<String> {
        let mut params = rcgen::CertificateParams::new(["x.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        not_after(params.self_signed(&key).unwrap().der()).map(|at| at.to_string())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        assert_eq!(ends(2026, 11, 22).unwrap(), "2026-11-22T00:00:00Z");
        assert_eq!(ends(1999, 12, 31).unwrap(), "1999-12-31T00:00:00Z");
        assert_eq!(ends(2051, 1, 2).unwrap(), "2051-01-02T00:00:00Z");
        assert_eq!(ends(4096, 1, 1).unwrap(), "4096-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let key = rcgen::KeyPair::generate().unwrap();
        let whole = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        for short in 0..whole.len().min(200) {
            let _no_panic = not_after(&whole[..short]);
        }
        for garbage in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x02\x01\x01", b"hello"] {
            assert_eq!(not_after(garbage), None);
        }
    }
}
