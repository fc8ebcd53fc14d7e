//! Why a candidate is in its state.

use crate::domain::closed_list::closed_list;

closed_list!(
    "candidate reason",
    /// Reason for a candidate's state, as in `status.candidates[].reason` and `status.lastFailover.reason`.
    #[derive(serde::Serialize, serde::Deserialize)]
    CandidateReason {
        LowestCost: "No other candidate costs less." => "None.",
        HigherCost: "Another candidate costs less." => "None.",
        TieBrokenBySuccess: "Another candidate costs the same and succeeds more often." => "None.",
        TieBrokenByScore: "Another candidate costs the same, succeeds as often and has a higher score." => "None, or correct candidates[].score.",
        TieBrokenByName: "Another candidate costs the same, and its name sorts first." => "None.",
        CostUnknown: "The cost of the candidate cannot be computed: no fee entry applies to the payout, or an exchange rate is missing or older than referenceRates.maxAge." => "Add a fee entry that applies, or the rate to spec.referenceRates.",
        Pinned: "spec.pin names the candidate." => "Remove spec.pin, or wait for its untilTime.",
        PinnedByOps: "A pin that was set through the API names the candidate." => "Delete the pin (DELETE /api/treasury/routing/adjustments), or wait for its expires_at.",
        OtherPinned: "A pin names another candidate, which is available; this one would be chosen without it." => "Remove spec.pin or the pin of the API, or wait for its end.",
        PredictiveHybrid: "An approved proposal of the forecast names the candidate (spec.mode Hybrid)." => "Wait for the end of the approval, or pin another candidate.",
        OtherApproved: "An approved proposal of the forecast names another candidate, which is available; this one would be chosen without it." => "Wait for the end of the approval, or pin this candidate.",
        PredictedOutage: "An outage of the bank is predicted (spec.mode Predictive): it takes payouts only if no other candidate can." => "Check the bank; it is ranked by cost again when the prediction has passed.",
        KeptByHysteresis: "The candidate is active, and no other one is cheaper by spec.hysteresis." => "None, or lower spec.hysteresis.",
        WithinHysteresis: "The candidate is the cheapest, but not by as much as spec.hysteresis asks for." => "None, or lower spec.hysteresis.",
        PrimaryAvailable: "The candidate is a Fallback, and a Primary is available." => "None.",
        ConnectionNotFound: "The connection does not exist in this namespace." => "Create the connection, or remove the candidate.",
        ConnectionNotReady: "The connection is not Ready." => "Check the conditions of the connection.",
        Suspended: "The connection is suspended." => "Resume the connection.",
        Maintenance: "The connection is in a maintenance window (spec.maintenance)." => "None; the window ends automatically.",
        ForcedOpen: "circuitOverride forces the circuit open." => "Remove circuitOverride, or wait for untilTime.",
        CircuitOpen: "The circuit of the connection is open." => "Check the connection; the circuit retries automatically.",
        CircuitHalfOpen: "The circuit is half-open; payouts wait until it closes." => "None; a probe decides.",
        Unhealthy: "The last health checks of the connection failed, healthCheck.unhealthyThreshold in a row." => "Check the condition Healthy of the connection; the candidate returns when checks pass, or force the circuit closed.",
        NeverHealthy: "No health check of the connection has ever passed at this endpoint with this spec.auth." => "Check the conditions of the connection; the candidate is available as soon as a check passes.",
        CurrencyNotServed: "The candidate does not support the currency." => "None, or correct candidates[].currencies.",
        CountryNotServed: "The candidate does not support the country." => "None, or correct candidates[].countries.",
        RailNotServed: "The candidate does not support the rail." => "None, or correct candidates[].rails.",
        AmountOutOfRange: "The amount is outside the candidate's limits." => "None, or correct minAmount and maxAmount.",
        LimitUnknown: "The candidate has a limit in referenceCurrency, and the rate of the payout's currency is missing or older than referenceRates.maxAge." => "Add the rate to spec.referenceRates, or update its asOfTime.",
        DailyLimitReached: "The payout would exceed the candidate's dailyLimit." => "None; the limit starts anew at midnight in its timeZone, or raise dailyLimit.",
        CutOff: "The current time is outside the candidate's acceptWindows." => "None; the next window opens automatically.",
    }
);
