//! How a dead request is shown. Without its parameters: they can name accounts, and the permission to list dead
//! requests does not imply the permission to see those.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ledger::dead_requests::{DeadRequest, DeadRequestState};

/// The state of a dead request.
#[derive(Copy, Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = DeadRequestState)]
pub enum DeadRequestStateView {
    /// It will be retried.
    Pending,
    /// All retries failed; it waits for a manual replay or delete.
    Parked,
    /// A retry was answered.
    Done,
}

impl From<DeadRequestState> for DeadRequestStateView {
    fn from(state: DeadRequestState) -> Self {
        match state {
            DeadRequestState::Pending => Self::Pending,
            DeadRequestState::Parked => Self::Parked,
            DeadRequestState::Done => Self::Done,
        }
    }
}

impl From<DeadRequestStateView> for DeadRequestState {
    fn from(state: DeadRequestStateView) -> Self {
        match state {
            DeadRequestStateView::Pending => Self::Pending,
            DeadRequestStateView::Parked => Self::Parked,
            DeadRequestStateView::Done => Self::Done,
        }
    }
}

/// A dead request: a provider request that failed and was stored.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadRequestView {
    /// Its ID.
    #[schema(format = "uuid")]
    pub id: String,
    /// Namespace of the connection.
    pub namespace: String,
    /// Name of the connection.
    pub connection: String,
    /// The connection's provider.
    pub provider: String,
    /// The operation.
    pub operation: String,
    /// The user whose request failed first.
    pub subject: String,
    /// Its state.
    pub state: DeadRequestStateView,
    /// The reason of the last failure.
    pub reason: String,
    /// The provider's HTTP status, if it answered.
    #[schema(minimum = 100, maximum = 599)]
    pub status_code: Option<u16>,
    /// Retries so far.
    #[schema(minimum = 0)]
    pub tries: u32,
    /// Number of failures of the same request while this one was pending or parked.
    #[schema(minimum = 1)]
    pub seen: u64,
    /// The correlation ID of the failed request.
    #[schema(format = "uuid")]
    pub request_id: Option<String>,
    /// When it was stored.
    #[schema(format = DateTime)]
    pub created_time: String,
    /// When it is retried next; null unless pending.
    #[schema(format = DateTime)]
    pub next_try_time: Option<String>,
}

impl From<DeadRequest> for DeadRequestView {
    fn from(dead: DeadRequest) -> Self {
        let DeadRequest { request, state, tries, seen, .. } = dead;
        Self {
            id: request.id.to_string(),
            namespace: request.connection.namespace.to_string(),
            connection: request.connection.name.to_string(),
            provider: request.provider,
            operation: request.operation,
            subject: request.subject,
            state: state.into(),
            reason: request.reason,
            status_code: request.status,
            tries,
            seen,
            request_id: request.request_id.map(|id| id.to_string()),
            created_time: request.at.to_string(),
            next_try_time: (state == DeadRequestState::Pending).then(|| request.next.to_string()),
        }
    }
}

/// A page of dead requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeadRequestPage {
    /// Newest first.
    pub items: Vec<DeadRequestView>,
    /// The cursor of the next page; null on the last page.
    pub next_cursor: Option<String>,
}
