//! What users write: the four custom resources of `busbar.dev/v1alpha1`, as Rust types, and the CRDs made from them.
//!
//! This layer describes and never behaves: no parsing of durations, no decisions, no clients. A controller reads these
//! types, the pure rules in `domain` give them meaning. It must not use anything else of Busbar's, so that the schema
//! can be generated, tested and reviewed alone.
//!
//! [`crds`] is the one way to the finished CRDs. `X::crd()` of the derive is the raw material: it lacks the status
//! default and still carries `nullable` noise.

mod crds;
pub mod reference;
pub mod v1alpha1;

pub use crds::{CrdError, crd_files, crds, crds_yaml, write_crds};

/// The API group of all four kinds.
pub const GROUP: &str = "busbar.dev";

/// Changing this annotation's value asks for one reconcile with everything it implies: a connection probes now, a
/// `SyncJob` runs now, a route is evaluated anew. `status.lastHandledReconcileAt` answers with the value.
pub const REQUESTED_AT: &str = "busbar.dev/requestedAt";

/// Flux's annotation, taken as an alias of [`REQUESTED_AT`]; ours wins where both are set.
pub const REQUESTED_AT_FLUX: &str = "reconcile.fluxcd.io/requestedAt";

/// The finalizer of a `SyncJob` whose `deletionPolicy` is `Delete`; no other object ever gets one.
pub const LEDGER_FINALIZER: &str = "busbar.dev/ledger";
