//! Named readiness gates: each step of the start is one, and `/readyz` shows which are still closed and why.
//!
//! A gate that waits never ends the process: what it waits for (CRDs, an API server) may come later.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// The steps of the start, in their order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Settings are checked and the ledger is open, its migrations run.
    Ledger,
    /// The API server serves our four kinds.
    Crds,
    /// Every store has seen its first list.
    Stores,
    /// The process is not shutting down.
    Running,
}

const ALL: [(Gate, &str); 4] =
    [(Gate::Ledger, "ledger"), (Gate::Crds, "crds"), (Gate::Stores, "stores"), (Gate::Running, "running")];

/// Which gates are open. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    open: Arc<Mutex<[bool; ALL.len()]>>,
    leading: Arc<std::sync::atomic::AtomicBool>,
}

impl Gates {
    /// Opens or closes a gate.
    pub fn set(&self, gate: Gate, open: bool) {
        let mut gates = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (slot, (each, _)) in gates.iter_mut().zip(ALL) {
            if each == gate {
                *slot = open;
            }
        }
    }

    /// Notes whether this replica holds the lease: shown, but a standby is ready too.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, std::sync::atomic::Ordering::Relaxed);
    }

    /// Whether all gates are open, and one line for each.
    pub fn report(&self) -> (bool, String) {
        let gates = *self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (open, (_, name)) in gates.iter().zip(ALL) {
            let _ = writeln!(text, "[{}] {name}", if *open { '+' } else { '-' });
        }
        let leading = self.leading.load(std::sync::atomic::Ordering::Relaxed);
        let _ = writeln!(text, "[{}] leading (a standby is ready too)", if leading { '+' } else { ' ' });
        (gates.iter().all(|open| *open), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_gate_is_open_and_leading_is_only_shown() {
        let gates = Gates::default();
        assert!(!gates.report().0);
        for (gate, _) in ALL {
            assert!(!gates.report().0);
            gates.set(gate, true);
        }
        assert!(gates.report().0);
        gates.set(Gate::Stores, false);
        let (ready, text) = gates.report();
        assert!(!ready && text.contains("[-] stores"), "{text}");
    }
}
