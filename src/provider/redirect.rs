//! Where a redirect leads, as far as it may be shown: the origin alone.
//!
//! Redirects are not followed (see [`http_clients`](super::http_clients)), but a moved API is a common cause of a failing
//! connection, and its new origin is what the user must enter. Path and query of a target may hold accounts and
//! credentials: they are never kept.

use std::sync::Arc;

use http::HeaderMap;
use http::header::LOCATION;
use reqwest::Url;

/// Longest origin that is shown, in bytes: a DNS name has at most 253.
const MAX_ORIGIN: usize = 255;

/// Whether a response of this status leads elsewhere.
pub const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The origin of a redirect's target (`https://host:port`, the port only if it is not the scheme's own), for a response of
/// `status` to a request for `sent_to`. `None` if it is no redirect, or its target no HTTP URL.
pub fn target_origin(status: u16, headers: &HeaderMap, sent_to: &Url) -> Option<Arc<str>> {
    if !is_redirect(status) {
        return None;
    }
    // Locations are often sent in UTF-8, although a header is ASCII.
    let location = std::str::from_utf8(headers.get(LOCATION)?.as_bytes()).ok()?;
    let target = sent_to.join(location).ok()?;
    if !matches!(target.scheme(), "http" | "https") {
        return None;
    }
    // Neither user nor password, and a host in its ASCII form.
    let origin = target.origin().ascii_serialization();
    (origin.len() <= MAX_ORIGIN).then(|| Arc::from(origin))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn origin(status: u16, location: &str) -> Option<Arc<str>> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        target_origin(status, &headers, &Url::parse("http://bank.test:8080/v1/accounts?key=1").unwrap())
    }

    #[test]
    fn only_the_origin_of_a_target_is_kept() {
        for (location, wanted) in [
            ("https://bank.test/v1/accounts?key=secret#x", "https://bank.test"),
            ("https://ada:secret@login.test:8443/secret", "https://login.test:8443"),
            ("//cdn.test/v1", "http://cdn.test"),
            ("/v2/accounts", "http://bank.test:8080"),
            ("HTTPS://BÜCHER.test/x", "https://xn--bcher-kva.test"),
            ("https://[::1]:443/", "https://[::1]"),
        ] {
            assert_eq!(origin(301, location).as_deref(), Some(wanted), "{location}");
        }
    }

    #[test]
    fn what_is_no_http_redirect_has_no_origin() {
        for bad in ["javascript:alert(1)", "file:///etc/passwd", "ftp://bank.test/", "http://", "http://a b/"] {
            assert_eq!(origin(302, bad), None, "{bad}");
        }
        assert_eq!(origin(308, &format!("https://{}.test/", "a".repeat(300))), None);
        for status in [200, 300, 304, 404] {
            assert_eq!(origin(status, "https://bank.test/"), None, "{status}");
        }
        let url = Url::parse("http://bank.test/").unwrap();
        assert_eq!(target_origin(301, &HeaderMap::new(), &url), None);
    }
}
