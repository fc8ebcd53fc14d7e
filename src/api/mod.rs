//! The four custom resources of `busbar.dev/v1alpha1` as Rust types, and the CRDs generated from them.
//!
//! Types only, without behaviour: no parsing of durations, no decisions, no clients. Controllers read these types; the
//! pure rules in `domain` interpret them. This layer must not use any other module of the crate, so that the schema can
//! be generated, tested and reviewed on its own.
//!
//! [`crds`] returns the final CRDs. `X::crd()` of the derive lacks the status default and still has `nullable` markers.

mod crds;
pub mod reference;
pub mod v1alpha1;

pub use crds::{CRD_DIGEST, CRD_VERSION, CrdError, crd_files, crds, write_crds};

/// Annotation that requests a reconcile when its value changes: a connection is probed, a `SyncJob` runs, a route is
/// evaluated. `status.lastHandledReconcileAt` acknowledges the value.
pub const REQUESTED_AT: &str = "busbar.dev/requestedAt";

/// Annotation of Flux, accepted as an alias of [`REQUESTED_AT`], which takes precedence if both are set.
pub const REQUESTED_AT_FLUX: &str = "reconcile.fluxcd.io/requestedAt";

/// Label of the Kubernetes Jobs of runs: the name of their `SyncJob`.
pub const SYNC_JOB_LABEL: &str = "busbar.dev/syncjob";

/// Annotation of the Kubernetes Jobs of runs: the ID of their run.
pub const RUN_ID_ANNOTATION: &str = "busbar.dev/run-id";

/// Annotation of the Kubernetes Jobs of runs: what triggered their run.
pub const TRIGGER_ANNOTATION: &str = "busbar.dev/trigger";

/// Annotation of the Kubernetes Jobs of runs: the ID of the resync that their run serves, if it serves one.
pub const RESYNC_ID_ANNOTATION: &str = "busbar.dev/resync-id";

/// Finalizer of a `SyncJob` whose `deletionPolicy` is `Delete`; no other object has a finalizer.
pub const LEDGER_FINALIZER: &str = "busbar.dev/ledger";
