//! Circuits opened, tried, closed, overridden and reconfigured by the breaker itself.

use std::time::Duration;

use super::Emitted;
use crate::domain::breaker::{
    Breaker, CallClass, CallOutcome, Mode, Override, OverrideMode, Policy, Preset, Snapshot, Transition,
};
use crate::domain::time::{Mono, Now};

const SLOW: Duration = Duration::from_secs(9);

fn secs(s: u64) -> Mono {
    Mono::ZERO + Duration::from_secs(s)
}

/// A breaker whose transitions and snapshots are kept.
struct Recorded {
    breaker: Breaker,
    transitions: Vec<Transition>,
    snapshots: Vec<Snapshot>,
}

impl Recorded {
    fn new(policy: Policy) -> Self {
        Self { breaker: Breaker::new(policy, secs(0)), transitions: Vec::new(), snapshots: Vec::new() }
    }

    fn keep(&mut self, transition: Option<Transition>, now: Mono) {
        self.transitions.extend(self.breaker.take_transition());
        self.transitions.extend(transition);
        self.snapshots.push(self.breaker.snapshot(Now { mono: now, wall: jiff::Timestamp::UNIX_EPOCH }));
    }

    /// Calls that start and end at `now`.
    fn calls(&mut self, count: u32, outcome: CallOutcome, elapsed: Duration, now: Mono) {
        for _ in 0..count {
            let permit = self.breaker.admit(CallClass::Read, now).unwrap();
            self.keep(None, now);
            let transition = self.breaker.record(permit, outcome, elapsed, now);
            self.keep(transition, now);
        }
    }

    fn tick(&mut self, now: Mono) {
        let transition = self.breaker.tick(now);
        self.keep(transition, now);
    }

    fn set_override(&mut self, until: Option<Mono>, now: Mono) {
        let wanted = until.map(|until| Override { mode: OverrideMode::ForcedOpen, until });
        let transition = self.breaker.set_override(wanted, now);
        self.keep(transition, now);
    }
}

/// Runs every case and returns the snapshots that a status stores.
pub(super) fn emit(emitted: &mut Emitted) -> Vec<Snapshot> {
    let bank = Policy::preset(Preset::Bank);
    let opened = || {
        let mut circuit = Recorded::new(bank);
        circuit.calls(bank.consecutive_failures, CallOutcome::Failure, Duration::ZERO, secs(0));
        circuit
    };
    let mut tried = opened();
    tried.calls(1, CallOutcome::Failure, Duration::ZERO, secs(300));
    tried.calls(1, CallOutcome::Success, Duration::ZERO, secs(600));

    let mut lost = opened();
    for now in [300, 360] {
        let _never_recorded = lost.breaker.admit(CallClass::Read, secs(now)).unwrap();
    }
    lost.tick(secs(420));

    let mut dwelled = opened();
    let permit = dwelled.breaker.admit(CallClass::Read, secs(300)).unwrap();
    dwelled.breaker.abandon(permit, secs(300));
    dwelled.tick(secs(900));

    let ratio = Policy { consecutive_failures: 0, minimum_calls: 4, ..bank };
    let mut failing = Recorded::new(Policy { failure_percent: 50, ..ratio });
    failing.calls(4, CallOutcome::Failure, Duration::ZERO, secs(1));
    let mut slow = Recorded::new(Policy { slow_call_percent: 50, ..ratio });
    slow.calls(4, CallOutcome::Success, SLOW, secs(1));

    let mut unhealthy = Recorded::new(bank);
    let transition = unhealthy.breaker.trip_unhealthy(secs(1));
    unhealthy.keep(transition, secs(1));

    let mut overridden = Recorded::new(bank);
    overridden.set_override(Some(secs(10)), secs(1));
    overridden.tick(secs(10));
    overridden.set_override(Some(secs(30)), secs(20));
    overridden.set_override(None, secs(21));
    let transition = overridden.breaker.set_policy(Policy { mode: Mode::Shadow, ..bank }, secs(22));
    overridden.keep(transition, secs(22));

    let all = [tried, lost, dwelled, failing, slow, unhealthy, overridden];
    for circuit in &all {
        emitted.circuits.extend(circuit.transitions.iter().map(|transition| transition.reason.to_string()));
    }
    all.into_iter().flat_map(|circuit| circuit.snapshots).collect()
}
