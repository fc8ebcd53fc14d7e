//! What calls say of the credentials, and what is kept of tokens: beside the circuit, because none of it is about how the
//! provider is doing.

use std::sync::Arc;

use crate::domain::breaker;
use crate::domain::time::Mono;
use crate::provider::auth::source::Pending;
use crate::provider::call::CallError;
use crate::provider::classify::Credentials;
use crate::provider::observe::{Core, Ended, State, Verdict};
use crate::provider::registry::Change;
use crate::provider::series::Code;

impl State {
    pub(super) fn judge_credentials(&mut self, said: Credentials, ended: &Ended, now: Mono) {
        match said {
            Credentials::Accepted => {
                self.authenticated = Some(true);
                self.refused_since = None;
                self.verdict = Verdict::Verified;
            }
            Credentials::Refused => {
                self.authenticated = Some(false);
                self.refused_since.get_or_insert(now);
                if matches!(self.verdict, Verdict::Pending | Verdict::AuthenticationFailed { .. }) {
                    self.verdict = Verdict::AuthenticationFailed { status: status_of(ended) };
                }
            }
            Credentials::Silent => {
                // An address that is not connected to is told as long as it is one, and no longer.
                let refused = |ended: &Ended| matches!(ended, Ended::Error(CallError::Refused(_)));
                let news = match &self.verdict {
                    Verdict::Pending => true,
                    Verdict::Inconclusive(before) => refused(before) != refused(ended),
                    Verdict::Verified | Verdict::AuthenticationFailed { .. } => false,
                };
                if news {
                    self.verdict = Verdict::Inconclusive(ended.clone());
                }
            }
        }
    }
}

fn status_of(ended: &Ended) -> u16 {
    match ended {
        Ended::Status(status) | Ended::Error(CallError::CredentialsRefused { status }) => *status,
        Ended::Error(_) => 0,
    }
}

impl Core {
    /// Held while a refresh token is used.
    pub(crate) fn pending_refresh(&self) -> &tokio::sync::Mutex<Option<Pending>> {
        self.refreshing.get_or_init(Box::default)
    }

    /// Counts a request for a token: HTTP status or our word for what happened.
    pub(crate) fn token_asked(&self, code: Result<u16, &'static str>, outcome: &'static str) {
        let code = code.map_or_else(Code::Word, Code::Status);
        self.lock().counts.request(&Arc::from("token"), code, outcome);
    }

    /// The circuit of the token endpoint moved: a line in the log, and a new look at the status.
    pub(crate) fn token_circuit_moved(&self, from: breaker::State, to: breaker::State) {
        tracing::info!(
            namespace = %self.key.namespace, name = %self.key.name, from = from.as_str(), to = to.as_str(),
            "circuit of the token endpoint moved"
        );
        self.listeners.tell(&Change::Observed(self.key.clone()));
    }
}
