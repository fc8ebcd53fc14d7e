//! A call that may have several callers and may outlive them: see [`crate::provider::run_on`].

use std::sync::Arc;

use futures::future::Shared;

use crate::provider::call_context::CallFuture;
use crate::provider::call_progress::CallProgress;

/// The call.
pub(crate) struct SharedCall {
    /// Its end.
    pub(crate) call: Shared<CallFuture>,
    /// Its progress, which is that of the caller who started it.
    pub(crate) progress: Arc<CallProgress>,
}
