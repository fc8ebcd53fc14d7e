//! Condition types, and the reasons of conditions and events.
//!
//! Closed lists: users alert on these names, so they are added or deprecated, never renamed. Each [`Reason`] has the
//! types of the conditions that it occurs on, a meaning and a remedy. Messages are written by the controllers. Reasons of
//! circuits, candidates, runs and rejected records stand in `domain`; `docs/reference/reasons.md` is generated from all
//! of them. A test (`app::reasons`) shows that each reason is emitted: one of a feature to come enters with its feature.

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
        /// `ProviderConnection`: rate limited by the provider. Only while True.
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
        /// `BankRoute`: payouts wait for a person. Only while True.
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
        /// Health checks fail: the provider is Unhealthy. The message says the class of the failure.
        ChecksFailing,
        /// The circuit opened; calls fail fast.
        CircuitOpened,
        /// The circuit closed; calls are admitted again.
        CircuitClosed,
        /// Rate limited by the provider.
        ProviderThrottled,
        /// The referenced Secret changed, and its new content is in use.
        CredentialRotated,
        /// The effective breaker policy changed.
        PolicyChanged,
        /// The result of runs changed to Succeeded.
        SyncSucceeded,
        /// The result of runs changed to Failed.
        SyncFailed,
        /// A scheduled run was missed: it could not start within `startingDeadline`.
        SyncMissed,
        /// The data is older than `sla.maxStaleness`.
        StalenessExceeded,
        /// A run read the provider's list to a point that is not known to be its end.
        SyncIncomplete,
        /// Records of the provider do not match the stream's schema.
        SchemaDrifted,
        /// Consecutive failed runs of a partition reached `sla.failureStreak`.
        FailureStreakReached,
        /// Consecutive runs without a record reached `sla.emptyStreak`.
        EmptyStreakReached,
        /// The requests of a partition took longer than `sla.fetchDuration`.
        FetchDurationExceeded,
        /// A resync (`spec.resync`, or requested over HTTP) was completed.
        ResyncCompleted,
        /// An older `SyncJob` reads the same source; this one does not run.
        DuplicateSource,
        /// The data of a deleted `SyncJob` was deleted (`deletionPolicy: Delete`); what is kept, and why.
        DataDeleted,
        /// The active bank was excluded, and the route failed over to another bank.
        FailedOver,
        /// The route failed back to a bank that a failover left.
        FailedBack,
        /// No bank is available for the reference payout.
        NoBankAvailable,
        /// A pin names a bank that is excluded: it has no effect until the bank is available.
        PinWithoutEffect,
        /// Mode `Hybrid`: the forecast proposes a failover, which waits for approval.
        FailoverProposed,
        /// A proposed failover was rejected.
        ProposalRejected,
        /// A proposed failover was neither approved nor rejected in time.
        ProposalLapsed,
        /// Payouts wait for a person: their fate could not be proven, or one was executed twice.
        PayoutHeld,
        /// Exchanges or queues of the message broker differ from the declared ones; about the leader lease.
        TopologyMismatch,
        /// `circuitOverride` took effect.
        OverrideApplied,
        /// `circuitOverride` expired.
        OverrideExpired,
    }
);

/// Declares the reasons, each with the types of its conditions, its meaning and its remedy.
macro_rules! reasons {
    ($( $variant:ident [$( $type:ident ),+]: $meaning:literal => $remedy:literal ),+ $(,)?) => {
        string_enum!(
            /// Reason of a condition.
            Reason { $( #[doc = $meaning] $variant ),+ }
        );

        impl Reason {
            /// Types of the conditions that have this reason.
            pub const fn conditions(self) -> &'static [ConditionType] {
                match self { $( Self::$variant => &[$( ConditionType::$type ),+] ),+ }
            }

            /// Remedy for the user.
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$variant => $remedy ),+ }
            }
        }
    };
}

reasons!(
    // Ready, while it is True.
    Accepted [Ready]: "The spec is valid and its references are resolved." => "None.",
    Verified [Ready]: "The provider accepted the credential of the connection." => "None.",
    Unverified [Ready, Authenticated]: "No conclusive response about the credential: the provider timed out, failed, is in maintenance, is not probed, or the connection is suspended." => "Check the condition Healthy; verification completes with the next response of the provider.",
    // Ready=False with Reconciling: resolved by another object, or by time.
    AuthenticationFailed [Ready, Reconciling, Authenticated]: "The provider rejected the credential." => "Put a valid credential into the Secret referenced by spec.auth; it is read again within 60 s.",
    SecretNotFound [Ready, Reconciling, Healthy, Authenticated]: "A referenced Secret does not exist in this namespace." => "Create the Secret named in the message, or correct the reference.",
    SecretKeyMissing [Ready, Reconciling, Healthy, Authenticated]: "A referenced Secret does not have a required key." => "Add the key named in the message to the Secret, or select another key with secretRef.key.",
    SecretKeyInvalid [Ready, Reconciling, Healthy, Authenticated]: "A key of a referenced Secret is empty, is not UTF-8, or is not valid PEM where PEM is required." => "Correct the value of the key named in the message; check for trailing bytes.",
    SecretForbidden [Ready, Reconciling, Healthy, Authenticated]: "The operator is not allowed to read a referenced Secret." => "Grant the operator `get` on Secrets in this namespace: bind ClusterRole busbar-secrets as in config/rbac/secrets.yaml; the Secret is read again within 15 s.",
    ConnectionNotFound [Ready, Reconciling, Fresh]: "A referenced ProviderConnection does not exist in this namespace." => "Create the connection named in the message, or correct the reference.",
    ConnectionNotReady [Ready, Reconciling, Fresh]: "A referenced ProviderConnection is not Ready." => "Check the conditions of that connection.",
    BreakerPolicyNotFound [Ready, Reconciling, Healthy, Authenticated]: "The referenced BreakerPolicy does not exist in this namespace." => "Create the policy named in the message, or correct the reference.",
    PolicyInvalid [Ready, Reconciling, Healthy, Authenticated]: "The effective breaker policy is Stalled." => "Correct the policy named in the message.",
    SyncJobNotFound [Ready, Reconciling, Fresh]: "The SyncJob that spec.partitionsFrom references does not exist in this namespace." => "Create the job named in the message, or correct the reference.",
    LedgerUnavailable [Ready, Reconciling, Fresh]: "The ledger cannot be written or read: its volume is full, read-only or failing, or another process holds its lock. No run starts; freshness is Unknown if it cannot be read." => "Follow the message; runs start by themselves when the ledger can be written again.",
    // Ready=False with Stalled: resolved only by a change of the spec or of the operator's configuration.
    InvalidSpec [Ready, Stalled, Healthy, Authenticated, Fresh, Available]: "A field is valid in the schema, but its value cannot be used." => "Correct the field named in the message.",
    InvalidSchedule [Ready, Stalled, Healthy, Authenticated, Fresh, Available]: "A cron expression or a time zone is invalid." => "Correct the field named in the message: five cron fields, an IANA time zone.",
    ProfileNotFound [Ready, Stalled, Healthy, Authenticated]: "The operator has no profile of this name." => "Use a built-in provider, or load the profile with --profiles-dir.",
    StreamNotFound [Ready, Stalled, Fresh]: "The profile of the connection has no stream of this name." => "Use one of the streams listed in the message.",
    KeyMissing [Ready, Stalled, Healthy, Authenticated, Fresh]: "Data must be encrypted, but the operator has no key." => "Start the operator with --key-secret; for a SyncJob, setting retention.mode to \"Off\" or Masked also works.",
    AddressNotAllowed [Ready, Reconciling, Stalled, Healthy, Authenticated]: "The host of the provider or of its token endpoint has an address that is not public and not allowed by the operator's flags." => "Use a public address, or have the administrator allow the range with --allow-provider-addresses.",
    DuplicateSource [Ready, Stalled, Fresh]: "An older SyncJob reads the same source: the same connection, stream, partition and parameters that select what is read." => "Delete one of the two jobs, or change spec.parameters or spec.partitions of one; a dry run (spec.dryRun) may share a source.",
    ReferenceCycle [Ready, Stalled, Fresh]: "spec.partitionsFrom leads back to a job that it has passed: each would wait for the records of the next." => "Remove partitionsFrom from one of the jobs named in the message.",
    LedgerNotShared [Ready, Stalled, Fresh]: "execution: Job requires a ledger that Pods can share." => "Use execution: InProcess, or a PostgreSQL ledger.",
    JobImageMissing [Ready, Stalled, Fresh]: "execution: Job requires the image of the Jobs, and the operator was started without one." => "Start the operator with --job-image, or use execution: InProcess.",
    NotImplemented [Ready, Stalled, Healthy, Authenticated]: "A field is set that this release does not implement and cannot safely ignore." => "Remove the field named in the message, or use a release that implements it.",
    // Suspended.
    Suspended [Suspended, Available]: "spec.suspend is true." => "Set suspend to false, or remove it.",
    // Healthy.
    ChecksPassing [Healthy]: "The last health checks passed." => "None.",
    ChecksFailing [Healthy]: "Health checks failed; unhealthyThreshold of them consecutively if the condition is False." => "See the message for the error class; contact the provider.",
    ResponsesSlow [Healthy]: "Health checks pass, but are slower than latencyThreshold." => "Contact the provider, or raise latencyThreshold.",
    RiskElevated [Healthy]: "The risk score is elevated." => "Monitor it; routes already take it into account.",
    NotChecked [Healthy]: "No health check has completed yet, or health checks are disabled (Passive, suspended)." => "None, or request a check with busbar.dev/requestedAt.",
    Maintenance [Healthy]: "The connection is in a maintenance window (spec.maintenance)." => "None; the window ends automatically.",
    // Authenticated.
    CredentialAccepted [Authenticated]: "The provider accepted the credential." => "None.",
    TokenUnavailable [Healthy, Authenticated]: "No access token available: the token endpoint fails, its circuit is open, or a rotated refresh token could not be stored." => "See the message; contact the provider about its token endpoint. Token requests are retried.",
    CredentialNotRequired [Authenticated]: "The connection sends no credential." => "None.",
    // Throttled.
    RateLimited [Throttled]: "Rate limited by the provider: it responded with 429 or Retry-After; calls are delayed, and probes are skipped." => "None; calls continue after throttledUntilTime. Reduce the load if it recurs.",
    // CircuitOpen.
    CircuitOpen [CircuitOpen]: "The circuit is open: calls fail fast until a trial succeeds." => "Check the condition Healthy; the circuit retries automatically.",
    CircuitHalfOpen [CircuitOpen]: "The circuit is half-open: trials decide whether it closes; payouts wait." => "None; a probe decides.",
    Flapping [CircuitOpen]: "The circuit opened three times within an hour." => "Contact the provider; consider an open.factor above 1.",
    ForcedOpen [CircuitOpen]: "circuitOverride forces the circuit open." => "Remove circuitOverride, or wait for untilTime.",
    // Fresh.
    FailureStreak [Fresh]: "The last successful run is within the maximum staleness, but sla.failureStreak consecutive runs have failed since." => "See the message for the cause; the next successful run ends it.",
    EmptyStreak [Fresh]: "The last sla.emptyStreak runs succeeded and read no record." => "Check whether the account is still connected at the provider, and spec.parameters.",
    WithinStaleness [Fresh]: "The last successful run is within the maximum staleness." => "None.",
    StalenessExceeded [Fresh]: "Data is stale: no successful run within the maximum staleness." => "See status.lastResult and status.history.",
    NeverSucceeded [Fresh]: "No run has succeeded yet." => "Wait for the first run; see status.lastResult.",
    ListIncomplete [Fresh]: "The last run that reached an end read the list of the provider to a point that is not known to be its end: its own total was not reached, its next page was unreadable or one read before, or it kept changing. What was read is committed." => "See the message and status.history; the next run that is complete ends the condition.",
    // SchemaDrifted, DeadLetters.
    NoValidRecords [SchemaDrifted]: "The response has no list of records where the profile declares it, or none of three or more records of a page is valid; the page was not committed." => "Compare the response with the profile; correct the profile: emptyAs says what stands for an empty list.",
    DeadLetterBudgetExceeded [SchemaDrifted]: "The rejected records of a page exceed deadLetterBudgetPercent, and are more than five; the page was not committed." => "Compare the rejected records with the profile; correct the profile, or raise the budget.",
    RecordsRejected [DeadLetters]: "Rejected records are stored as dead letters." => "Inspect them in the ledger.",
    // Available, Degraded.
    CandidateAvailable [Available]: "A bank is available for the reference payout." => "None.",
    NoBankAvailable [Available]: "No candidate is available for the reference payout." => "See status.candidates for the reason of each.",
    PinWithoutEffect [Available]: "A bank is available, but not the one that a pin names: it is excluded, so the pin has no effect." => "None: the pin takes effect when the bank is available; or remove the pin.",
    ScorerNotFound [Degraded]: "spec.scorer references a connection that does not exist; the built-in forecaster is used." => "Create the connection named in the message, or remove spec.scorer.",
    PayoutsHeld [PayoutsHeld]: "Payouts of the route wait for a person: their fate could not be proven, or one was executed twice." => "List them (GET /api/treasury/payouts?state=held, and state=frozen), and resolve each with the bank's evidence.",
    CandidatesUnresolved [Degraded]: "Some candidates reference a connection that does not exist." => "Create the connections named in the message, or remove the candidates.",
);
