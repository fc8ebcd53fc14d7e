//! What makes a stream unusable, found when the profile is parsed.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::amounts::{Amounts, CurrencySource, Sign};
use super::definition::{Stream, TimeField, WindowParameters};
use super::list_end::EndSign;
use super::pagination::{LinkUse, Pagination, TokenSource, TokenTarget};
use super::record_fields::Supersedes;
use crate::domain::money::Currency;
use crate::profile::body::RequestBody;
use crate::profile::header_name::check_header_name;
use crate::profile::invalid_field::InvalidField;
use crate::profile::parameter::Parameter;
use crate::profile::time_encoding::TimeEncoding;
use crate::profile::yaml_position::YamlPath;

impl Stream {
    /// The parameters that a job must set, sorted.
    pub fn required_parameters(&self) -> Vec<&str> {
        self.parameters.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name.as_str()).collect()
    }

    /// Checks what serde cannot: the form of pointers and paths, time formats, placeholders. `endpoint` holds the
    /// connection's parameters, which placeholders may use.
    pub(in crate::profile) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), InvalidField> {
        for (name, rule) in &self.parameters {
            rule.check(name).map_err(|problem| InvalidField::new(["parameters", name], problem))?;
        }
        self.check_lists()?;
        self.check_key()?;
        self.check_record_fields()?;
        self.check_pagination()?;
        self.check_end()?;
        self.check_placeholders(endpoint)?;
        let bad = |text: &&str| !text.is_empty() && !text.starts_with('/') && !text.starts_with('{');
        if let Some((path, bad)) = self.pointers().into_iter().find(|(_, pointer)| bad(pointer)) {
            return Err(InvalidField::new(
                path,
                format!("{bad:?} is not a JSON pointer: it must be empty or start with /"),
            ));
        }
        if let Some((path, bad)) = self.paths().into_iter().find(|(_, path)| !path.as_str().starts_with('/')) {
            return Err(InvalidField::new(path, format!("the path {:?} must start with /", bad.as_str())));
        }
        if let Some(money) = &self.money {
            money.minor_units.check().map_err(|invalid| invalid.within(["money", "minorUnits"]))?;
        }
        if let Some(Amounts { currency: CurrencySource::Const { code }, minor_units, .. }) = &self.money
            && Currency::parse(code).ok().and_then(|currency| minor_units.places(currency)).is_none()
        {
            let text = format!("{code:?} is not a known currency: write an ISO 4217 code such as EUR");
            return Err(InvalidField::new(["money", "currency", "code"], text));
        }
        for (field, time) in [("time", &self.time), ("valueTime", &self.value_time)] {
            time.as_ref().map_or(Ok(()), |time| time.check(field))?;
        }
        self.window.as_ref().map_or(Ok(()), WindowParameters::check)
    }

    fn check_lists(&self) -> Result<(), InvalidField> {
        match (self.records.is_empty(), self.lists.is_empty()) {
            (true, true) => Err(InvalidField::new(["records"], "records must name at least one JSON pointer")),
            (false, false) => Err(InvalidField::new(["lists"], "excludes records: remove one of the two")),
            _ => match self.lists.iter().position(|list| list.at.is_empty()) {
                Some(empty) => {
                    let path = YamlPath::from(["lists"]).index(empty);
                    Err(InvalidField::new(path, "at must name at least one JSON pointer"))
                }
                None => Ok(()),
            },
        }
    }

    fn check_key(&self) -> Result<(), InvalidField> {
        match (self.key.is_empty(), &self.key_of) {
            (true, None) => {
                Err(InvalidField::new(["key"], "a stream needs key or keyOf: add the JSON pointer to a record's ID"))
            }
            (false, Some(_)) => Err(InvalidField::new(["keyOf"], "excludes key: remove one of the two")),
            (true, Some(_)) if self.removed.is_some() => Err(InvalidField::new(
                ["removed"],
                "needs a plain key: keyOf makes other keys than the list of withdrawn records has",
            )),
            _ => Ok(()),
        }
    }

    fn check_pagination(&self) -> Result<(), InvalidField> {
        let wrong = |field: &str, problem: &str| Err(InvalidField::new(["pagination", field], problem));
        let link = |link: &LinkUse| match link {
            LinkUse::TakeParams { parameters } if parameters.is_empty() => Err(InvalidField::new(
                ["pagination", "link"],
                "parameters must name at least one query parameter of the link",
            )),
            _ => Ok(()),
        };
        match &self.pagination {
            Pagination::NextUrl { next, .. } if next.is_empty() => {
                wrong("next", "must name at least one JSON pointer to the next page")
            }
            Pagination::Page { next, total, .. } if next.is_empty() && total.is_empty() => {
                wrong("next", "must name at least one JSON pointer to the next page, unless total does to the count")
            }
            Pagination::Page { size: 0, .. }
            | Pagination::Offset { size: 0, .. }
            | Pagination::LastRecordId { size: 0, .. }
            | Pagination::Token { size: Some(0), .. } => wrong("size", "must be above 0"),
            Pagination::Token { size_parameter, size, .. } if size_parameter.is_some() != size.is_some() => {
                wrong("size", "size and sizeParameter go together: add the other, or remove it")
            }
            Pagination::Token { from: TokenSource::Body { pointers }, .. } if pointers.is_empty() => {
                wrong("from", "pointers must name at least one JSON pointer to the token")
            }
            Pagination::Token { to: TokenTarget::Body { .. }, .. }
                if !matches!(self.body, Some(RequestBody::Json { .. })) =>
            {
                wrong("to", "a token in the body needs a body of kind: json")
            }
            Pagination::Token { from: TokenSource::Header { name }, .. } => {
                check_header_name(name).map_err(|problem| InvalidField::new(["pagination", "from"], problem))
            }
            Pagination::LastRecordId { .. } if self.records.is_empty() || self.key.is_empty() => {
                wrong("kind", "lastRecordId needs one list (records) whose records have one id (key)")
            }
            Pagination::NextUrl { link: used, .. } | Pagination::LinkHeader { link: used, .. } => link(used),
            _ => Ok(()),
        }
    }

    /// Each sign of the end can occur.
    fn check_end(&self) -> Result<(), InvalidField> {
        let wrong = |problem: &str| Err(InvalidField::new(["endAs"], problem));
        match &self.pagination {
            Pagination::None if !self.end_as.is_empty() => {
                wrong("needs pages: remove it, or declare how the next page is requested")
            }
            paging if paging.page_size().is_none() && self.end_as.contains(&EndSign::ShortPage) => {
                wrong("shortPage needs a page size: add sizeParameter and size to pagination")
            }
            _ => Ok(()),
        }
    }

    fn pointers(&self) -> Vec<(YamlPath, &str)> {
        let mut found: Vec<(YamlPath, &String)> = vec![(YamlPath::from(["key"]), &self.key)];
        found.extend(self.time.iter().map(|time| (YamlPath::from(["time", "pointer"]), &time.pointer)));
        found.extend(each(&["records"], &self.records));
        for (n, list) in self.lists.iter().enumerate() {
            let path = YamlPath::from(["lists"]).index(n);
            found.extend(list.at.iter().map(|pointer| (path.clone(), pointer)));
        }
        found.extend(self.key_of.iter().flat_map(|key| each(&["keyOf", "fallback"], &key.fallback)));
        for (name, field) in &self.fields {
            found.extend(field.at.iter().map(|pointer| (YamlPath::from(["fields", name]), pointer)));
        }
        found.extend(self.account.iter().flat_map(|account| each(&["account", "number"], &account.number)));
        let of_account = self.account.as_ref().and_then(|account| account.pointer.as_ref());
        found.extend(of_account.map(|pointer| (YamlPath::from(["account", "pointer"]), pointer)));
        found.extend(self.time.iter().flat_map(|time| each(&["time", "or"], &time.or)));
        if let Some(time) = &self.value_time {
            found.push((YamlPath::from(["valueTime", "pointer"]), &time.pointer));
            found.extend(each(&["valueTime", "or"], &time.or));
        }
        found.extend(self.status.iter().map(|status| (YamlPath::from(["status", "pointer"]), &status.pointer)));
        found.extend(self.omit.iter().map(|omit| (YamlPath::from(["omit", "pointer"]), &omit.pointer)));
        if let Some(Supersedes::Pointer { pointer }) = &self.supersedes {
            found.push((YamlPath::from(["supersedes", "pointer"]), pointer));
        }
        if let Some(removed) = &self.removed {
            found.extend(each(&["removed", "at"], &removed.at));
            found.push((YamlPath::from(["removed", "key"]), &removed.key));
            found.extend(removed.account.iter().map(|pointer| (YamlPath::from(["removed", "account"]), pointer)));
        }
        if let Some(available) = self.window.as_ref().and_then(|window| window.available.as_ref()) {
            found.extend(available.from.iter().map(|at| (YamlPath::from(["window", "available", "from"]), at)));
            found.extend(available.to.iter().map(|at| (YamlPath::from(["window", "available", "to"]), at)));
        }
        let more = || YamlPath::from(["pagination", "more"]);
        match &self.pagination {
            Pagination::Page { next, total, .. } => {
                found.extend(each(&["pagination", "next"], next));
                found.extend(each(&["pagination", "total"], total));
            }
            Pagination::Offset { total, .. } => found.extend(each(&["pagination", "total"], total)),
            Pagination::Token { from, to, more: pointer, .. } => {
                found.extend(pointer.iter().map(|pointer| (more(), pointer)));
                if let TokenSource::Body { pointers } = from {
                    found.extend(each(&["pagination", "from", "pointers"], pointers));
                }
                if let TokenTarget::Body { pointer } = to {
                    found.push((YamlPath::from(["pagination", "to", "pointer"]), pointer));
                }
            }
            Pagination::LastRecordId { more: pointer, .. } => found.push((more(), pointer)),
            Pagination::NextUrl { next, .. } => found.extend(each(&["pagination", "next"], next)),
            Pagination::LinkHeader { .. } | Pagination::None => {}
        }
        if let Some(money) = &self.money {
            found.push((YamlPath::from(["money", "amount"]), &money.amount));
            match &money.currency {
                CurrencySource::Field { pointer } => {
                    found.push((YamlPath::from(["money", "currency", "pointer"]), pointer));
                }
                CurrencySource::Join { pointers, .. } => {
                    found.extend(each(&["money", "currency", "pointers"], pointers));
                }
                CurrencySource::Const { .. } => {}
            }
            if let Sign::Field { pointer, .. } = &money.sign {
                found.push((YamlPath::from(["money", "sign", "pointer"]), pointer));
            }
        }
        found.into_iter().map(|(path, pointer)| (path, pointer.as_str())).collect()
    }
}

/// The texts of a list with their paths.
pub(super) fn each<'a>(fields: &[&str], texts: &'a [String]) -> Vec<(YamlPath, &'a String)> {
    let list = fields.iter().fold(YamlPath::default(), |path, field| path.field(*field));
    texts.iter().enumerate().map(|(n, text)| (list.clone().index(n), text)).collect()
}

impl TimeField {
    fn check(&self, field: &'static str) -> Result<(), InvalidField> {
        if let Some(zone) = self.zone.as_ref().filter(|zone| TimeZone::get(zone).is_err()) {
            let text = format!("{zone:?} is not a time zone: write an IANA name such as Europe/Paris");
            return Err(InvalidField::new([field, "zone"], text));
        }
        match &self.format {
            Some(_) if self.encoding != TimeEncoding::Text => {
                Err(InvalidField::new([field, "format"], "is only valid without as: remove one of the two"))
            }
            Some(format) => check_time_format(format).map_err(|problem| InvalidField::new([field, "format"], problem)),
            None => Ok(()),
        }
    }
}

impl WindowParameters {
    fn check(&self) -> Result<(), InvalidField> {
        match (&self.format, self.encoding) {
            (Some(format), TimeEncoding::Text) => {
                check_time_format(format).map_err(|problem| InvalidField::new(["window", "format"], problem))
            }
            (None, TimeEncoding::Text) => {
                Err(InvalidField::new(["window"], "needs format: add the strftime format of both ends"))
            }
            (Some(_), _) => {
                Err(InvalidField::new(["window", "format"], "is only valid without as: remove one of the two"))
            }
            (None, _) => Ok(()),
        }
    }
}

/// Checks a `strftime` format.
fn check_time_format(format: &str) -> Result<(), String> {
    let sample = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0).in_tz("UTC").map_err(|error| error.to_string())?;
    jiff::fmt::strtime::format(format, &sample).map(drop).map_err(|error| format!("{format:?}: {error}"))
}
