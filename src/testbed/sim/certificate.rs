//! The kinds of server certificate that a bank can present.

use serde::{Deserialize, Serialize};

/// The validity of a bank's server certificate.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateKind {
    /// Valid.
    #[default]
    Valid,
    /// Expired in 2001.
    Expired,
    /// Issued for `elsewhere.sim.test` only.
    WrongName,
    /// Signed by a CA that no client trusts.
    Untrusted,
}
