//! HTTP clients of tests: without a proxy, with a deadline.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Response};
use serde_json::Value;

use super::wait::PATIENCE;

/// A client that waits long enough for any answer on a busy machine.
pub(crate) fn client() -> Client {
    client_with_timeout(PATIENCE)
}

/// A client that gives up after `timeout`.
pub(crate) fn client_with_timeout(timeout: Duration) -> Client {
    builder().timeout(timeout).build().expect("an HTTP client")
}

/// A client for the gateway of an operator in a Pod, whose certificate is of no authority: it accepts any.
pub(crate) fn gateway_client() -> Client {
    builder().tls_danger_accept_invalid_certs(true).timeout(PATIENCE).build().expect("an HTTP client")
}

/// A client that trusts the CA of a simulator, and no other.
pub(crate) fn trusting_client(ca_pem: &str) -> ClientBuilder {
    let ca = Certificate::from_pem(ca_pem.as_bytes()).expect("a CA");
    builder().tls_certs_only([ca]).timeout(PATIENCE)
}

fn builder() -> ClientBuilder {
    Client::builder().no_proxy()
}

/// The body of an answer as JSON; panics with the text if it is not.
pub(crate) async fn json(response: Response) -> Value {
    let text = response.text().await.expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
