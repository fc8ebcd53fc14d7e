//! Condition types, reasons and event reasons of status and events.
//!
//! Closed lists: users alert on these names, so they are added or deprecated, never renamed. Each [`Reason`] has a
//! meaning and a remedy; `docs/reference/reasons.md` is generated from here. Messages are written by the controllers.

string_enum!(
    /// Type of a condition.
    ConditionType {
        /// Spec accepted, references resolved, and one verification attempt completed. A provider outage never sets it
        /// to False.
        Ready,
        /// The operator is still working towards Ready. Only while True.
        Reconciling,
        /// The operator cannot make progress until the spec or the operator's configuration changes. Only while True.
        Stalled,
        /// `ProviderConnection`: health checks pass.
        Healthy,
        /// `ProviderConnection`: the provider accepts the credential.
        Authenticated,
        /// `ProviderConnection`: rate limited by the provider, or a quota is exhausted. Only while True.
        Throttled,
        /// `ProviderConnection`: the circuit rejects calls. Only while True.
        CircuitOpen,
        /// `SyncJob`: the data is within its maximum staleness.
        Fresh,
        /// `SyncJob`: too many records do not match the expected schema. Only while True.
        SchemaDrifted,
        /// `SyncJob`: rejected records are stored as dead letters. Only while True.
        DeadLetters,
        /// `BankRoute`: a bank is available for the reference payout.
        Available,
        /// `BankRoute`: available, but with fewer candidates than declared. Only while True.
        Degraded,
        /// `BankRoute`: payouts are held for a bank or for a review. Only while True.
        PayoutsHeld,
        /// `spec.suspend` is true. Only while True.
        Suspended,
    }
);

string_enum!(
    /// Reason of an event.
    EventReason {
        /// The provider accepted the credential.
        ConnectionVerified,
        /// The provider rejected the credential.
        AuthenticationFailed,
        /// The circuit opened; calls fail fast.
        CircuitOpened,
        /// The circuit closed; calls are admitted again.
        CircuitClosed,
        /// Rate limited by the provider, or a quota is exhausted.
        ProviderThrottled,
        /// The referenced Secret changed, and its new content is in use.
        CredentialRotated,
        /// The effective breaker policy changed.
        PolicyChanged,
        /// A run succeeded after failures, or with changes.
        SyncSucceeded,
        /// A run failed.
        SyncFailed,
        /// A scheduled run was missed: it could not start within `startingDeadline`.
        SyncMissed,
        /// The data is older than `sla.maxStaleness`.
        StalenessExceeded,
        /// Too many records of a page do not match the expected schema.
        SchemaDrifted,
        /// The active bank was excluded, and the route failed over to another bank.
        FailedOver,
        /// The route failed back to the bank that the last failover left.
        FailedBack,
        /// No bank is available for the reference payout.
        NoBankAvailable,
        /// A payout is held for a bank or for a review.
        PayoutHeld,
        /// An override, a pin or an adjustment took effect.
        OverrideApplied,
        /// An override, a pin or an adjustment expired.
        OverrideExpired,
    }
);

/// Declares the reasons, each with its meaning and remedy.
macro_rules! reasons {
    ($( $variant:ident: $meaning:literal => $remedy:literal ),+ $(,)?) => {
        string_enum!(
            /// Reason of a condition, candidate, run or circuit state.
            Reason { $( #[doc = $meaning] $variant ),+ }
        );

        impl Reason {
            /// Remedy for the user.
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$variant => $remedy ),+ }
            }
        }
    };
}

reasons!(
    // Ready, while it is True.
    Accepted: "The spec is valid and its references are resolved." => "None.",
    Verified: "The provider accepted the credential of the connection." => "None.",
    Unverified: "No conclusive response about the credential: the provider timed out, failed, is in maintenance, is not probed, or the connection is suspended." => "Check the condition Healthy; verification completes with the next response of the provider.",
    // Ready=False with Reconciling: resolved by another object, or by time.
    Progressing: "The operator has observed the object and is reconciling it." => "Wait; if it persists, check the operator's log.",
    AuthenticationFailed: "The provider rejected the credential." => "Put a valid credential into the Secret named in the message; it is read again within 60 s.",
    SecretNotFound: "A referenced Secret does not exist in this namespace." => "Create the Secret named in the message, or correct the reference.",
    SecretKeyMissing: "A referenced Secret does not have a required key." => "Add the key named in the message to the Secret, or select another key with secretRef.key.",
    SecretKeyInvalid: "A key of a referenced Secret is empty, is not UTF-8, or is not valid PEM where PEM is required." => "Correct the value of the key named in the message; check for trailing bytes.",
    SecretForbidden: "The operator is not allowed to read a referenced Secret." => "Grant the operator `get` on Secrets in this namespace: bind ClusterRole busbar-operator as in config/rbac/namespaced.yaml; the Secret is read again within 60 s.",
    ConnectionNotFound: "A referenced ProviderConnection does not exist in this namespace." => "Create the connection named in the message, or correct the reference.",
    ConnectionNotReady: "A referenced ProviderConnection is not Ready." => "Check the conditions of that connection.",
    BreakerPolicyNotFound: "The referenced BreakerPolicy does not exist in this namespace." => "Create the policy named in the message, or correct the reference.",
    SyncJobNotFound: "The SyncJob of partitionsFrom does not exist in this namespace." => "Create the job named in the message, or correct the reference.",
    // Ready=False with Stalled: resolved only by a change of the spec or of the operator's configuration.
    InvalidSpec: "A field is valid in the schema, but its value cannot be used." => "Correct the field named in the message.",
    InvalidSchedule: "A cron expression or a time zone is invalid." => "Correct the field named in the message: five cron fields, an IANA time zone.",
    ProfileNotFound: "The operator has no profile of this name." => "Use a built-in provider, or load the profile with --profiles-dir.",
    StreamNotFound: "The profile of the connection has no stream of this name." => "Use one of the streams listed in the message.",
    DependencyCycle: "partitionsFrom leads back to this SyncJob." => "Break the cycle named in the message.",
    KeyMissing: "Data must be encrypted, but the operator has no key." => "Start the operator with --key-secret; for a SyncJob, setting retention.mode to \"Off\" or Masked also works.",
    AddressNotAllowed: "The host of the provider or of its token endpoint has an address that is not public and not allowed by the operator's flags." => "Use a public address, or have the administrator allow the range with --allow-provider-addresses.",
    LedgerNotShared: "execution: Job requires a ledger that Pods can share." => "Use PostgreSQL, or execution: InProcess.",
    NotImplemented: "A field is set that this release does not implement and cannot safely ignore." => "Remove the field named in the message, or use a release that implements it.",
    PolicyInvalid: "The effective breaker policy is Stalled." => "Correct the policy named in the message.",
    // Suspended.
    Suspended: "spec.suspend is true." => "Set suspend to false, or remove it.",
    // Healthy.
    ChecksPassing: "The last health checks passed." => "None.",
    ChecksFailing: "unhealthyThreshold consecutive health checks failed." => "See the message for the error class; contact the provider.",
    ResponsesSlow: "Health checks pass, but are slower than latencyThreshold." => "Contact the provider, or raise latencyThreshold.",
    RiskElevated: "The risk score is elevated." => "Monitor it; routes already take it into account.",
    NotChecked: "No health check has completed yet, or health checks are disabled (Passive, suspended, maintenance)." => "None, or request a check with busbar.dev/requestedAt.",
    // Authenticated.
    CredentialAccepted: "The provider accepted the credential." => "None.",
    TokenUnavailable: "No access token available: the token endpoint fails, its circuit is open, or a rotated refresh token could not be stored." => "See the message; contact the provider about its token endpoint. Token requests are retried.",
    CredentialNotRequired: "The connection sends no credential." => "None.",
    // Throttled.
    RateLimited: "Rate limited by the provider: it responded with 429 or Retry-After; calls are delayed, and probes are skipped." => "None; calls continue after throttledUntilTime. Reduce the load if it recurs.",
    QuotaExhausted: "The requests allowed by the limits are exhausted." => "Wait until the limit resets, or ask the provider for a higher limit.",
    // Circuits: why the state changed.
    ConsecutiveFailures: "trip.consecutiveFailures consecutive failures." => "Check the condition Healthy; the circuit retries automatically.",
    FailureRatio: "The share of failures in the window reached trip.failurePercent." => "Check the condition Healthy; the circuit retries automatically.",
    SlowCalls: "The share of slow calls in the window reached trip.slowCallPercent." => "Contact the provider; the circuit retries automatically.",
    Health: "Health became critical, and trip.unhealthy is Open." => "Check the condition Healthy; the circuit retries automatically.",
    Flapping: "The circuit opened three times within an hour." => "Contact the provider; consider an open.factor above 1.",
    TrialTaken: "The open time ended, and a trial is in flight." => "None.",
    TrialsSucceeded: "Enough trials succeeded." => "None.",
    TrialFailed: "A trial failed or was slow." => "Check the condition Healthy; the circuit retries automatically.",
    TrialLost: "A second trial did not report within its lease." => "Check the condition Healthy; the circuit retries automatically.",
    DwellExceeded: "The circuit was half-open for halfOpen.maxDwell without a result." => "Send traffic or probes through the connection.",
    OverrideApplied: "circuitOverride is in effect." => "Remove circuitOverride, or wait for untilTime.",
    OverrideExpired: "circuitOverride expired." => "None.",
    Restored: "The state was restored from status after a restart." => "None.",
    PolicyChanged: "The effective breaker policy changed." => "None.",
    // Fresh.
    WithinStaleness: "The last successful run is within the maximum staleness." => "None.",
    StalenessExceeded: "Data is stale: no successful run within the maximum staleness." => "See status.lastResult and status.history.",
    NeverSucceeded: "No run has succeeded yet." => "Wait for the first run; see status.lastResult.",
    // Runs that did not succeed, SchemaDrifted, DeadLetters.
    CircuitOpen: "The circuit of the connection is open." => "Check the connection; the circuit retries automatically.",
    ConnectionSuspended: "The connection is suspended." => "Resume the connection.",
    Maintenance: "The connection is in a maintenance window (spec.maintenance)." => "None; the window ends automatically.",
    ProviderError: "The provider responded with an error." => "See the message for the status code; contact the provider.",
    ProviderUnreachable: "The provider did not respond: connect error, TLS error, timeout or connection reset." => "Check the address, the network policy and the provider.",
    InvalidResponse: "The response does not match the profile." => "Compare the profile with the documentation of the provider.",
    ResponseTooLarge: "The response exceeds the allowed size or nesting depth." => "Request smaller pages.",
    PaginationCycle: "The provider returned the same page twice." => "Report it to the provider; the cursor did not move.",
    RunTimeout: "The run exceeded runTimeout." => "Raise runTimeout; the next run continues from the last committed page.",
    RunCanceled: "The run was stopped: replaced, suspended, spec changed or operator shut down." => "None; the next run continues from the last committed page.",
    LedgerUnavailable: "The ledger could not be read or written." => "Check the disk or server of the ledger; runs continue automatically.",
    LeaseLost: "Another process took over the run." => "None.",
    DeadLetterBudgetExceeded: "The rejected records of a page exceed deadLetterBudgetPercent; the page was not committed." => "Compare the records with the profile; correct the profile, or raise the budget.",
    RecordsRejected: "Rejected records are stored as dead letters." => "Inspect them, then replay or purge them.",
    // Available, Degraded, PayoutsHeld.
    CandidateAvailable: "A bank is available for the reference payout." => "None.",
    NoBankAvailable: "No candidate is available for the reference payout." => "See status.candidates for the reason of each.",
    CandidatesUnresolved: "Some candidates reference a connection that does not exist." => "Create the connections named in the message, or remove the candidates.",
    AwaitingBank: "Payouts are held for a bank." => "Check the condition Available.",
    AwaitingReview: "Payouts are held for a review." => "Review them.",
    // Candidates.
    LowestCost: "No other candidate costs less." => "None.",
    HigherCost: "Another candidate costs less." => "None.",
    TieBrokenByName: "Another candidate costs the same, and its name sorts first." => "None.",
    PrimaryAvailable: "The candidate is a Fallback, and a Primary is available." => "None.",
    Pinned: "The route is pinned to this candidate." => "Remove the pin, or wait for its untilTime.",
    PinnedAway: "The route is pinned to another candidate." => "Remove the pin, or wait for its untilTime.",
    ForcedOpen: "circuitOverride forces the circuit open." => "Remove circuitOverride, or wait for untilTime.",
    CircuitHalfOpen: "The circuit is half-open; payouts wait until it closes." => "None; a probe decides.",
    CurrencyNotServed: "The candidate does not support the currency." => "None, or correct candidates[].currencies.",
    CountryNotServed: "The candidate does not support the country." => "None, or correct candidates[].countries.",
    RailNotServed: "The candidate does not support the rail." => "None, or correct candidates[].rails.",
    AmountOutOfRange: "The amount is outside the candidate's limits." => "None, or correct minAmount and maxAmount.",
    DailyLimitReached: "The dailyLimit of the candidate is exhausted." => "None; it resets at midnight of its time zone.",
    CutOff: "The current time is outside the candidate's acceptWindows." => "None; the next window opens automatically.",
    CostUnknown: "The cost of the candidate cannot be compared: no fee entry or exchange rate applies." => "Add the fee entry or the reference rate.",
    LimitUnknown: "The limits of the candidate cannot be compared: no exchange rate applies." => "Add the reference rate.",
);
