//! What was said of two attempts, judged by rules that are written down a second time: the model's view, which knows
//! nothing of the machine's states.

use super::{BankReport, BankStatus};

/// What was said of one attempt. Instants are minutes.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Default, Debug)]
pub(super) struct Facts {
    /// The last minute in which it could be sent.
    pub(super) send_by: i64,
    pub(super) recall_sent: bool,
    pub(super) confirmed: bool,
    known: bool,
    refused: bool,
    funds_back: bool,
    cancel_accepted: bool,
    first_not_found: Option<i64>,
    not_found_apart: bool,
    not_found_late: bool,
    never_received_late: bool,
}

impl Facts {
    pub(super) fn hear(&mut self, report: BankReport, minute: i64) {
        match report {
            BankReport::Ack | BankReport::Status(BankStatus::Open) => self.known = true,
            BankReport::Confirmation | BankReport::Status(BankStatus::Settled) => self.confirmed = true,
            BankReport::Status(BankStatus::Rejected) => self.refused = true,
            BankReport::Status(BankStatus::NeverReceived) => {
                self.never_received_late |= minute >= self.send_by + 60 + 15;
            }
            BankReport::CancelAccepted { funds_back } if self.recall_sent => {
                self.cancel_accepted = true;
                self.funds_back |= funds_back;
            }
            BankReport::NotFound if minute >= self.send_by => {
                self.not_found_late |= minute >= self.send_by + 15;
                let first = *self.first_not_found.get_or_insert(minute);
                self.not_found_apart |= minute >= first + 15;
            }
            _ => {}
        }
    }

    /// Whether what was said can be a proof that the attempt was not executed, at most.
    pub(super) const fn is_proof(&self, strong_reads: bool) -> bool {
        let not_received = self.never_received_late
            || (self.not_found_apart && self.cancel_accepted)
            || (strong_reads && self.not_found_late);
        !self.confirmed && (self.refused || self.funds_back || (not_received && !self.known))
    }

    /// What tells two histories apart, without the instant of the first "not found".
    pub(super) const fn key(&self) -> [bool; 9] {
        [
            self.confirmed,
            self.known,
            self.refused,
            self.funds_back,
            self.cancel_accepted,
            self.first_not_found.is_some(),
            self.not_found_apart,
            self.not_found_late,
            self.never_received_late,
        ]
    }
}

/// What was said of both attempts, and who accepted the risk.
#[derive(Clone, Default, Debug)]
pub(super) struct Oracle {
    pub(super) attempts: [Facts; 2],
    pub(super) accepted: Vec<&'static str>,
    pub(super) paged: bool,
}

impl Oracle {
    /// Whether the second attempt may be made, at most: I2.
    pub(super) fn may_attempt(&self, strong_reads: bool) -> bool {
        let [first, _] = &self.attempts;
        let by_two = self.accepted.contains(&"ana") && self.accepted.contains(&"bo");
        !first.confirmed && (first.is_proof(strong_reads) || by_two)
    }

    /// Whether both attempts are said to have been executed.
    pub(super) const fn is_duplicate(&self) -> bool {
        let [first, second] = &self.attempts;
        first.confirmed && second.confirmed
    }
}
