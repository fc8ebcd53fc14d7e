//! Calls as the breaker sees them: their class and their outcome.

/// Class of a call. Probes and reads may be trials of a half-open circuit; writes and money calls wait until it is
/// closed, so that a payment is never a trial.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CallClass {
    /// A health check: one attempt, never rejected.
    Probe,
    /// A call without side effects at the provider.
    Read,
    /// A call with side effects that moves no money.
    Write,
    /// A call that moves money.
    Money,
}

impl CallClass {
    /// Whether calls of this class may be trials of a half-open circuit.
    pub const fn may_be_trial(self) -> bool {
        matches!(self, Self::Probe | Self::Read)
    }
}

/// Outcome of a call for the breaker. One outcome per call, after its last attempt.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum CallOutcome {
    /// The provider succeeded.
    Success,
    /// The provider failed, by the policy's `classify`.
    Failure,
    /// A health check failed for a cause that the provider cannot correct: credentials, rights, quota, token endpoint, a
    /// request or a client that cannot be built. It counts among consecutive failures, but only a failure of the provider
    /// trips the circuit; it is in no window and decides no trial.
    OwnFault,
    /// No information about the provider: client errors, 401/403, 429.
    Ignored,
}
