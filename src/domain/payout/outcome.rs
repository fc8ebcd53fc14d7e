//! What became of an attempt, as the system that submits payouts reports it. Pure.

use crate::domain::closed_list::closed_list;

closed_list!(
    "outcome class",
    /// What became of a decision, as its caller reports it.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    OutcomeClass {
        Success = "success": "The bank confirmed the payout." => "None.",
        BankFailure = "bank_failure": "The bank failed, and whether it executed the payout is unknown." => "Ask the bank; report rejected or not_sent once that is known.",
        Timeout = "timeout": "The bank did not answer in time, and whether it executed the payout is unknown." => "Ask the bank; report rejected or not_sent once that is known.",
        Throttle = "throttle": "The bank refused the call, because there were too many." => "Report not_sent if the payout was not sent later.",
        CustomerFault = "customer_fault": "The payout has a fault of its own, for example a wrong account." => "Report rejected if the bank refused it for good.",
        Pending = "pending": "The bank accepted the payout and has not confirmed it yet." => "Report success or rejected once the bank has decided.",
        NotSent = "not_sent": "The payout was not sent to the bank." => "None; another attempt is allowed.",
        Rejected = "rejected": "The bank refused the payout for good, and no money left the account." => "None; another attempt is allowed.",
    }
);

impl OutcomeClass {
    /// Whether it says that the payout was not executed.
    pub const fn is_proof(self) -> bool {
        matches!(self, Self::NotSent | Self::Rejected)
    }

    /// Whether it says that the payout was, or may have been, executed.
    pub const fn contradicts(self) -> bool {
        matches!(self, Self::Success | Self::Timeout | Self::Pending | Self::BankFailure)
    }
}
