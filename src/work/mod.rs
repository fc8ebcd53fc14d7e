//! Long-running work: probes, sync runs and retries of dead requests. None of it happens inside a reconcile.
//!
//! Work runs in bounded tasks of its own and enqueues an object for its controller when something changed that the
//! object's status shows. It knows objects by kind and name only, and writes nothing to the API server.

pub mod dead_requests;
pub mod event_outbox;
pub mod ledger_monitor;
pub mod money_totals;
pub mod outbox;
pub mod payouts;
pub mod pool;
pub mod probes;
pub mod reconcile_queue;
pub mod retention;
pub mod scorer;
pub mod webhooks;
