//! What was done to a payout, and what a bank is called for.

use crate::domain::closed_list::closed_list;

closed_list!(
    "act on a payout",
    /// What was done to a payout: the reason of a commit.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    PayoutAct {
        Register = "register": "The payout was registered with its first attempt." => "None.",
        Attempt = "attempt": "A further attempt was decided." => "None.",
        Report = "report": "The bank or the submitter reported of an attempt." => "None.",
        Inquire = "inquire": "A person asked for an inquiry." => "None.",
        Recall = "recall": "A person asked for a recall." => "None.",
        AcceptRisk = "accept_risk": "A person accepted the risk that the next attempt is a duplicate." => "None.",
        Resolve = "resolve": "A person said what became of an attempt." => "None.",
        Resume = "resume": "A person released the payout." => "None.",
        Tick = "tick": "Time passed." => "None.",
        Restore = "restore": "The ledger was restored with loss of newer entries." => "Compare with the bank's statement; resolve the payout.",
    }
);

closed_list!(
    "call about a payout",
    /// What a bank is called for.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    PayoutCall {
        Inquiry = "inquiry": "Asks for the status of an attempt." => "None.",
        Recall = "recall": "Asks to cancel an attempt." => "None.",
    }
);
