//! Maps errors of the HTTP client to [`CallError`].
//!
//! The mapping happens right at the client, so that neither a URL (with a key in its query) nor the provider's text can
//! reach an error, a log or a metric.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::provider::call::{CallError, ConnectError};
use crate::provider::dns::{AddressNotAllowed, NameNotFound};
use crate::settings::addresses::{AddressDenied, AddressKind, EndpointRole};

/// The [`CallError`] of a failed HTTP exchange.
pub(crate) fn call_error(error: &reqwest::Error) -> CallError {
    if error.is_timeout() {
        // Without a connection nothing was sent.
        return if error.is_connect() { CallError::Connect(ConnectError::TimedOut) } else { CallError::Timeout };
    }
    if error.is_builder() {
        return CallError::InvalidRequest("it cannot be encoded as an HTTP request");
    }
    let mut problem = None;
    if let Some(kind) = refused_address(error) {
        return CallError::AddressRefused(AddressDenied { endpoint: EndpointRole::Provider, kind });
    }
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = next {
        if is_protocol_error(source) {
            return CallError::Malformed;
        }
        problem = from_source(source).or(problem);
        next = source.source();
    }
    match problem {
        // A connection that broke differs from one that could not be made: the request may have been sent.
        Some(ConnectError::Network) if !error.is_connect() => CallError::Connect(ConnectError::Reset),
        Some(problem) => CallError::Connect(problem),
        None if error.is_connect() => CallError::Connect(ConnectError::Network),
        None if error.is_body() || error.is_request() => CallError::Connect(ConnectError::Reset),
        None => CallError::Malformed,
    }
}

/// The kind of address that was refused, if that is the cause.
fn refused_address(error: &(dyn Error + 'static)) -> Option<AddressKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(AddressNotAllowed(kind)) = error.downcast_ref() {
            return Some(*kind);
        }
        next = error.source();
    }
    None
}

/// Whether the response violates HTTP: a head that cannot be parsed, a chunk without a size.
fn is_protocol_error(source: &(dyn Error + 'static)) -> bool {
    if let Some(http) = source.downcast_ref::<hyper::Error>() {
        return http.is_parse();
    }
    let io = source.downcast_ref::<io::Error>();
    io.is_some_and(|io| {
        matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
            && io.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>())
    })
}

/// The connection failure that one error of the source chain stands for.
fn from_source(source: &(dyn Error + 'static)) -> Option<ConnectError> {
    if source.is::<NameNotFound>() {
        return Some(ConnectError::Dns);
    }
    if let Some(tls) = source.downcast_ref::<rustls::Error>() {
        return Some(from_tls(tls));
    }
    let io = source.downcast_ref::<io::Error>()?;
    // An io::Error that wraps another error returns that error's source as its own: the wrapped error must be read
    // here.
    let wrapped = io.get_ref().and_then(|inner| from_source(inner));
    wrapped.or_else(|| from_io(io))
}

fn from_io(error: &io::Error) -> Option<ConnectError> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ConnectError::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::UnexpectedEof => Some(ConnectError::Network),
        _ => None,
    }
}

fn from_tls(error: &rustls::Error) -> ConnectError {
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            // An issuer of the right name with the wrong key shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => ConnectError::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectError::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ConnectError::Expired,
            _ => ConnectError::Tls,
        },
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            // A known authority with the wrong key: the signature could not be verified.
            | AlertDescription::DecryptError,
        ) => ConnectError::CertificateRefused,
        _ => ConnectError::Tls,
    }
}
