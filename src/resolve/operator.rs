//! What the operator's own flags permit a spec to use. Pure.

use crate::settings::addresses::AddressRules;

/// The flags of the operator that decide whether a spec can be used.
#[derive(Copy, Clone, Debug)]
pub struct OperatorOptions<'a> {
    /// Whether there is an encryption key (`--key-secret`).
    pub has_key: bool,
    /// The addresses that connections may use (`--allow-provider-addresses`).
    pub addresses: &'a AddressRules,
}
