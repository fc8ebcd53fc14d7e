//! Every machine-readable word that status and events may carry: condition types, reasons, event reasons.
//!
//! Closed on purpose: people alert on these words, so one is added or deprecated, never renamed. Each [`Reason`] says what
//! it means and what to do; `docs/reference/reasons.md` is printed from here. Messages belong to the writers.

closed_enum!(
    /// Which aspect of an object a condition speaks of.
    ConditionType {
        /// Spec accepted, references resolve, and one verification attempt has ended. An outage never turns it False.
        Ready,
        /// The operator is still working towards Ready. Only while True.
        Reconciling,
        /// No other object can repair this; the spec must change. Only while True.
        Stalled,
        /// `ProviderConnection`: what the checks say.
        Healthy,
        /// `ProviderConnection`: the provider accepts the credential.
        Authenticated,
        /// `ProviderConnection`: the provider asked for silence, or a quota is used up. Only while True.
        Throttled,
        /// `ProviderConnection`: the circuit refuses calls. Only while True.
        CircuitOpen,
        /// `SyncJob`: the data is within its maximum staleness.
        Fresh,
        /// `SyncJob`: too many records no longer look as expected. Only while True.
        SchemaDrifted,
        /// `SyncJob`: records were set aside and wait for someone. Only while True.
        DeadLetters,
        /// `BankRoute`: a bank can take the reference payout now.
        Available,
        /// `BankRoute`: it works, but with fewer candidates than declared. Only while True.
        Degraded,
        /// `BankRoute`: payouts wait for a bank or for a person. Only while True.
        PayoutsHeld,
        /// `spec.suspend` is true. Only while True.
        Suspended,
    }
);

closed_enum!(
    /// Reason of an event: a transition or an act that a user sees.
    EventReason {
        /// The provider accepted the credential.
        ConnectionVerified,
        /// The provider rejected the credential.
        AuthenticationFailed,
        /// The circuit opened; calls fail at once.
        CircuitOpened,
        /// The circuit closed; calls pass again.
        CircuitClosed,
        /// The provider asked for silence, or a quota is used up.
        ProviderThrottled,
        /// The referenced Secret changed and its new content is in use.
        CredentialRotated,
        /// Another breaker policy, or other values of it, are in effect.
        PolicyChanged,
        /// A run succeeded after failures, or with changes.
        SyncSucceeded,
        /// A run failed.
        SyncFailed,
        /// A run could not start within its deadline.
        SyncMissed,
        /// The data is older than `sla.maxStaleness`.
        StalenessExceeded,
        /// Too many records of a page no longer look as expected.
        SchemaDrifted,
        /// The active bank was excluded and another took over.
        FailedOver,
        /// A better bank is available again and took over.
        FailedBack,
        /// No bank can take the reference payout.
        NoBankAvailable,
        /// A payout waits for a bank or for a person.
        PayoutHeld,
        /// An override, a pin or an adjustment took effect.
        OverrideApplied,
        /// An override, a pin or an adjustment lost its effect.
        OverrideExpired,
    }
);

/// Declares the reasons: each with what it means and what to do.
macro_rules! reasons {
    ($( $variant:ident: $meaning:literal => $remedy:literal ),+ $(,)?) => {
        closed_enum!(
            /// Why a condition, a candidate, a run or a circuit is as it is.
            Reason { $( #[doc = $meaning] $variant ),+ }
        );

        impl Reason {
            /// What a user can do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$variant => $remedy ),+ }
            }
        }
    };
}

reasons!(
    // Ready, while it is True.
    Accepted: "The spec is valid and its references resolve." => "Nothing.",
    Verified: "The provider accepted the connection's credential." => "Nothing.",
    Unverified: "No verdict about the credential: the provider timed out, failed, is in maintenance, is not probed, or the connection is suspended." => "Look at Healthy; the verdict follows by itself when the provider answers.",
    // Ready=False with Reconciling: another object, or time, repairs it.
    Progressing: "The operator has seen the object and is working on it." => "Wait; if it stays, look at the operator's log.",
    AuthenticationFailed: "The provider rejected the credential." => "Put a valid credential into the Secret that the message names; it is read again within 60 s.",
    SecretNotFound: "A referenced Secret does not exist in this namespace." => "Create the Secret that the message names, or mend the reference.",
    SecretKeyMissing: "A referenced Secret lacks a key." => "Add the key that the message names to the Secret, or rename it with secretRef.key.",
    SecretKeyInvalid: "A key of a referenced Secret is empty, is not UTF-8, or is not a PEM file where one is needed." => "Write the key that the message names again, without a trailing byte that does not belong to it.",
    SecretForbidden: "The operator may not read a referenced Secret." => "Grant the operator `get` on Secrets in this namespace.",
    ConnectionNotFound: "A referenced ProviderConnection does not exist in this namespace." => "Create the connection that the message names, or mend the reference.",
    ConnectionNotReady: "A referenced ProviderConnection is not Ready." => "Look at that connection's conditions.",
    BreakerPolicyNotFound: "The referenced BreakerPolicy does not exist in this namespace." => "Create the policy that the message names, or mend the reference.",
    SyncJobNotFound: "The SyncJob named by partitionsFrom does not exist in this namespace." => "Create the job that the message names, or mend the reference.",
    // Ready=False with Stalled: only the spec, or the operator's set-up, repairs it.
    InvalidSpec: "A field passes the schema, but its value cannot be used." => "Change the field that the message names.",
    InvalidSchedule: "A cron expression or a time zone cannot be read." => "Change the field that the message names: five cron fields, an IANA time zone.",
    ProfileNotFound: "The operator knows no profile of this name." => "Use a built-in provider, or load the profile with --profiles-dir.",
    StreamNotFound: "The connection's profile has no stream of this name." => "Use one of the streams that the message names.",
    DependencyCycle: "partitionsFrom leads back to this SyncJob." => "Break the cycle that the message names.",
    KeyMissing: "Data would have to be encrypted, but the operator has no key." => "Give the operator --key-secret; for a SyncJob, setting retention.mode to \"Off\" or Masked does too.",
    AddressNotAllowed: "The provider's host, or its token endpoint's, has an address that is not public, and the operator's flag does not allow it." => "Use a public address, or have the operator's owner name the range in --allow-provider-addresses.",
    LedgerNotShared: "execution: Job needs a ledger that Pods can share." => "Use PostgreSQL, or execution: InProcess.",
    NotImplemented: "A field is set that this release does not implement, and ignoring it would be unsafe." => "Remove the field that the message names, or use a release that implements it.",
    PolicyInvalid: "The breaker policy in effect is Stalled." => "Mend the policy that the message names.",
    // Suspended.
    Suspended: "suspend is true." => "Set suspend to false, or remove it.",
    // Healthy.
    ChecksPassing: "The last checks passed." => "Nothing.",
    ChecksFailing: "unhealthyThreshold checks failed in a row." => "See the message for the class of failure; ask the provider.",
    ResponsesSlow: "Checks pass, but slower than latencyThreshold." => "Ask the provider, or raise latencyThreshold.",
    RiskElevated: "The risk score is raised." => "Watch it; routes already count it.",
    NotChecked: "No check has spoken yet, or none is made (Passive, suspended, maintenance)." => "Nothing, or request a check with busbar.dev/requestedAt.",
    // Authenticated.
    CredentialAccepted: "The provider accepted the credential." => "Nothing.",
    TokenUnavailable: "No access token is to be had: the token endpoint fails, its circuit is open, or a replaced refresh token cannot be kept." => "See the message; ask the provider about its token endpoint. Busbar goes on trying.",
    CredentialNotRequired: "The connection sends no credential." => "Nothing.",
    // Throttled.
    RateLimited: "The provider answered 429 or asked for silence." => "Nothing; calls go on after throttledUntilTime. Lower the load if it comes again.",
    QuotaExhausted: "The requests that the limits allow are used up." => "Wait for the limit to roll over, or ask the provider for more.",
    // Circuits: why the state changed.
    ConsecutiveFailures: "trip.consecutiveFailures failures in a row." => "See Healthy; the circuit tries again by itself.",
    FailureRatio: "The share of failures in the window reached trip.failurePercent." => "See Healthy; the circuit tries again by itself.",
    SlowCalls: "The share of slow calls in the window reached trip.slowCallPercent." => "Ask the provider; the circuit tries again by itself.",
    Health: "Health turned critical or down, and trip.unhealthy is Open." => "See Healthy; the circuit tries again by itself.",
    Flapping: "The circuit opened three times within an hour." => "Ask the provider; consider open.factor above 1.",
    TrialTaken: "The open time is over and a trial is under way." => "Nothing.",
    TrialsSucceeded: "Enough trials succeeded." => "Nothing.",
    TrialFailed: "A trial failed or was slow." => "See Healthy; the circuit tries again by itself.",
    TrialLost: "A second trial never reported back." => "See Healthy; the circuit tries again by itself.",
    DwellExceeded: "Half-open for halfOpen.maxDwell without a verdict." => "Send traffic or probes through the connection.",
    OverrideApplied: "circuitOverride is in effect." => "Remove circuitOverride, or wait for untilTime.",
    OverrideExpired: "circuitOverride lost its effect." => "Nothing.",
    Restored: "The state was taken over from status after a restart." => "Nothing.",
    PolicyChanged: "Another policy, or other values of it, took effect." => "Nothing.",
    // Fresh.
    WithinStaleness: "The last success is younger than the maximum staleness." => "Nothing.",
    StalenessExceeded: "The last success is older than the maximum staleness." => "See lastResult and history.",
    NeverSucceeded: "No run has succeeded yet." => "Wait for the first run; see lastResult.",
    // Runs that did not succeed, SchemaDrifted, DeadLetters.
    CircuitOpen: "The connection's circuit is open." => "See the connection; it is tried again by itself.",
    ConnectionSuspended: "The connection is suspended." => "Resume the connection.",
    Maintenance: "The connection is in a maintenance window." => "Nothing; it ends by itself.",
    ProviderError: "The provider answered with an error." => "See the message for the status code; ask the provider.",
    ProviderUnreachable: "No answer came: connect, TLS, time-out or reset." => "Check address, network policy and the provider.",
    InvalidResponse: "The answer could not be read as the profile promises." => "Compare the profile with the provider's documentation.",
    ResponseTooLarge: "The answer exceeds the size or depth that is allowed." => "Ask for smaller pages.",
    PaginationCycle: "The provider gave the same page twice." => "Report it to the provider; the cursor did not move.",
    RunTimeout: "The run took longer than runTimeout." => "Raise runTimeout; the next run goes on from the last page.",
    RunCanceled: "The run was stopped on purpose: replaced, suspended, changed or shut down." => "Nothing; the next run goes on from the last page.",
    LedgerUnavailable: "The ledger could not be read or written." => "Check the ledger's disk or server; runs go on by themselves.",
    LeaseLost: "Another process took the run over." => "Nothing.",
    DeadLetterBudgetExceeded: "More records of a page were rejected than deadLetterBudgetPercent allows; the page was not committed." => "Compare the records with the profile; mend it, or raise the budget.",
    RecordsRejected: "Records were set aside as dead letters." => "Look at them, then replay or purge them.",
    // Available, Degraded, PayoutsHeld.
    CandidateAvailable: "A bank can take the reference payout." => "Nothing.",
    NoBankAvailable: "No candidate can take the reference payout." => "See status.candidates for the reason of each.",
    CandidatesUnresolved: "Some candidates name a connection that does not exist." => "Create the connections that the message names, or remove the candidates.",
    AwaitingBank: "Payouts wait for a bank." => "See Available.",
    AwaitingReview: "Payouts wait for a person." => "Review them.",
    // Candidates.
    LowestCost: "No other candidate costs less." => "Nothing.",
    HigherCost: "Another candidate costs less." => "Nothing.",
    TieBrokenByName: "Another candidate costs the same and its name comes first." => "Nothing.",
    PrimaryAvailable: "A Fallback, and a Primary is available." => "Nothing.",
    Pinned: "A pin chose it." => "Remove the pin, or wait for its untilTime.",
    PinnedAway: "A pin chose another." => "Remove the pin, or wait for its untilTime.",
    ForcedOpen: "circuitOverride keeps the circuit open." => "Remove circuitOverride, or wait for untilTime.",
    CircuitHalfOpen: "The circuit is half-open; payouts wait until it is closed." => "Nothing; a probe decides.",
    CurrencyNotServed: "The candidate does not pay out in this currency." => "Nothing, or mend candidates[].currencies.",
    CountryNotServed: "The candidate does not pay out to this country." => "Nothing, or mend candidates[].countries.",
    RailNotServed: "The candidate does not offer this rail." => "Nothing, or mend candidates[].rails.",
    AmountOutOfRange: "The amount is outside the candidate's limits." => "Nothing, or mend minAmount and maxAmount.",
    DailyLimitReached: "The candidate's dailyLimit is used up." => "Nothing; it rolls over at midnight of its time zone.",
    CutOff: "Outside the candidate's acceptWindows." => "Nothing; the next window opens by itself.",
    CostUnknown: "The candidate's cost cannot be compared: no fee entry or no exchange rate fits." => "Add the fee entry or the reference rate.",
    LimitUnknown: "The candidate's limits cannot be compared for want of an exchange rate." => "Add the reference rate.",
);
