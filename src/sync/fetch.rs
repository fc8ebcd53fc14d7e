//! The interface to the provider: one request, one response.
//!
//! Implemented by the connection with its call path in production, and by scripted banks in tests.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::provider::call::{CallError, Request, Response};
use crate::provider::connection::Connection;
use crate::settings::Settings;

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

/// A connection as it was when a run was planned: paths, parameters and cursors of one endpoint are not sent to another,
/// so the run ends when the connection is moved or deleted.
pub struct PlannedConnection {
    connection: Arc<Connection>,
    settings: Arc<Settings>,
}

impl PlannedConnection {
    /// `connection` while it calls the endpoint of `settings`.
    pub fn new(connection: Arc<Connection>, settings: Arc<Settings>) -> Self {
        Self { connection, settings }
    }
}

impl Fetch for PlannedConnection {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, CallError>> {
        self.connection.call_with(&self.settings, request).boxed()
    }
}
