//! What the operator's own flags permit a spec to use. Pure.

use crate::settings::addresses::AddressRules;

/// The flags of the operator that decide whether a spec can be used.
#[derive(Copy, Clone, Debug)]
pub struct OperatorOptions<'a> {
    /// Whether there is an encryption key (`--key-secret`).
    pub has_key: bool,
    /// The addresses that connections may use (`--allow-provider-addresses`).
    pub addresses: &'a AddressRules,
    /// Whether runs can be Kubernetes Jobs.
    pub jobs: JobSupport,
}

/// Whether runs can be Kubernetes Jobs (`spec.execution: Job`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum JobSupport {
    /// The ledger is a file, which other Pods cannot open.
    #[default]
    LedgerNotShared,
    /// The operator has no image to run (`--job-image`).
    NoImage,
    /// They can.
    Supported,
}
