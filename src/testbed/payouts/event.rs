//! What happens in the world of a simulated payout.

use std::time::Duration;

use crate::domain::payout::PayoutInput;

/// Something that happens at an instant.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The submitter learns of an attempt and sends it, if it may still.
    Send { attempt_no: u32 },
    /// An order arrives at its bank, which replies after this long, or never.
    Arrive { attempt_no: u32, reply: Option<Duration> },
    /// The bank executes an order, or has it come back, and says so.
    Settle { attempt_no: u32 },
    /// Something is said to Busbar. What is said by a party that repeats itself is said again after a crash.
    Hear { input: Box<PayoutInput>, repeats: bool },
    /// Busbar's inquiry reaches the bank.
    Ask { attempt_no: u32 },
    /// Busbar's recall reaches the bank.
    Cancel { attempt_no: u32 },
    /// The next attempt is decided, for the submitter or for Busbar's own proposal.
    Decide { attempt_no: u32, by_submitter: bool },
    /// The submitter would send an attempt once more.
    Resend { attempt_no: u32 },
    /// The clock looks what is due.
    Tick,
}
