//! When a certificate expires.
//!
//! rustls checks a certificate's validity but does not expose it, and users are warned before the expiry. A certificate
//! that cannot be parsed has no expiry here; rustls reports what is wrong with it.

use jiff::Timestamp;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// The end of the certificate's validity (`notAfter`). `certificate` is DER.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let since_1970 = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(since_1970.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(year: i32, month: u8, day: u8) -> Option<String> {
        let mut params = rcgen::CertificateParams::new(["x.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        not_after(params.self_signed(&key).unwrap().der()).map(|at| at.to_string())
    }

    #[test]
    fn both_encodings_of_not_after_are_read() {
        assert_eq!(expiry(2026, 11, 22).unwrap(), "2026-11-22T00:00:00Z");
        assert_eq!(expiry(1999, 12, 31).unwrap(), "1999-12-31T00:00:00Z");
        assert_eq!(expiry(2051, 1, 2).unwrap(), "2051-01-02T00:00:00Z");
        assert_eq!(expiry(4096, 1, 1).unwrap(), "4096-01-01T00:00:00Z");
    }

    #[test]
    fn invalid_certificates_have_no_expiry() {
        let key = rcgen::KeyPair::generate().unwrap();
        let whole = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        for short in 0..whole.len() {
            assert_eq!(not_after(&whole[..short]), None, "{short}");
        }
        for garbage in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x02\x01\x01", b"hello"] {
            assert_eq!(not_after(garbage), None);
        }
    }
}
