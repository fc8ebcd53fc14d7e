//! The last layer: one try over HTTP.
//!
//! Bodies are read whole, up to the call's cap. Errors are turned into our own words on the spot, so that neither a URL
//! (with a key in its query) nor a provider's text can travel further.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use reqwest::Url;
use reqwest::header::HOST;
use rustls::{AlertDescription, CertificateError};
use tower::Service;

use crate::clock::Clock;
use crate::provider::addresses::{AddressKind, AddressProblem, Peer};
use crate::provider::body;
use crate::provider::call::{Answer, CallError, ConnectProblem, Meta, Request};
use crate::provider::classify::{Class, Reading};
use crate::provider::clients::{Client, NoSuchName, NotAllowed};
use crate::provider::deadline::{Calling, Timed};
use crate::provider::json;
use crate::provider::settings::Settings;
use crate::provider::timeout;

/// Sends one request to the provider.
#[derive(Clone)]
pub(crate) struct Exchange {
    client: Client,
    clock: Clock,
    settings: Arc<Settings>,
}

impl Exchange {
    pub(crate) fn new(client: Client, clock: Clock, settings: Arc<Settings>) -> Self {
        Self { client, clock, settings }
    }

    fn request(&self, client: &Client, request: Request) -> Result<reqwest::RequestBuilder, CallError> {
        let url = join(self.settings.base_url(), &request.path, &request.query)?;
        let (url, host) = client.aim(url)?;
        let http = client.http()?;
        let constant = self.settings.profile().constant_headers().clone();
        let mut builder = http.request(request.method, url).headers(constant).headers(request.headers);
        if let Some(host) = host {
            builder = builder.header(HOST, host);
        }
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        Ok(builder)
    }
}

impl Service<Timed> for Exchange {
    type Response = Answer;
    type Error = CallError;
    type Future = Calling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, timed: Timed) -> Calling {
        let (clock, settings) = (self.clock, Arc::clone(&self.settings));
        let (cap, wants_json) = (timed.request.max_body, timed.request.json);
        let request = self.request(timed.client.as_ref().unwrap_or(&self.client), timed.request);
        async move {
            let started = clock.mono();
            let timeouts = settings.timeouts();
            let request = request?;
            let response = timeout::head(timeouts.head(), request.send()).await?.map_err(|error| explain(&error))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = body::read(response, cap, timeouts.stall()).await?;
            let now = clock.now();
            let (reading, meta) = (Reading::default(), Meta::default());
            let elapsed = now.mono.since(started);
            let mut answer = Answer { status, headers, body, elapsed, reading, meta };
            answer.reading = settings.profile().read(&answer, now.wall);
            // A proxy's page, or a body cut short where nobody counted: the next try may bring the real one.
            if wants_json && answer.reading.class == Class::Ok && json::check(&answer.body).is_err() {
                answer.reading.class = Class::Retry;
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// The URL of a request: the base URL's path, then the request's; never another origin, never above the base.
fn join(base: &Url, path: &str, query: &[(String, String)]) -> Result<Url, CallError> {
    let (path, own_query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') || path.contains('#') || own_query.is_some_and(|query| query.contains('#')) {
        return Err(CallError::Request("the path must start with / and have no fragment"));
    }
    // The URL standard reads an encoded dot as a dot, and a backslash as a slash.
    let climbs = path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    });
    if climbs || path.contains('\\') {
        return Err(CallError::Request("the path must not hold . or .. segments"));
    }
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(own_query.filter(|query| !query.is_empty()));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Our word for what went wrong.
pub(crate) fn explain(error: &reqwest::Error) -> CallError {
    if error.is_timeout() {
        // Where no connection came about nothing was sent.
        return if error.is_connect() { CallError::Connect(ConnectProblem::TimedOut) } else { CallError::Timeout };
    }
    if error.is_builder() {
        return CallError::Request("the request cannot be put into HTTP");
    }
    let mut problem = None;
    if let Some(kind) = refused(error) {
        return CallError::Refused(AddressProblem { peer: Peer::Provider, kind });
    }
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = next {
        if is_no_http(source) {
            return CallError::Malformed;
        }
        problem = explain_source(source).or(problem);
        next = source.source();
    }
    match problem {
        // What broke after the connection was made is another matter than one that could not be made.
        Some(ConnectProblem::Network) if !error.is_connect() => CallError::Connect(ConnectProblem::Reset),
        Some(problem) => CallError::Connect(problem),
        None if error.is_connect() => CallError::Connect(ConnectProblem::Network),
        None if error.is_body() || error.is_request() => CallError::Connect(ConnectProblem::Reset),
        None => CallError::Malformed,
    }
}

/// The kind of address that was not connected to, if that is what went wrong.
fn refused(error: &(dyn Error + 'static)) -> Option<AddressKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(NotAllowed(kind)) = error.downcast_ref() {
            return Some(*kind);
        }
        next = error.source();
    }
    None
}

/// Whether what came is not what HTTP allows: a head that does not parse, a chunk that has no size.
fn is_no_http(source: &(dyn Error + 'static)) -> bool {
    if let Some(http) = source.downcast_ref::<hyper::Error>() {
        return http.is_parse();
    }
    let io = source.downcast_ref::<io::Error>();
    io.is_some_and(|io| {
        matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
            && io.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>())
    })
}

/// What one link of the chain of causes says.
fn explain_source(source: &(dyn Error + 'static)) -> Option<ConnectProblem> {
    if source.is::<NoSuchName>() {
        return Some(ConnectProblem::Name);
    }
    if let Some(tls) = source.downcast_ref::<rustls::Error>() {
        return Some(explain_tls(tls));
    }
    let io = source.downcast_ref::<io::Error>()?;
    // An io::Error that wraps another error shows that one's source as its own: the error itself must be asked for.
    let wrapped = io.get_ref().and_then(|inner| explain_source(inner));
    wrapped.or_else(|| explain_io(io))
}

fn explain_io(error: &io::Error) -> Option<ConnectProblem> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(ConnectProblem::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::UnexpectedEof => Some(ConnectProblem::Network),
        _ => None,
    }
}

fn explain_tls(error: &rustls::Error) -> ConnectProblem {
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            // A bad signature is what an issuer of the right name and the wrong key looks like.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => ConnectProblem::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ConnectProblem::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => ConnectProblem::Expired,
            _ => ConnectProblem::Tls,
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
            // The name of a known authority and the wrong key: the signature could not be verified.
            | AlertDescription::DecryptError,
        ) => ConnectProblem::CertificateRefused,
        _ => ConnectProblem::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &str, query: &[(&str, &str)]) -> Result<String, CallError> {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        join(&Url::parse(base).unwrap(), path, &query).map(String::from)
    }

    #[test]
    fn a_path_is_put_below_the_base_url() {
        assert_eq!(joined("https://bank.test/v2/", "/accounts", &[]).unwrap(), "https://bank.test/v2/accounts");
        assert_eq!(
            joined("https://bank.test:8443", "/a?limit=1", &[("page", "2"), ("q", "a b&c")]).unwrap(),
            "https://bank.test:8443/a?limit=1&page=2&q=a+b%26c"
        );
    }

    #[test]
    fn no_path_leads_out_of_the_base_url() {
        for bad in ["accounts", "/../x", "/a/%2e%2E/x", "/a/./b", "/a#b", "/a\\..\\b", "", "/a?b#c"] {
            assert!(matches!(joined("https://bank.test/v2", bad, &[]), Err(CallError::Request(_))), "{bad}");
        }
        assert_eq!(joined("https://bank.test", "//evil.test/x", &[]).unwrap(), "https://bank.test//evil.test/x");
        assert_eq!(joined("https://bank.test", "/@evil.test", &[]).unwrap(), "https://bank.test/@evil.test");
    }
}
