//! What a connection keeps about its token endpoint, also across changes of settings.

use std::sync::Arc;

use crate::domain::breaker;
use crate::provider::auth::client_authentication::AcceptedMethod;
use crate::provider::auth::refresh_lock::RefreshLock;
use crate::provider::auth::token_fault::TokenFault;
use crate::provider::metrics::ResultCode;
use crate::provider::monitor::ConnectionMonitor;

impl ConnectionMonitor {
    /// The lock that is held while a refresh token is used.
    pub(crate) fn refresh_lock(&self) -> &RefreshLock {
        self.refresh_lock.get_or_init(Box::default)
    }

    /// How the client of the connection authenticates at its token endpoint, as far as that is known.
    pub(crate) fn accepted_method(&self) -> Arc<AcceptedMethod> {
        Arc::clone(self.accepted_method.get_or_init(Arc::default))
    }

    /// Records what the last token request showed to be at fault; nothing if it succeeded.
    pub(crate) fn set_token_fault(&self, fault: Option<TokenFault>) {
        let before = std::mem::replace(&mut self.lock().token_fault, fault);
        if before != fault {
            self.publish_external();
        }
    }

    /// Counts a token request.
    pub(crate) fn record_token_request(&self, code: ResultCode, outcome: &'static str) {
        self.lock().counts.request(&Arc::from("token"), code, outcome);
    }

    /// Logs a state change of the token endpoint's circuit and publishes it.
    pub(crate) fn token_circuit_changed(&self, from: breaker::BreakerState, to: breaker::BreakerState) {
        tracing::info!(
            namespace = %self.key.namespace, name = %self.key.name, from = from.as_str(), to = to.as_str(),
            "circuit state of the token endpoint changed"
        );
        self.publish_external();
    }
}
