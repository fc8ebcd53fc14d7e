//! Accounts.

use super::shape::{CellValue, Column, ColumnKind, RecordIdentity, RowShape, column, optional, text};

/// An account, as its provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// What identifies it.
    pub identity: RecordIdentity,
    /// The masked account number, for display.
    pub account: String,
    /// ISO 4217, upper case.
    pub currency: Option<String>,
    /// The name of the account, masked as configured.
    pub name: Option<String>,
    /// The account holder, masked as configured.
    pub holder: Option<String>,
    /// The provider's type, such as `CurrentAccount`.
    pub kind: Option<String>,
    /// The provider's status, such as `Enabled`.
    pub status: Option<String>,
    /// The bank.
    pub institution: Option<String>,
}

impl RowShape for AccountRecord {
    const TABLE: &'static str = "accounts";
    const COLUMNS: &'static [Column] = &[
        column("account", ColumnKind::Text),
        optional("currency", ColumnKind::Text),
        optional("name", ColumnKind::Text),
        optional("holder", ColumnKind::Text),
        optional("kind", ColumnKind::Text),
        optional("status", ColumnKind::Text),
        optional("institution", ColumnKind::Text),
    ];

    fn identity(&self) -> &RecordIdentity {
        &self.identity
    }

    fn identity_mut(&mut self) -> &mut RecordIdentity {
        &mut self.identity
    }

    fn values(&self) -> Vec<CellValue> {
        vec![
            CellValue::Text(self.account.clone()),
            text(self.currency.as_ref()),
            text(self.name.as_ref()),
            text(self.holder.as_ref()),
            text(self.kind.as_ref()),
            text(self.status.as_ref()),
            text(self.institution.as_ref()),
        ]
    }
}
