//! Which names a profile may give to headers.

/// Headers that only the call path sets, or that carry credentials: a profile file must not hold a secret.
const RESERVED: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// Whether `name` is a valid header name.
pub(super) fn is_header_name(name: &str) -> bool {
    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Checks that `name` is a valid header name; the error completes the message of the field that holds it.
pub(super) fn check_header_name(name: &str) -> Result<(), String> {
    if is_header_name(name) { Ok(()) } else { Err(format!("{name:?} is not a valid header name")) }
}

/// Checks that a profile may set the header `name`.
pub(super) fn check_settable_header(name: &str) -> Result<(), String> {
    check_header_name(name)?;
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(format!("{name} is reserved: put credentials under auth; Busbar sets the other reserved headers"));
    }
    Ok(())
}
