//! What makes a stream unusable, found before a job reads it.

use std::collections::BTreeMap;

use super::{Amounts, CurrencySource, Pagination, Record, Sign, Stream};
use crate::provider::profile::operation::unknown_placeholder;
use crate::provider::profile::parameter::Parameter;
use crate::provider::profile::template::Template;

impl Stream {
    /// The parameters that a job must give, sorted.
    pub fn required(&self) -> Vec<&str> {
        self.parameters.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name.as_str()).collect()
    }

    /// What serde cannot see: pointers are pointers, paths are paths, a window can be written, placeholders are known.
    /// `endpoint` are the connection's parameters that placeholders may name.
    pub(in crate::provider::profile) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), String> {
        for (name, rule) in &self.parameters {
            rule.check(name).map_err(|problem| format!("parameters.{name}: {problem}"))?;
        }
        if self.records.is_empty() {
            return Err("records must name at least one JSON pointer".to_owned());
        }
        self.fits_its_record()?;
        self.pages()?;
        self.placeholders(endpoint)?;
        let bad = |pointer: &&str| !pointer.is_empty() && !pointer.starts_with('/') && !pointer.starts_with('{');
        if let Some(bad) = self.pointers().into_iter().find(bad) {
            return Err(format!("{bad:?} is no JSON pointer: it must be empty or start with /"));
        }
        if let Some(bad) = self.paths().into_iter().find(|path| !path.as_str().starts_with('/')) {
            return Err(format!("the path {:?} must start with /", bad.as_str()));
        }
        if let Some(window) = &self.window {
            let sample = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0).in_tz("UTC").map_err(|e| e.to_string())?;
            jiff::fmt::strtime::format(&window.format, &sample)
                .map_err(|e| format!("window.format {:?}: {e}", window.format))?;
        }
        Ok(())
    }

    /// A transaction has money and a time; what is kept whole has neither of its own.
    fn fits_its_record(&self) -> Result<(), String> {
        let whole = self.record != Record::Transaction;
        let unread =
            [("money", self.money.is_some()), ("account", self.account.is_some()), ("fields", !self.fields.is_empty())];
        match unread.iter().find(|(_, set)| whole && *set) {
            Some((field, _)) => {
                Err(format!("{field} is for record: transaction; other records are kept whole, remove it"))
            }
            None if !whole && self.time.is_none() => Err("a transaction needs time: where is its day?".to_owned()),
            None if !whole && self.money.is_none() => Err("a transaction needs money: where is its amount?".to_owned()),
            None => Ok(()),
        }
    }

    fn pages(&self) -> Result<(), String> {
        match &self.pagination {
            Pagination::Page { next, .. } if next.is_empty() => {
                Err("pagination.next must name where the next page is told".to_owned())
            }
            Pagination::Page { size: 0, .. } | Pagination::Offset { size: 0, .. } => {
                Err("pagination.size must be above 0".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Every placeholder is declared, everything declared is used, and what must have a value has one.
    fn placeholders(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), String> {
        let mut used = Vec::new();
        for text in self.filled_texts() {
            let template = Template::parse(text).map_err(|error| error.to_string())?;
            used.extend(template.parameters().map(str::to_owned));
        }
        for template in self.paths().into_iter().chain(self.query.values()) {
            used.extend(template.parameters().map(str::to_owned));
        }
        if let Some(unknown) =
            used.iter().find(|name| !self.parameters.contains_key(*name) && !endpoint.contains_key(*name))
        {
            return Err(unknown_placeholder(unknown));
        }
        let named = self.account.as_ref().map(|account| &account.parameter);
        if let Some(unknown) = named.filter(|name| !self.parameters.contains_key(*name)) {
            return Err(format!("account.parameter {unknown} is not known: declare it under parameters"));
        }
        for (name, rule) in &self.parameters {
            if !used.contains(name) && named != Some(name) {
                return Err(format!("parameters.{name} is used nowhere: remove it"));
            }
            if endpoint.contains_key(name) {
                return Err(format!("parameters.{name} is the connection's own: a job must not set it"));
            }
            if !rule.required && rule.default.is_none() && !self.only_in_query(name) {
                return Err(format!("parameters.{name} may have no value: make it required, or give it a default"));
            }
        }
        Ok(())
    }

    /// Whether the parameter is used in query parameters only, which are left out without a value.
    fn only_in_query(&self, name: &str) -> bool {
        let in_path = self.paths().iter().any(|path| path.parameters().any(|used| used == name));
        let in_text = self.filled_texts().iter().any(|text| text.contains(&format!("{{{name}}}")));
        !in_path && !in_text && self.account.as_ref().is_none_or(|account| account.parameter != name)
    }

    fn paths(&self) -> Vec<&Template> {
        let joined = match &self.money {
            Some(Amounts { currency: CurrencySource::Join { path, .. }, .. }) => Some(path),
            _ => None,
        };
        [Some(&self.path), joined].into_iter().flatten().collect()
    }

    fn pointers(&self) -> Vec<&str> {
        let mut pointers: Vec<&str> = vec![&self.key];
        pointers.extend(self.time.iter().map(|time| time.pointer.as_str()));
        pointers.extend(self.records.iter().chain(self.fields.values()).map(String::as_str));
        pointers.extend(self.account.iter().flat_map(|account| &account.number).map(String::as_str));
        match &self.pagination {
            Pagination::Page { next, total, .. } => pointers.extend(next.iter().chain(total).map(String::as_str)),
            Pagination::Offset { total, .. } => pointers.extend(total.iter().map(String::as_str)),
            Pagination::None => {}
        }
        if let Some(money) = &self.money {
            pointers.push(&money.amount);
            match &money.currency {
                CurrencySource::Field { pointer } => pointers.push(pointer),
                CurrencySource::Join { pointers: joined, .. } => pointers.extend(joined.iter().map(String::as_str)),
            }
            if let Sign::Field { pointer, .. } = &money.sign {
                pointers.push(pointer);
            }
        }
        pointers
    }
}
