//! Faults that tests inject into the steps of transactions.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::step::Step;

/// What happens at the step that fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The step is not executed; the transaction stays open.
    Refused,
    /// The step is not executed, and SQLite rolls the transaction back by itself.
    RolledBack,
    /// The step is executed, and its answer is lost.
    AnswerLost,
}

/// A fault at one step or several.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// The numbers of the steps, counted from [`Faults::inject`].
    pub(super) steps: Range<usize>,
    /// The result code of SQLite.
    pub(super) code: i32,
    /// What happens.
    pub(super) manner: Manner,
}

/// The steps of a ledger's connections, and the faults among them.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    steps: Vec<Step>,
    fault: Option<Fault>,
    panic_at: Option<usize>,
}

impl Faults {
    /// Starts counting anew, with a fault.
    pub(super) fn inject(&self, fault: Fault) {
        *self.state() = State { fault: Some(fault), ..State::default() };
    }

    /// Starts counting anew, with a panic at a step.
    pub(super) fn panic_at(&self, step: usize) {
        *self.state() = State { panic_at: Some(step), ..State::default() };
    }

    /// Ends the fault and starts counting anew; returns the steps since the last time.
    pub(super) fn clear(&self) -> Vec<Step> {
        std::mem::take(&mut *self.state()).steps
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a step, or fails as injected.
    pub(super) fn around<T>(
        &self,
        step: Step,
        run: impl FnOnce() -> Result<T, rusqlite::Error>,
        roll_back: impl FnOnce() -> Result<(), rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let (fault, panics) = {
            let mut state = self.state();
            let number = state.steps.len();
            state.steps.push(step);
            let hit = state.fault.clone().filter(|fault| fault.steps.contains(&number));
            (hit, state.panic_at == Some(number))
        };
        assert!(!panics, "injected");
        let Some(fault) = fault else { return run() };
        match fault.manner {
            Manner::Refused => {}
            // Without an open transaction there is nothing to roll back.
            Manner::RolledBack => drop(roll_back()),
            Manner::AnswerLost => drop(run()?),
        }
        Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(fault.code), None))
    }
}
