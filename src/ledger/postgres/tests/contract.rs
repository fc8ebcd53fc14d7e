//! The contract.

use super::store::PostgresStore;
use crate::ledger::contract::ledger_contract;

ledger_contract!(PostgresStore);
