//! The result of one token request.

use std::time::Duration;

use secrecy::SecretString;

use crate::domain::time::Mono;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::call::CallError;

/// A successful response of a token endpoint.
pub(crate) struct TokenResponse {
    pub(crate) access_token: SecretString,
    pub(crate) expires_in: Option<Duration>,
    /// Replaces the refresh token that was sent, which may be spent by now.
    pub(crate) refresh_token: Option<SecretString>,
    /// When the request was sent: the lifetime counts from here.
    pub(crate) requested_at: Mono,
}

/// A failed token request.
#[derive(Clone, Debug)]
pub(crate) struct TokenError {
    pub(crate) error: CallError,
    /// The delay that the endpoint asked for.
    pub(crate) retry_after: Option<Duration>,
    /// What is at fault, where the endpoint's answer shows it.
    pub(crate) fault: Option<TokenFault>,
}

impl From<CallError> for TokenError {
    fn from(error: CallError) -> Self {
        Self { error, retry_after: None, fault: None }
    }
}
