//! The addresses of a bank, as the announce file and the control API show them.

use serde::{Deserialize, Serialize};

use crate::testbed::sim::bank::BankHandle;

/// The base URLs of one bank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankEndpoints {
    /// Name of the bank.
    pub name: String,
    /// Base URL over plain HTTP.
    pub http: String,
    /// Base URL over HTTPS.
    pub https: String,
}

impl BankEndpoints {
    pub(crate) fn of(bank: &BankHandle) -> Self {
        Self { name: bank.name().to_owned(), http: bank.base_url(), https: bank.https_url() }
    }
}
