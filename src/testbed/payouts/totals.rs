//! What a simulation counts.

use std::fmt;

/// What a simulation counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payouts that were simulated.
    pub payouts: u64,
    /// Payouts that are executed more than once by the banks' books. Must be none.
    pub paid_twice: Vec<String>,
    /// Payouts that are neither final nor held. Must be none.
    pub lost: Vec<String>,
    /// Payouts that Busbar takes for not executed, and that are by the banks' books. Must be none.
    pub misjudged: Vec<String>,
    /// Payouts that ended confirmed.
    pub confirmed: u64,
    /// Payouts that ended proven not executed.
    pub not_executed: u64,
    /// Payouts that ended held, with a reason.
    pub held: u64,
    /// Payouts that ended frozen.
    pub frozen: u64,
    /// Payouts that are executed once by the banks' books.
    pub executed: u64,
    /// Attempts beyond the first.
    pub rerouted: u64,
    /// Further attempts that the gate refused.
    pub refused: u64,
    /// Permissions to send again.
    pub resent: u64,
    /// Acts that were stored.
    pub acts: u64,
    /// Crashes of Busbar.
    pub crashes: u64,
    /// Acts that another replica had come before.
    pub conflicts: u64,
}

impl Totals {
    /// Whether no payout was paid twice, lost or misjudged.
    pub fn is_sound(&self) -> bool {
        self.paid_twice.is_empty() && self.lost.is_empty() && self.misjudged.is_empty()
    }

    /// Adds what another part of the simulation counted.
    pub fn add(&mut self, other: Self) {
        self.payouts += other.payouts;
        self.paid_twice.extend(other.paid_twice);
        self.lost.extend(other.lost);
        self.misjudged.extend(other.misjudged);
        self.confirmed += other.confirmed;
        self.not_executed += other.not_executed;
        self.held += other.held;
        self.frozen += other.frozen;
        self.executed += other.executed;
        self.rerouted += other.rerouted;
        self.refused += other.refused;
        self.resent += other.resent;
        self.acts += other.acts;
        self.crashes += other.crashes;
        self.conflicts += other.conflicts;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payouts, confirmed, not_executed, held, frozen, executed, .. } = self;
        let Self { rerouted, refused, resent, acts, crashes, conflicts, .. } = self;
        write!(
            f,
            "{payouts} payouts: {confirmed} confirmed, {not_executed} not executed, {held} held, {frozen} frozen; \
             {executed} executed once by the banks' books, {} twice, {} lost, {} misjudged; {rerouted} re-routed, \
             {refused} further attempts refused, {resent} sent again; {acts} acts, {crashes} crashes, {conflicts} conflicts",
            self.paid_twice.len(),
            self.lost.len(),
            self.misjudged.len(),
        )
    }
}
