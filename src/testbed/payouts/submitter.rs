//! The submitter and the banks of a simulated payout, and the network between them and Busbar.

use std::time::Duration;

use jiff::Timestamp;

use super::bank::{CancelAnswer, OrderFate, OrderStatus, StatusAnswer};
use super::event::Event;
use super::run::{Acted, PERMISSION, PayoutRun, later};
use super::store::SimulatedStore;
use crate::domain::payout::{BankReport, BankStatus, Evidence, EvidenceSource, PayoutInput};

/// How many of a hundred submissions time out.
const TIME_OUT_PERCENT: u64 = 30;

const SECONDS: Duration = Duration::from_secs(3);
const TIME_OUT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The report of a status of the books.
const fn report_of(status: OrderStatus) -> BankReport {
    BankReport::Status(match status {
        OrderStatus::Pending => BankStatus::Open,
        OrderStatus::Settled => BankStatus::Settled,
        OrderStatus::Refused => BankStatus::Rejected,
        OrderStatus::Cancelled => BankStatus::Cancelled,
        OrderStatus::Returned => BankStatus::Returned,
    })
}

impl<S: SimulatedStore> PayoutRun<'_, S> {
    /// Busbar hears a report this long from now.
    fn says(&mut self, after: Duration, attempt_no: u32, report: BankReport, source: EvidenceSource) {
        self.says_of(after, attempt_no, report, Evidence::new(source, self.now));
    }

    fn says_of(&mut self, after: Duration, attempt_no: u32, report: BankReport, evidence: Evidence) {
        let at = later(self.now, after);
        let message_hash = Some(self.message_hash());
        let repeats = matches!(evidence.source, EvidenceSource::Submitter | EvidenceSource::Confirmation);
        let evidence = Evidence { at, message_hash, ..evidence };
        let input = Box::new(PayoutInput::Report { attempt_no, report, evidence });
        self.after(after, Event::Hear { input, repeats });
    }

    /// The submitter learns of an attempt. It sends it while it may, and once.
    pub(super) fn send(&mut self, attempt_no: u32) {
        let Some((payout, _)) = self.current() else { return };
        let Some(attempt) = payout.attempt(attempt_no) else { return };
        if !self.handled.insert(attempt_no) {
            return;
        }
        if self.now > attempt.plan.send_by {
            // Too late to send. An honest submitter says so; some say nothing.
            if self.dice.chance(50) {
                self.says(SECONDS, attempt_no, BankReport::NotSent, EvidenceSource::Submitter);
            }
            return;
        }
        // A submitter that crashes first sends nothing and says nothing.
        if self.dice.chance(1) {
            return;
        }
        if self.dice.chance(90) {
            self.says(SECONDS, attempt_no, BankReport::Submitted, EvidenceSource::Submitter);
        }
        self.dispatch(attempt_no);
    }

    /// An order goes out to its bank: it is answered, or times out because it, or the answer, is late or lost.
    fn dispatch(&mut self, attempt_no: u32) {
        if !self.dice.chance(TIME_OUT_PERCENT) {
            let (transit, reply) = (self.dice.up_to(SECONDS), self.dice.up_to(SECONDS));
            self.after(transit, Event::Arrive { attempt_no, reply: Some(reply) });
            return;
        }
        if self.dice.chance(95) {
            self.says(TIME_OUT, attempt_no, BankReport::Silence, EvidenceSource::Submitter);
        }
        let transit = self.dice.up_to(MINUTE * 5);
        match self.dice.below(3) {
            0 => {}
            1 => self.after(transit, Event::Arrive { attempt_no, reply: None }),
            _ => {
                let reply = Some(self.dice.up_to(DAY));
                self.after(transit, Event::Arrive { attempt_no, reply });
            }
        }
        self.impatience(attempt_no);
    }

    /// After a time-out the submitter asks for the next attempt, and to send this one again, sooner or later.
    fn impatience(&mut self, attempt_no: u32) {
        if self.dice.chance(50) {
            let when = self.dice.between(TIME_OUT, HOUR);
            self.after(when, Event::Decide { attempt_no: attempt_no.saturating_add(1), by_submitter: true });
        }
        if self.dice.chance(30) {
            let when = self.dice.between(MINUTE, MINUTE * 90);
            self.after(when, Event::Resend { attempt_no });
        }
    }

    pub(super) fn resend(&mut self, attempt_no: u32) {
        let evidence = Evidence::new(EvidenceSource::Submitter, self.now);
        if self.act(&PayoutInput::RequestResend { attempt_no, evidence, target: String::new() }) == Acted::Stored {
            self.totals.resent += 1;
            let (transit, reply) = (self.dice.up_to(PERMISSION), self.dice.up_to(SECONDS));
            self.after(transit, Event::Arrive { attempt_no, reply: Some(reply) });
        }
    }

    /// The next attempt is decided, for the first that asks.
    pub(super) fn decide(&mut self, attempt_no: u32, by_submitter: bool) {
        let Some(plan) = self.plan(attempt_no) else { return };
        match self.act(&PayoutInput::Attempt(Box::new(plan))) {
            Acted::Stored => {
                let answered = self.dice.up_to(SECONDS);
                self.after(answered, Event::Send { attempt_no });
            }
            // The caller repeats its request; the clock repeats its proposal.
            Acted::Crashed if by_submitter => self.after(MINUTE, Event::Decide { attempt_no, by_submitter }),
            Acted::Crashed | Acted::Nothing => {}
        }
    }

    /// An order arrives at its bank.
    pub(super) fn arrive(&mut self, attempt_no: u32, reply: Option<Duration>) {
        let Some(order) = self.order(attempt_no) else { return };
        let (fate, now) = (self.fate(), self.now);
        let Some(simulated) = self.bank(attempt_no) else { return };
        let before = simulated.bank.order_count();
        let status = simulated.bank.submit(&order, fate, now);
        let is_new = simulated.bank.order_count() > before;
        if is_new {
            match fate {
                OrderFate::Settles(after) | OrderFate::Refused(after) => {
                    self.after(after, Event::Settle { attempt_no });
                }
                OrderFate::Returned(after, back) => {
                    self.after(after, Event::Settle { attempt_no });
                    self.after(back, Event::Settle { attempt_no });
                }
            }
        }
        if let Some(after) = reply {
            let report = if status == OrderStatus::Pending { BankReport::Ack } else { report_of(status) };
            self.says(after, attempt_no, report, EvidenceSource::Submitter);
        }
    }

    fn fate(&mut self) -> OrderFate {
        let settles = match self.dice.below(100) {
            0..80 => self.dice.up_to(MINUTE),
            80..95 => self.dice.up_to(HOUR * 2),
            _ => self.dice.up_to(DAY),
        };
        match self.dice.below(100) {
            0..5 => OrderFate::Refused(self.dice.up_to(HOUR)),
            5 => OrderFate::Returned(settles, settles + self.dice.between(HOUR, HOUR * 10)),
            _ => OrderFate::Settles(settles),
        }
    }

    /// The bank says what is in its books now: at once, late, twice, or never.
    pub(super) fn settle(&mut self, attempt_no: u32) {
        let Some(order) = self.order(attempt_no) else { return };
        let now = self.now;
        let booked = self.bank(attempt_no).and_then(|simulated| simulated.bank.booked(&order.reference, now));
        let Some(status) = booked else { return };
        let report = if status == OrderStatus::Settled { BankReport::Confirmation } else { report_of(status) };
        if status == OrderStatus::Pending || self.dice.chance(10) {
            return;
        }
        let delay = if self.dice.chance(75) { self.dice.up_to(MINUTE) } else { self.dice.up_to(DAY) };
        self.says(delay, attempt_no, report, EvidenceSource::Confirmation);
        if self.dice.chance(5) {
            let again = delay + self.dice.up_to(DAY);
            self.says(again, attempt_no, report, EvidenceSource::Confirmation);
        }
        if status == OrderStatus::Settled && self.dice.chance(3) {
            // Having confirmed, it contradicts itself.
            let contradicts = delay + self.dice.between(MINUTE * 30, HOUR * 2);
            let said = if self.dice.chance(50) { BankStatus::Rejected } else { BankStatus::Open };
            self.says(contradicts, attempt_no, BankReport::Status(said), EvidenceSource::Confirmation);
        }
    }

    /// An inquiry reaches the bank; the answer comes soon, late, or never.
    pub(super) fn ask(&mut self, attempt_no: u32) {
        let Some(order) = self.order(attempt_no) else { return };
        let asked = self.now;
        let answered = |source| Evidence::new(source, asked).answering(asked);
        if self.dice.chance(10) {
            let evidence = answered(EvidenceSource::Inquiry);
            self.says_of(TIME_OUT, attempt_no, BankReport::InquirySilence, evidence);
            return;
        }
        let Some(simulated) = self.bank(attempt_no) else { return };
        let report = match simulated.bank.status(&order.reference, asked) {
            StatusAnswer::Known(status) => report_of(status),
            StatusAnswer::NotFound => BankReport::NotFound,
            StatusAnswer::NeverReceived => BankReport::Status(BankStatus::NeverReceived),
        };
        let delay = if self.dice.chance(97) { self.dice.up_to(TIME_OUT) } else { self.dice.up_to(DAY) };
        self.says_of(delay, attempt_no, report, answered(EvidenceSource::Inquiry));
    }

    /// A recall reaches the bank; it, or the answer, may be lost, and the answer may be that there is none yet.
    pub(super) fn cancel(&mut self, attempt_no: u32) {
        let Some(order) = self.order(attempt_no) else { return };
        let asked = self.now;
        let evidence = Evidence::new(EvidenceSource::Recall, asked).answering(asked);
        if self.dice.chance(10) {
            self.says_of(TIME_OUT, attempt_no, BankReport::CancelSilence, evidence);
            return;
        }
        let answer = self.cancel_at_bank(attempt_no, &order.reference, asked);
        let Some(report) = answer else { return };
        match self.dice.below(10) {
            0 | 1 => self.says_of(TIME_OUT, attempt_no, BankReport::CancelSilence, evidence),
            2 => {
                self.says_of(SECONDS, attempt_no, BankReport::CancelPending, evidence.clone());
                let decided = self.dice.between(MINUTE, DAY);
                self.says_of(decided, attempt_no, report, evidence);
            }
            _ => {
                let delay = self.dice.up_to(TIME_OUT);
                self.says_of(delay, attempt_no, report, evidence);
            }
        }
    }

    fn cancel_at_bank(&mut self, attempt_no: u32, reference: &str, now: Timestamp) -> Option<BankReport> {
        let simulated = self.bank(attempt_no)?;
        Some(match simulated.bank.cancel(reference, now) {
            CancelAnswer::Accepted { received } => BankReport::CancelAccepted { funds_back: received },
            CancelAnswer::Refused => BankReport::CancelRefused,
        })
    }
}
