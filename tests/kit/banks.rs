//! Simulated banks: how tests start them and count what has arrived.

use busbar::testbed::sim::{Arrival, BankConfig, BankHandle, Behaviour, Sim, SimConfig};

use super::wait::eventually;

/// A simulator without banks.
pub(crate) async fn simulator() -> Sim {
    Sim::start(SimConfig::default()).await.expect("a simulator")
}

/// A simulator with one bank.
pub(crate) async fn start_bank(config: BankConfig) -> (Sim, BankHandle) {
    let sim = simulator().await;
    let bank = sim.add_bank(config).await.expect("a bank");
    (sim, bank)
}

/// A simulator with one bank that wants no credentials.
pub(crate) async fn plain_bank() -> (Sim, BankHandle) {
    start_bank(BankConfig::new("bank")).await
}

/// The failure that most tests want: an answer, and a bad one.
pub(crate) fn unavailable() -> Behaviour {
    Behaviour::status(503)
}

/// How many of the requests that have arrived at `bank` are such.
pub(crate) fn count_arrivals(bank: &BankHandle, is_wanted: impl Fn(&Arrival) -> bool) -> usize {
    bank.arrivals().entries.iter().filter(|arrival| is_wanted(arrival)).count()
}

/// How many requests `bank` has had whose path begins with `path`.
pub(crate) fn arrivals_at(bank: &BankHandle, path: &str) -> usize {
    count_arrivals(bank, |arrival| arrival.path.starts_with(path))
}

/// Waits until `bank` has had `more` further requests whose path begins with `path`.
pub(crate) async fn further_arrivals(bank: &BankHandle, path: &str, more: usize) {
    let wanted = arrivals_at(bank, path) + more;
    let what = format!("{more} further requests for {path} at {}", bank.name());
    eventually(&what, async || arrivals_at(bank, path) >= wanted).await;
}
