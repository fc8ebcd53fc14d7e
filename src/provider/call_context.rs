//! What the layers below the deadline share: the context of one call, the service trait and the future type.
//!
//! No layer is imported here, so that every layer can import this file.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tower::Service;

use crate::domain::breaker::Permit;
use crate::domain::time::Mono;
use crate::provider::auth::endpoint_credential::AuthorizedRequest;
use crate::provider::call::{CallError, Request, Response};
use crate::provider::call_progress::CallProgress;

/// A request with its deadline and what the layers attach to it. Retries clone it.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The request.
    pub request: Request,
    /// When the call must have ended.
    pub deadline: Mono,
    /// If the caller of a write set the deadline, not the connection: the minimum time the provider must have had before
    /// missing the deadline counts as its failure.
    pub min_provider_time: Option<Duration>,
    /// If the call may run on after its caller's deadline: until when.
    pub run_on_until: Option<Mono>,
    /// The breaker's permit; `None` above the breaker.
    pub permit: Option<Permit>,
    /// Where the call stands; inner layers write it, outer layers read it.
    pub progress: Arc<CallProgress>,
    /// The request with its credential and its destination; set by the authentication layer alone, for each try.
    pub(crate) outgoing: Option<AuthorizedRequest>,
}

impl CallContext {
    /// The context of a call that must have ended at `deadline`.
    pub fn new(request: Request, deadline: Mono) -> Self {
        Self {
            request,
            deadline,
            min_provider_time: None,
            run_on_until: None,
            permit: None,
            progress: Arc::default(),
            outgoing: None,
        }
    }
}

/// A layer below the deadline: a service over [`CallContext`] whose futures own what they need.
pub trait CallService:
    Service<CallContext, Response = Response, Error = CallError, Future: Future + Send + 'static>
{
}
impl<S: Service<CallContext, Response = Response, Error = CallError, Future: Send + 'static>> CallService for S {}

/// The boxed future that the layers return.
pub type CallFuture = BoxFuture<'static, Result<Response, CallError>>;
