//! Values of other layers that decisions and pure files may name.

use crate::architecture::within;

/// Plain values of other layers that a decision may name although the layer itself is out of bounds: a module or type, as
/// `ledger::RunId`. Nothing here may wait, hold a lock or reach out. Each addition needs an ADR.
pub(crate) const PLAIN_VALUES: &[&str] = &[
    "cluster::events::EventDraft",
    "cluster::resource::WatchedResource",
    "ledger::payouts::DuePayout",
    "ledger::payouts::act",
    "ledger::payouts::change",
    "ledger::payouts::commit",
    "ledger::payouts::outcome",
    "ledger::payouts::row",
    "ledger::payouts::stored",
    "ledger::RunId",
    "ledger::RunRecord",
    "ledger::RunResult",
    "ledger::RunTrigger",
    "work::pool::ActiveRun",
    "work::pool::JobView",
    "work::pool::RunRequest",
];

/// Whether `name`, a path within our crate, is one of [`PLAIN_VALUES`] or within one.
pub(crate) fn is_plain_value(name: &str) -> bool {
    PLAIN_VALUES.iter().any(|plain| within(name, plain))
}
