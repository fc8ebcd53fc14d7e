//! The description of one stream of records: where to ask, how to page, how a record becomes canonical.
//!
//! It is the same format that a user will write inline in a `SyncJob`. Paths into a body are JSON pointers (RFC 6901);
//! where a provider is known to answer in two shapes, a list of them is tried in order.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::template::Template;

/// One stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// What a record becomes.
    pub record: Record,
    /// Path below the base URL, with the job's parameters as placeholders.
    pub path: Template,
    /// Constant query parameters.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// The time range that every request asks for.
    #[serde(default)]
    pub window: Option<Window>,
    /// Pointers to the array of records; the first that leads to an array is taken.
    pub records: Vec<String>,
    /// How to get the next page.
    pub pagination: Pagination,
    /// Pointer to the provider's own id of a record.
    pub key: String,
    /// The record's booking time.
    pub time: TimeField,
    /// The record's amount; absent for records without money.
    #[serde(default)]
    pub money: Option<Amounts>,
    /// The account that the records are on; absent for records without one.
    #[serde(default)]
    pub account: Option<Account>,
    /// Further canonical fields, by name, each with its pointer.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// The order in which the provider gives records.
    #[serde(default)]
    pub order: Order,
    /// When the cursor may move.
    #[serde(default)]
    pub commit_scope: CommitScope,
}

/// What a stream's records become.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// A booked or pending movement on an account.
    Transaction,
}

/// The query parameters that bound a request in time.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// Parameter of the start.
    pub from: String,
    /// Parameter of the end.
    pub to: String,
    /// `strftime` form of both, e.g. `%d-%m-%Y`.
    pub format: String,
    /// The first window of a new job reaches this far back, unless the job says otherwise.
    #[serde(deserialize_with = "super::duration")]
    pub initial: Duration,
    /// Every window starts this much before the cursor, for records that were booked late. At least the format's grain.
    #[serde(deserialize_with = "super::duration")]
    pub lookback: Duration,
}

/// How one page leads to the next.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Pagination {
    /// Numbered pages, where the body links to the next one. Only the number is taken out of that link: it is never
    /// followed, because providers are known to print links that lead elsewhere.
    Page {
        /// The query parameter, in requests and in the link.
        parameter: String,
        /// The first page's number.
        first: u64,
        /// Pointers to the next page's link or number; no value or an empty one is the end.
        next: Vec<String>,
        /// Pointers to the count of all records of the window, which shows a list that changes under the walk.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// The whole answer is one page.
    None,
}

/// The account that a request's records are on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// The job's parameter that names it.
    pub parameter: String,
    /// Pointers to its number in the joined answer, tried in order; shown masked. None found: the parameter is shown so.
    #[serde(default)]
    pub number: Vec<String>,
}

/// A record's time.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeField {
    /// Pointer to an RFC 3339 instant or a date.
    pub pointer: String,
}

/// A record's money.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Amounts {
    /// Pointer to the amount.
    pub amount: String,
    /// How the amount is written.
    pub repr: AmountRepr,
    /// Where the currency is told.
    pub currency: CurrencySource,
    /// How a credit differs from a debit.
    pub sign: Sign,
}

/// How an amount is written.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AmountRepr {
    /// A whole number of the currency's smallest unit.
    MinorInteger,
    /// A decimal as text.
    DecimalString,
}

/// Where the currency of an amount is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CurrencySource {
    /// In the record.
    Field {
        /// Pointer into the record.
        pointer: String,
    },
    /// In another answer, asked once per run: the account's.
    Join {
        /// Path below the base URL, with the job's parameters as placeholders.
        path: Template,
        /// Pointers into that answer, tried in order.
        pointers: Vec<String>,
    },
}

/// How a credit differs from a debit.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Sign {
    /// The amount has no sign; another field says which way the money went.
    Field {
        /// Pointer into the record.
        pointer: String,
        /// Its value where money came in.
        credit: String,
        /// Its value where money went out.
        debit: String,
    },
    /// The amount is signed, money in is positive.
    Signed,
}

/// The order of a stream's records.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Oldest first: a page's last record is a safe cursor.
    OldestFirst,
    /// Newest first: the cursor waits for the whole window.
    NewestFirst,
    /// Not promised: treated as newest first.
    #[default]
    Unknown,
}

/// When the cursor may move.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Deserialize)]
pub enum CommitScope {
    /// Rows with each page; the high-water mark when the window is complete.
    #[default]
    Page,
    /// Everything at once, when the window is complete.
    Window,
}

impl Stream {
    /// The parameters that a job must give, sorted, each once.
    pub fn parameters(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.path.parameters().chain(self.query.values().flat_map(Template::parameters)).collect();
        if let Some(Amounts { currency: CurrencySource::Join { path, .. }, .. }) = &self.money {
            names.extend(path.parameters());
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What serde cannot see: pointers are pointers, paths are paths, a window can be written.
    pub fn check(&self) -> Result<(), String> {
        let mut pointers: Vec<&str> = vec![&self.key, &self.time.pointer];
        pointers.extend(self.records.iter().map(String::as_str));
        pointers.extend(self.fields.values().map(String::as_str));
        let mut paths = vec![&self.path];
        if self.records.is_empty() {
            return Err("records must name at least one JSON pointer".to_owned());
        }
        pointers.extend(self.account.iter().flat_map(|account| &account.number).map(String::as_str));
        if let Pagination::Page { next, total, size, .. } = &self.pagination {
            pointers.extend(next.iter().chain(total).map(String::as_str));
            if next.is_empty() || *size == 0 {
                return Err("pagination must name where the next page is told, and a size above 0".to_owned());
            }
        }
        if let Some(money) = &self.money {
            pointers.push(&money.amount);
            match &money.currency {
                CurrencySource::Field { pointer } => pointers.push(pointer),
                CurrencySource::Join { path, pointers: joined } => {
                    paths.push(path);
                    pointers.extend(joined.iter().map(String::as_str));
                }
            }
            if let Sign::Field { pointer, .. } = &money.sign {
                pointers.push(pointer);
            }
        }
        if let Some(bad) = pointers.iter().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(format!("{bad:?} is no JSON pointer: it must be empty or start with /"));
        }
        if let Some(bad) = paths.iter().find(|path| !path.as_str().starts_with('/')) {
            return Err(format!("the path {bad:?} must start with /"));
        }
        if let Some(window) = &self.window {
            let sample = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0).in_tz("UTC").map_err(|e| e.to_string())?;
            jiff::fmt::strtime::format(&window.format, &sample)
                .map_err(|e| format!("window.format {:?}: {e}", window.format))?;
        }
        Ok(())
    }
}
