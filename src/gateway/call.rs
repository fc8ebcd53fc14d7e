//! A call to a provider through the gateway: its request and its response.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cluster::auth::UserInfo;
use crate::domain::key::ObjectKey;
use crate::domain::rights::Caller;

/// A caller's request.
pub struct CallRequest {
    /// The connection.
    pub connection: ObjectKey,
    /// The operation.
    pub operation: String,
    /// The ID of one item of the operation's list, if one is requested.
    pub item: Option<String>,
    /// The operation's parameters.
    pub parameters: BTreeMap<String, String>,
    /// Whether the provider's own body is requested instead of the canonical record.
    pub raw: bool,
    /// Whether the method is POST.
    pub post: bool,
    /// The deadline from `deadline_ms`.
    pub deadline: Option<Duration>,
    /// The caller.
    pub caller: Arc<Caller>,
    /// The caller as the API server reports it, for RBAC.
    pub subject: Arc<UserInfo>,
}

/// The response to a caller.
#[derive(Clone, Debug)]
pub struct CallResponse {
    /// The canonical record, or the provider's own body, as JSON. It keeps its memory reserved.
    pub result: Bytes,
    /// The provider of the called connection.
    pub provider: String,
    /// The provider that answered; ends with `_fallback` if it is a fallback.
    pub provider_used: String,
    /// The operation that was called.
    pub endpoint: String,
    /// The HTTP status of the provider that answered.
    pub status_code: u16,
    /// Whether the answer is from the cache.
    pub cached: bool,
    /// Whether the answer has expired.
    pub stale: bool,
}
