//! Metrics of the following of payouts.

use prometheus::{Histogram, IntCounter, IntCounterVec};

use crate::domain::payout::{BankReport, BankStatus, HoldReason};
use crate::ledger::payouts::PayoutCall;
use crate::metrics::{Metrics, MetricsError};

/// The results of calls, as labels.
const RESULTS: [&str; 8] =
    ["final", "open", "not_found", "never_received", "cancelled", "refused", "pending", "silent"];

/// Metrics of the following of payouts. Clones share them.
#[derive(Clone)]
pub(super) struct FollowMetrics {
    calls: IntCounterVec,
    due_lag: Histogram,
    failures: IntCounter,
    pages: IntCounterVec,
}

impl FollowMetrics {
    /// Registers them.
    pub(super) fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let known = PayoutCall::ALL.iter().flat_map(|call| RESULTS.map(|result| [call.as_str(), result]));
        let calls = metrics.counter_from_zero(
            "busbar_payout_calls_total",
            "Calls to banks about payouts, by call (inquiry, recall) and what the response says: final, open, \
             not_found, never_received, cancelled, refused, pending, silent.",
            ["call", "result"],
            known,
        )?;
        let due_lag =
            metrics.histogram("busbar_payout_due_lag_seconds", "How late the payout clock did what was due.", &[])?;
        let failures = metrics.counter(
            "busbar_payout_clock_failures_total",
            "Ledger failures that delayed the payout clock; retried with backoff.",
            &[],
        )?;
        let pages = metrics.counter_from_zero(
            "busbar_payout_pages_total",
            "Payouts that a person must look at at once, by reason: duplicate_detected was, or may have been, paid \
             twice.",
            ["reason"],
            HoldReason::ALL.iter().map(|reason| [reason.as_str()]),
        )?;
        let (due_lag, failures) = (due_lag.with_label_values::<&str>(&[]), failures.with_label_values::<&str>(&[]));
        Ok(Self { calls, due_lag, failures, pages })
    }

    /// A call ended.
    pub(super) fn called(&self, call: PayoutCall, report: BankReport) {
        self.calls.with_label_values(&[call.as_str(), result(report)]).inc();
    }

    /// What was due was done, this many seconds late.
    pub(super) fn done(&self, late_seconds: f64) {
        self.due_lag.observe(late_seconds);
    }

    /// The ledger failed.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// A person is paged.
    pub(super) fn paged(&self, reason: HoldReason) {
        self.pages.with_label_values(&[reason.as_str()]).inc();
    }
}

const fn result(report: BankReport) -> &'static str {
    match report {
        BankReport::Status(BankStatus::Open) | BankReport::Submitted | BankReport::Ack => "open",
        BankReport::Status(BankStatus::NeverReceived) => "never_received",
        BankReport::Status(_) | BankReport::Confirmation | BankReport::StatementWithoutDebit { .. } => "final",
        BankReport::NotFound => "not_found",
        BankReport::CancelAccepted { .. } => "cancelled",
        BankReport::CancelRefused => "refused",
        BankReport::CancelPending => "pending",
        BankReport::Silence | BankReport::NotSent | BankReport::InquirySilence | BankReport::CancelSilence => "silent",
    }
}
