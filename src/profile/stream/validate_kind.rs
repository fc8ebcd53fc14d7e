//! What a stream must and may say of records of its kind.

use super::definition::Stream;
use super::record_fields::{StatusField, Supersedes};
use super::record_kind::RecordKind;
use crate::profile::invalid_field::InvalidField;
use crate::profile::mapping::RecordShape;

impl Stream {
    /// Checks that the stream maps what its kind needs, and nothing that its kind does not have.
    pub(super) fn check_record_fields(&self) -> Result<(), InvalidField> {
        let (kind, name) = (self.record, self.record.as_str());
        let is_transaction = kind == RecordKind::Transaction;
        let only = |field: &'static str, of: &str| {
            Err(InvalidField::new([field], format!("{field} is only valid with record: {of}; remove it")))
        };
        if self.money.is_some() && !kind.has_money() {
            return only("money", "transaction or balance");
        }
        if self.account.is_some() && !kind.has_account() {
            return only("account", "transaction, balance or account");
        }
        let transaction_only = [
            ("valueTime", self.value_time.is_some()),
            ("status", self.status.is_some()),
            ("supersedes", self.supersedes.is_some()),
        ];
        if let Some((field, _)) = transaction_only.into_iter().find(|(_, set)| *set && !is_transaction) {
            return only(field, "transaction");
        }
        self.check_fields()?;
        let a = if name.starts_with(['a', 'o']) { "an" } else { "a" };
        if kind.needs_time() && self.time.is_none() {
            return Err(InvalidField::new(["time"], format!("{a} {name} needs time: add the JSON pointer to its day")));
        }
        if kind.has_money() && self.money.is_none() {
            return Err(InvalidField::new(
                ["money"],
                format!("{a} {name} needs money: add the JSON pointer to its amount"),
            ));
        }
        self.check_account()?;
        self.check_status()
    }

    fn check_fields(&self) -> Result<(), InvalidField> {
        let known = self.record.fields();
        for (name, field) in &self.fields {
            if !known.iter().any(|known| known.name == name) {
                let names = known.iter().map(|known| known.name).collect::<Vec<_>>().join(", ");
                let problem = if names.is_empty() {
                    format!("record: {} has no fields; remove it", self.record.as_str())
                } else {
                    format!("is no field of record: {}, which has {names}", self.record.as_str())
                };
                return Err(InvalidField::new(["fields", name], problem));
            }
            if field.at.is_empty() {
                return Err(InvalidField::new(["fields", name], "at must name at least one JSON pointer"));
            }
        }
        match known.iter().find(|field| field.required && !self.fields.contains_key(field.name)) {
            Some(missing) => {
                let text = format!("{} must be mapped: every {} has one", missing.name, self.record.as_str());
                Err(InvalidField::new(["fields"], text))
            }
            None => Ok(()),
        }
    }

    fn check_account(&self) -> Result<(), InvalidField> {
        let Some(account) = &self.account else { return Ok(()) };
        let of_record = account.pointer.is_some();
        match (&account.parameter, self.record) {
            (Some(_), _) if of_record => {
                Err(InvalidField::new(["account"], "pointer excludes parameter: remove one of the two"))
            }
            // The ID of an account is its key.
            (None, RecordKind::Account) => Ok(()),
            (None, _) if !of_record => {
                Err(InvalidField::new(["account"], "needs parameter or pointer: add the one that names the account"))
            }
            _ => Ok(()),
        }
    }

    fn check_status(&self) -> Result<(), InvalidField> {
        if let Some(StatusField { pending, .. }) = &self.status
            && pending.is_empty()
        {
            return Err(InvalidField::new(["status", "pending"], "must name at least one value"));
        }
        if self.supersedes.is_some() && self.status.is_none() {
            return Err(InvalidField::new(
                ["supersedes"],
                "needs status: add the JSON pointer that tells pending from booked",
            ));
        }
        // The pending ones of another page, or of another account, would be taken for withdrawn.
        let one_page = matches!(self.pagination, super::pagination::Pagination::None);
        let one_account = self.account.as_ref().is_none_or(|account| account.pointer.is_none());
        if self.supersedes == Some(Supersedes::Unlisted) && !(one_page && one_account) {
            let problem = "kind: unlisted needs pagination of kind: none and an account of the job's parameters";
            return Err(InvalidField::new(["supersedes"], problem));
        }
        if self.shape == RecordShape::One && (!self.lists.is_empty() || !one_page) {
            return Err(InvalidField::new(["shape"], "one needs records and pagination of kind: none"));
        }
        if let Some(removed) = &self.removed
            && removed.at.is_empty()
        {
            return Err(InvalidField::new(["removed", "at"], "must name at least one JSON pointer"));
        }
        Ok(())
    }
}
