//! What takes time: probes, sync runs. None of it happens inside a reconcile.
//!
//! Work runs in bounded tasks of its own and, when something a status shows has changed, pokes the controller that owns
//! the object. It knows objects by kind and name only, and writes nothing to the API server.

pub mod dead_requests;
pub mod poke;
pub mod pool;
pub mod probes;
