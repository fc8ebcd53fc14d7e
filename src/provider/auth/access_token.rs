//! An access token, with the credential that it was obtained by: it dies with that credential.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::time::Mono;
use crate::provider::auth::credential_id::CredentialId;
use crate::provider::auth::token_response::TokenResponse;

/// Upper bound of a token's lifetime, whatever the provider grants.
const MAX_LIFETIME: Duration = Duration::from_hours(1);
/// The lifetime of a token whose provider does not state one.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);

/// The scheme of the `Authorization` header.
const SCHEME: &str = "Bearer ";

/// An access token.
pub struct AccessToken {
    header: SecretString,
    credential: CredentialId,
    pub(super) refresh_at: Mono,
    pub(super) expires_at: Mono,
    /// Whether the provider has accepted it.
    accepted: AtomicBool,
}

impl AccessToken {
    /// The token that was obtained by `credential`. Schedules the refresh at
    /// `exp − clamp(lifetime / 3, 1 s, refresh_before)`.
    pub(super) fn new(response: &TokenResponse, credential: CredentialId, refresh_before: Duration) -> Self {
        let lifetime = response.expires_in.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
        let least = Duration::from_secs(1);
        let early = (lifetime / 3).clamp(least, refresh_before.max(least));
        let token = response.access_token.expose_secret();
        // Allocated at full size: growing would leave copies behind.
        let mut header = String::with_capacity(SCHEME.len() + token.len());
        header.push_str(SCHEME);
        header.push_str(token);
        Self {
            header: SecretString::from(header),
            credential,
            refresh_at: response.requested_at + lifetime.saturating_sub(early),
            expires_at: response.requested_at + lifetime,
            accepted: AtomicBool::new(false),
        }
    }

    /// Whether it was obtained by this credential.
    pub(super) fn is_of(&self, credential: CredentialId) -> bool {
        self.credential == credential
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> &str {
        self.header.expose_secret()
    }

    /// The token without the scheme.
    pub(super) fn value(&self) -> &str {
        self.header().strip_prefix(SCHEME).unwrap_or_default()
    }

    /// When it expires.
    pub fn expires_at(&self) -> Mono {
        self.expires_at
    }

    /// Whether the provider has accepted it.
    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Records that the provider accepted it.
    pub(super) fn mark_accepted(&self) {
        if !self.is_accepted() {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }
}
