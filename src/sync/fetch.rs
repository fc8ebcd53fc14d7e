//! The seam to the provider: one request, one answer.
//!
//! In production it is a live connection with its whole call path; in tests a script.

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::provider::call::{Answer, CallError, Request};
use crate::provider::live::Live;

/// Makes calls to one provider.
pub trait Fetch: Send + Sync + 'static {
    /// Makes one call; an HTTP answer of any status is an answer.
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Answer, CallError>>;
}

impl Fetch for Live {
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Answer, CallError>> {
        self.call(request).boxed()
    }
}
