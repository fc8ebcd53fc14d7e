//! The states of attempts and of payouts. Pure.

use crate::domain::closed_list::closed_list;

closed_list!(
    "attempt state",
    /// Where an attempt to pay a payout stands.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    AttemptState {
        Planned = "planned": "The bank is chosen; nothing was handed out." => "None.",
        IntentWritten = "intent_written": "The attempt is stored and may have been handed out and sent; nothing was reported yet." => "Report what became of it.",
        Submitted = "submitted": "The payout was sent to the bank." => "None; the bank's response is awaited.",
        Accepted = "accepted": "The bank acknowledged the payout and has not confirmed it." => "None; the confirmation is awaited.",
        Unknown = "unknown": "The bank did not answer; the payout may have been executed." => "None; the bank is inquired.",
        Stuck = "stuck": "The payout was not confirmed within `spec.stuck.after`." => "None; the bank is inquired.",
        Inquiring = "inquiring": "The bank is asked for the status of the payout, with backoff." => "None; see the timeline of the payout.",
        Recalling = "recalling": "The bank was asked to cancel the payout." => "None; see the timeline of the payout.",
        Confirmed = "confirmed": "The bank executed the payout." => "None.",
        Rejected = "rejected": "The bank refused the payout; no money left the account." => "None; another attempt is allowed.",
        Returned = "returned": "The money came back to the account." => "None; another attempt is allowed.",
        Recalled = "recalled": "The bank cancelled the payout, and the money is in the account." => "None; another attempt is allowed.",
        NeverReceived = "never_received": "The bank proved that it never received the payout." => "None; another attempt is allowed.",
        ManualReview = "manual_review": "Held: neither execution nor non-execution could be proven." => "Resolve the payout with the bank's evidence, or let two people accept the risk of a duplicate.",
    }
);

impl AttemptState {
    /// Whether it says that the payout was not executed.
    pub const fn is_not_executed(self) -> bool {
        matches!(self, Self::Rejected | Self::Returned | Self::Recalled | Self::NeverReceived)
    }

    /// Whether nothing is expected to follow.
    pub const fn is_final(self) -> bool {
        self.is_not_executed() || matches!(self, Self::Confirmed)
    }
}

closed_list!(
    "payout state",
    /// Where a payout stands: what its attempts and its holds amount to.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    PayoutState {
        Open = "open": "An attempt is on its way." => "None.",
        Stuck = "stuck": "An attempt is unknown, or not confirmed in time; the bank is inquired, then asked to cancel." => "None; see the timeline of the payout.",
        Held = "held": "A person must decide; see the hold reason." => "Resolve the payout, or let two people accept the risk of a duplicate.",
        Frozen = "frozen": "The payout was, or may have been, executed twice; no attempt is allowed." => "Settle the duplicate with the banks, then resume the payout.",
        Confirmed = "confirmed": "The payout was executed." => "None.",
        NotExecuted = "not_executed": "Every attempt is proven not to have been executed." => "Decide the next attempt, or give the payout up.",
    }
);

closed_list!(
    "hold reason",
    /// Why a payout waits for a person.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    HoldReason {
        ManualOnly = "manual_only": "`spec.stuck.policy` is `ManualOnly`." => "Ask the bank; resolve the payout with its evidence.",
        NoInquiry = "no_inquiry": "The bank offers neither status inquiry nor recall." => "Ask the bank; resolve the payout with its evidence.",
        InquiryInconclusive = "inquiry_inconclusive": "Inquiries gave no proof, and no recall follows (`spec.stuck.policy`, or the bank offers none)." => "Ask the bank; resolve the payout with its evidence.",
        RecallRefused = "recall_refused": "The bank refused to cancel the payout." => "Ask the bank; the payout may have been executed.",
        RecallPending = "recall_pending": "The bank has not decided on the recall." => "Wait for the bank's answer, or ask it.",
        RecallUnanswered = "recall_unanswered": "The bank gave no proof after the recall." => "Ask the bank; resolve the payout with its evidence.",
        Contradicted = "contradicted": "The bank's messages contradict each other." => "Ask the bank which one is true; resolve the payout with its evidence.",
        DuplicateDetected = "duplicate_detected": "Two attempts were executed, or an attempt was executed while a newer one may be." => "Recall the newer attempt at its bank at once.",
        ReturnedAfterConfirmation = "returned_after_confirmation": "The money of a confirmed payout came back." => "Find out why before the next attempt, for example a closed account.",
        NoBank = "no_bank": "The next attempt is allowed, and no bank could take it for a day." => "See the route; decide the next attempt once a bank is available.",
        CostsMore = "costs_more": "The next attempt is allowed, and costs more than `spec.stuck.maxRerouteCostBasisPoints` allows without a person." => "Decide the next attempt, or raise the limit and resume the payout.",
        AttemptsExhausted = "attempts_exhausted": "The payout was attempted as often as is allowed without a person." => "Find out why every bank refuses it, then decide the next attempt.",
        RestoredWithLoss = "restored_with_loss": "The ledger was restored with loss of newer entries; attempts may be missing." => "Compare with the bank's statement; resolve the payout.",
    }
);
