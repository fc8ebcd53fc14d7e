//! What makes a stream unusable, found when the profile is parsed.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::amounts::{Amounts, CurrencySource, Sign};
use super::definition::{RecordKind, Stream, TimeField, WindowParameters};
use super::list_end::EndSign;
use super::pagination::{LinkUse, Pagination, TokenSource, TokenTarget};
use crate::domain::money::Currency;
use crate::profile::body::{RequestBody, collect_placeholders, unknown_placeholder};
use crate::profile::header_name::check_header_name;
use crate::profile::invalid_field::InvalidField;
use crate::profile::parameter::Parameter;
use crate::profile::template::Template;
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
        self.time.as_ref().map_or(Ok(()), TimeField::check)?;
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
            _ => Ok(()),
        }
    }

    /// A transaction needs money and a time; other records are stored unchanged and have neither.
    fn check_record_fields(&self) -> Result<(), InvalidField> {
        let is_transaction = self.record == RecordKind::Transaction;
        let transaction_only =
            [("money", self.money.is_some()), ("account", self.account.is_some()), ("fields", !self.fields.is_empty())];
        match transaction_only.iter().find(|(_, set)| !is_transaction && *set) {
            Some((field, _)) => {
                let text = format!("{field} is only valid with record: transaction; remove it");
                Err(InvalidField::new([*field], text))
            }
            None if is_transaction && self.time.is_none() => {
                Err(InvalidField::new(["time"], "a transaction needs time: add the JSON pointer to its day"))
            }
            None if is_transaction && self.money.is_none() => {
                Err(InvalidField::new(["money"], "a transaction needs money: add the JSON pointer to its amount"))
            }
            None => Ok(()),
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
            Pagination::Page { next, .. } | Pagination::NextUrl { next, .. } if next.is_empty() => {
                wrong("next", "must name at least one JSON pointer to the next page")
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

    /// Every placeholder is declared, every parameter is used, and every placeholder that needs a value has one.
    fn check_placeholders(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), InvalidField> {
        let mut used: Vec<(YamlPath, String)> = Vec::new();
        for (path, text) in self.texts_with_paths() {
            let template = Template::parse(text).map_err(|error| InvalidField::new(path.clone(), error.to_string()))?;
            used.extend(template.parameters().map(|name| (path.clone(), name.to_owned())));
        }
        let queries = self.query.iter().map(|(name, value)| (YamlPath::from(["query", name]), value));
        for (path, template) in self.paths().into_iter().chain(queries) {
            used.extend(template.parameters().map(|name| (path.clone(), name.to_owned())));
        }
        match &self.body {
            Some(RequestBody::Json { content }) => {
                let (path, mut names) = (YamlPath::from(["body", "content"]), Vec::new());
                collect_placeholders(content, &mut names)
                    .map_err(|problem| InvalidField::new(path.clone(), problem))?;
                used.extend(names.into_iter().map(|name| (path.clone(), name)));
            }
            Some(RequestBody::Form { fields }) => {
                let names = |(field, value)| {
                    let path = YamlPath::from(["body", "fields", field]);
                    Template::parameters(value).map(move |name| (path.clone(), name.to_owned()))
                };
                used.extend(fields.iter().map(|(field, value)| (field.as_str(), value)).flat_map(names));
            }
            None => {}
        }
        let known = |name: &String| self.parameters.contains_key(name) || endpoint.contains_key(name);
        if let Some((path, unknown)) = used.iter().find(|(_, name)| !known(name)) {
            return Err(InvalidField::new(path.clone(), unknown_placeholder(unknown)));
        }
        let named = self.account.as_ref().map(|account| &account.parameter);
        if let Some(unknown) = named.filter(|name| !self.parameters.contains_key(*name)) {
            let text = format!("{unknown} is not declared: add it under parameters");
            return Err(InvalidField::new(["account", "parameter"], text));
        }
        for (name, rule) in &self.parameters {
            let wrong = |problem: &str| Err(InvalidField::new(["parameters", name], problem));
            if !used.iter().any(|(_, used)| used == name) && named != Some(name) {
                return wrong("is not used: remove it");
            }
            if endpoint.contains_key(name) {
                return wrong("belongs to the connection: a job must not set it; rename it");
            }
            if !rule.required && rule.default.is_none() && !self.only_in_query(name) {
                return wrong("may have no value: make it required, or add a default");
            }
        }
        Ok(())
    }

    /// Whether the parameter is used only in the query and the body, which are omitted without a value.
    fn only_in_query(&self, name: &str) -> bool {
        let in_path = self.paths().iter().any(|(_, path)| path.parameters().any(|used| used == name));
        let in_text = self.expandable_texts().iter().any(|text| text.contains(&format!("{{{name}}}")));
        !in_path && !in_text && self.account.as_ref().is_none_or(|account| account.parameter != name)
    }

    fn paths(&self) -> Vec<(YamlPath, &Template)> {
        let mut paths = vec![(YamlPath::from(["path"]), &self.path)];
        if let Some(Amounts { currency: CurrencySource::Join { path, .. }, .. }) = &self.money {
            paths.push((YamlPath::from(["money", "currency", "path"]), path));
        }
        paths
    }

    /// The texts that may contain placeholders, with their paths.
    fn texts_with_paths(&self) -> Vec<(YamlPath, &String)> {
        let mut texts = vec![(YamlPath::from(["key"]), &self.key)];
        texts.extend(each(&["records"], &self.records));
        texts.extend(self.time.iter().map(|time| (YamlPath::from(["time", "pointer"]), &time.pointer)));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &self.pagination {
            texts.push((YamlPath::from(["pagination", "parameter"]), parameter));
            texts.push((YamlPath::from(["pagination", "sizeParameter"]), size_parameter));
            texts.extend(each(&["pagination", "total"], total));
        }
        texts
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
        found.extend(self.fields.iter().map(|(name, pointer)| (YamlPath::from(["fields", name]), pointer)));
        found.extend(self.account.iter().flat_map(|account| each(&["account", "number"], &account.number)));
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
fn each<'a>(fields: &[&str], texts: &'a [String]) -> Vec<(YamlPath, &'a String)> {
    let list = fields.iter().fold(YamlPath::default(), |path, field| path.field(*field));
    texts.iter().enumerate().map(|(n, text)| (list.clone().index(n), text)).collect()
}

impl TimeField {
    fn check(&self) -> Result<(), InvalidField> {
        if let Some(zone) = self.zone.as_ref().filter(|zone| TimeZone::get(zone).is_err()) {
            let text = format!("{zone:?} is not a time zone: write an IANA name such as Europe/Paris");
            return Err(InvalidField::new(["time", "zone"], text));
        }
        match &self.format {
            Some(_) if self.encoding != TimeEncoding::Text => {
                Err(InvalidField::new(["time", "format"], "is only valid without as: remove one of the two"))
            }
            Some(format) => check_time_format(format).map_err(|problem| InvalidField::new(["time", "format"], problem)),
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
