//! Sends a request, and once more on a fresh connection if a reused one ended before its answer.
//!
//! A server may close a kept-alive connection at any moment, also in the one in which it is used again: after a time
//! without requests, after each request, or before a restart. That is the connection's end, not the provider's failure,
//! so the second request belongs to the same try. It is made only where the first provably was not processed (HTTP/2: the
//! server says so with GOAWAY or `REFUSED_STREAM`), or where processing it twice changes nothing. A fresh connection that
//! ends without an answer is a failure: nothing is sent again.
//!
//! A request that was not sent at all, because the connection was found closed, is sent on another one by the HTTP client
//! itself; it is not counted.

use std::error::Error;
use std::io;

use crate::provider::call::CallError;
use crate::provider::connect_observer::observed;
use crate::provider::http_clients::HttpClient;
use crate::provider::http_error;

/// Whether a request may be processed twice.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Repeatable {
    /// It changes nothing.
    Yes,
    /// It may change something: it is sent again only if it was not processed.
    OnlyUnprocessed,
}

/// Sends `request`. `before_resend` is called before it is sent again, and can prevent that with an error.
pub(crate) async fn send(
    client: &HttpClient,
    request: reqwest::Request,
    repeatable: Repeatable,
    before_resend: impl FnOnce() -> Result<(), CallError>,
) -> Result<reqwest::Response, CallError> {
    let again = request.try_clone();
    let (end, reused) = observed(client.http()?.execute(request)).await;
    let error = match end {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    let safe = match end_of(&error) {
        ConnectionEnd::Unprocessed => true,
        ConnectionEnd::Unknown => repeatable == Repeatable::Yes,
        ConnectionEnd::Other => false,
    };
    match again.filter(|_| reused && safe) {
        None => Err(http_error::call_error(&error)),
        Some(again) => {
            before_resend()?;
            client.fresh()?.execute(again).await.map_err(|error| http_error::call_error(&error))
        }
    }
}

/// What the end of a connection says about the request on it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum ConnectionEnd {
    /// It was not and will not be processed.
    Unprocessed,
    /// It may have been processed.
    Unknown,
    /// The connection has not ended: something else failed.
    Other,
}

/// How the connection of a request without a response ended.
fn end_of(error: &reqwest::Error) -> ConnectionEnd {
    if error.is_timeout() || error.is_connect() || error.is_builder() {
        return ConnectionEnd::Other;
    }
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = next {
        if let Some(end) = end_of_source(source) {
            return end;
        }
        next = source.source();
    }
    ConnectionEnd::Other
}

/// The end that one error of the source chain stands for.
fn end_of_source(source: &(dyn Error + 'static)) -> Option<ConnectionEnd> {
    if let Some(http2) = source.downcast_ref::<h2::Error>() {
        // GOAWAY ends only the streams above the last one that the server has processed (RFC 9113, 6.8 and 8.7).
        let refused = http2.is_reset() && http2.reason() == Some(h2::Reason::REFUSED_STREAM);
        let unprocessed = http2.is_remote() && (http2.is_go_away() || refused);
        return match http2.get_io() {
            _ if unprocessed => Some(ConnectionEnd::Unprocessed),
            Some(io) => Some(end_of_io(io)),
            None => Some(ConnectionEnd::Other),
        };
    }
    if let Some(http) = source.downcast_ref::<hyper::Error>() {
        return if http.is_canceled() {
            Some(ConnectionEnd::Unprocessed)
        } else if http.is_closed() || http.is_incomplete_message() {
            Some(ConnectionEnd::Unknown)
        } else {
            // An invalid response, or a cause that the next error of the chain names.
            http.is_parse().then_some(ConnectionEnd::Other)
        };
    }
    source.downcast_ref::<io::Error>().map(end_of_io)
}

fn end_of_io(error: &io::Error) -> ConnectionEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => ConnectionEnd::Unknown,
        _ => ConnectionEnd::Other,
    }
}
