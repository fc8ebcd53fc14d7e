//! Named readiness gates, one per startup step; `/readyz` lists them and shows which are still closed.
//!
//! A closed gate never ends the process: what it waits for (CRDs, an API server) may become available later.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Startup steps, in order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The configuration is valid, and the ledger is open and migrated.
    Ledger,
    /// The ledger is not behind the leader lease. Open unless it is closed: only a replica that could lead finds out.
    LedgerEpoch,
    /// The API server serves our four kinds.
    Crds,
    /// Every store has received its initial list.
    Stores,
    /// The process is not shutting down.
    Running,
}

const ALL: [(Gate, &str); 5] = [
    (Gate::Ledger, "ledger"),
    (Gate::LedgerEpoch, "ledger epoch"),
    (Gate::Crds, "crds"),
    (Gate::Stores, "stores"),
    (Gate::Running, "running"),
];

/// Asks for a warning; `None` while there is none.
type Warning = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Asks why a gate is closed: a line per cause.
type Explanation = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// State of all gates. Cloning shares it.
#[derive(Clone)]
pub struct Gates {
    explanations: Arc<Mutex<Vec<(Gate, Explanation)>>>,
    open: Arc<Mutex<[bool; ALL.len()]>>,
    leading: Arc<std::sync::atomic::AtomicBool>,
    warnings: Arc<Mutex<Vec<Warning>>>,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            explanations: Arc::default(),
            open: Arc::new(Mutex::new(ALL.map(|(gate, _)| gate == Gate::LedgerEpoch))),
            leading: Arc::default(),
            warnings: Arc::default(),
        }
    }
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

    /// Sets whether this replica is the leader: shown, but not required, because a standby is ready too.
    pub fn set_leading(&self, leading: bool) {
        self.leading.store(leading, std::sync::atomic::Ordering::Relaxed);
    }

    /// Adds a source of warnings: of faults that a restart would not end, so that they close no gate.
    pub fn add_warning(&self, warning: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(warning));
    }

    /// Adds a source of causes of `gate`: why it is closed, or, once it is open, what a restart would find.
    pub fn explain(&self, gate: Gate, causes: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.explanations.lock().unwrap_or_else(PoisonError::into_inner).push((gate, Box::new(causes)));
    }

    /// The causes of `gate`.
    fn causes(&self, gate: Gate) -> Vec<String> {
        let explanations = self.explanations.lock().unwrap_or_else(PoisonError::into_inner);
        explanations.iter().filter(|(of, _)| *of == gate).flat_map(|(_, ask)| ask()).collect()
    }

    /// Whether all gates are open, and one line per gate, cause and warning.
    pub fn report(&self) -> (bool, String) {
        let gates = *self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (open, (gate, name)) in gates.iter().zip(ALL) {
            let _ = writeln!(text, "[{}] {name}", if *open { '+' } else { '-' });
            for cause in self.causes(gate) {
                let _ = writeln!(text, "{}{cause}", if *open { "[!] " } else { "    " });
            }
        }
        let leading = self.leading.load(std::sync::atomic::Ordering::Relaxed);
        let _ = writeln!(text, "[{}] leading (not required: a standby is ready too)", if leading { '+' } else { ' ' });
        for warning in self.warnings.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(|ask| ask()) {
            let _ = writeln!(text, "[!] {warning}");
        }
        (gates.iter().all(|open| *open), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_requires_every_gate_but_not_leadership() {
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

    #[test]
    fn a_closed_gate_says_why_and_an_open_one_what_is_wrong_since() {
        let gates = Gates::default();
        gates.explain(Gate::Stores, || vec!["SyncJob cannot be listed: forbidden".to_owned()]);
        let (ready, text) = gates.report();
        assert!(!ready && text.contains("[-] stores\n    SyncJob cannot be listed: forbidden\n[-] running"), "{text}");
        for (gate, _) in ALL {
            gates.set(gate, true);
        }
        let (ready, text) = gates.report();
        assert!(ready && text.contains("[+] stores\n[!] SyncJob cannot be listed: forbidden\n"), "{text}");
    }

    #[test]
    fn a_warning_is_shown_while_it_lasts_and_closes_no_gate() {
        let (gates, full) = (Gates::default(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
        for (gate, _) in ALL {
            gates.set(gate, true);
        }
        let seen = Arc::clone(&full);
        gates.add_warning(move || seen.load(std::sync::atomic::Ordering::Relaxed).then(|| "disk full".to_owned()));
        let (ready, text) = gates.report();
        assert!(ready && text.ends_with("[!] disk full\n"), "{text}");
        full.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(!gates.report().1.contains("[!]"));
    }
}
