//! Reasons of transitions.

use crate::domain::closed_list::closed_list;

closed_list!(
    "circuit reason",
    /// Reason of a transition, as in `status.circuitState.reason` and the label `reason`.
    TripReason {
        ConsecutiveFailures: "trip.consecutiveFailures consecutive failures." => "Check the condition Healthy; the circuit retries automatically.",
        FailureRatio: "The share of failures in the window reached trip.failurePercent." => "Check the condition Healthy; the circuit retries automatically.",
        SlowCalls: "The share of slow calls in the window reached trip.slowCallPercent." => "Contact the provider; the circuit retries automatically.",
        Health: "Health became critical, and trip.unhealthy is Open." => "Check the condition Healthy; the circuit retries automatically.",
        TrialTaken: "The open time ended, and a trial is in flight." => "None.",
        TrialsSucceeded: "Enough trials succeeded." => "None.",
        TrialFailed: "A trial failed or was slow." => "Check the condition Healthy; the circuit retries automatically.",
        TrialLost: "A second trial did not report within its lease." => "Check the condition Healthy; the circuit retries automatically.",
        DwellExceeded: "The circuit was half-open for halfOpen.maxDwell without a result." => "Send traffic or probes through the connection.",
        OverrideApplied: "circuitOverride took effect." => "Remove circuitOverride, or wait for untilTime.",
        OverrideExpired: "circuitOverride.untilTime passed." => "None.",
        OverrideRemoved: "circuitOverride was removed." => "None.",
        PolicyChanged: "The mode of the effective breaker policy changed." => "None.",
    }
);
