//! What a bank says of a payout, in its own or in ISO 20022's words, mapped to what may be concluded. Pure.

use crate::domain::closed_list::closed_list;

closed_list!(
    "bank status",
    /// What a bank's status of a payout says. Whatever is not known to be final is open.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    BankStatus {
        Settled = "settled": "Executed for good (ACSC, ACCC)." => "None.",
        Rejected = "rejected": "Refused for good; no money left the account (RJCT)." => "None.",
        Cancelled = "cancelled": "Cancelled before execution (CANC)." => "None.",
        Returned = "returned": "The money came back to the account (pacs.004)." => "None.",
        NeverReceived = "never_received": "The bank never received the payout (RJCT with AG09)." => "None.",
        Open = "open": "Not final: any other status." => "None.",
    }
);

impl BankStatus {
    /// The meaning of an ISO 20022 transaction status (`TxSts`) and its reason (`StsRsnInf/Rsn/Cd`). The spelling
    /// counts: what is not exactly a final status is open.
    pub fn from_iso(status: &str, reason: Option<&str>) -> Self {
        match (status, reason) {
            ("ACSC" | "ACCC", _) => Self::Settled,
            ("RJCT", Some("AG09")) => Self::NeverReceived,
            ("RJCT", _) => Self::Rejected,
            ("CANC", _) => Self::Cancelled,
            _ => Self::Open,
        }
    }
}
