//! The interface to the provider: one request, one response.
//!
//! Implemented by the connection with its call path in production, and by scripted banks in tests.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::provider::call::{CallError, Request, Response};
use crate::provider::connection::Connection;

/// Makes calls to one provider.
pub trait Fetch: Send + Sync + 'static {
    /// Makes one call; an HTTP response of any status is `Ok`.
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>>;
}

impl Fetch for Connection {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        self.call(request).boxed()
    }
}
