//! Payouts under everything that can go wrong, in virtual time: banks with books of their own, a submitter that times
//! out, sends again and is impatient, and two replicas of Busbar that crash at every step.
//!
//! The state machine is the real one, and so is the ledger where a test plugs one in as the [`store`]. A seed decides
//! everything else. Only the books of the [`bank`]s say how often a payout was executed.

pub mod bank;
pub mod dice;
mod event;
mod run;
pub mod simulation;
pub mod store;
mod submitter;
pub mod totals;

pub use self::bank::{BankHabits, CancelAnswer, OrderFate, OrderStatus, PaymentOrder, PayoutBank, StatusAnswer};
pub use self::dice::Dice;
pub use self::simulation::{simulate, simulate_in_memory};
pub use self::store::{MemoryStore, SimulatedCommit, SimulatedStore};
pub use self::totals::Totals;
