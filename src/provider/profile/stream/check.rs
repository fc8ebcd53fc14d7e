//! What makes a stream unusable, found before a job reads it.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::{
    Amounts, CurrencySource, LinkUse, Pagination, Record, Sign, Stream, TimeField, TokenSource, TokenTarget, Window,
};
use crate::domain::money::Currency;
use crate::provider::profile::canonical::TimeForm;
use crate::provider::profile::locate::{Place, Step};
use crate::provider::profile::operation::{Body, placeholders, unknown_placeholder};
use crate::provider::profile::parameter::Parameter;
use crate::provider::profile::template::Template;
use crate::provider::profile::wait::is_header;

/// Where in the stream, and what is wrong there.
type Mistake = (Place, String);

fn at<const N: usize>(fields: [&str; N], problem: impl Into<String>) -> Mistake {
    (Place::of(fields), problem.into())
}

impl Stream {
    /// The parameters that a job must give, sorted.
    pub fn required(&self) -> Vec<&str> {
        self.parameters.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name.as_str()).collect()
    }

    /// What serde cannot see: pointers are pointers, paths are paths, a window can be written, placeholders are known.
    /// `endpoint` are the connection's parameters that placeholders may name.
    pub(in crate::provider::profile) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), Mistake> {
        for (name, rule) in &self.parameters {
            rule.check(name).map_err(|problem| at(["parameters", name], problem))?;
        }
        self.lists()?;
        self.identity()?;
        self.fits_its_record()?;
        self.pages()?;
        self.placeholders(endpoint)?;
        let bad = |text: &&str| !text.is_empty() && !text.starts_with('/') && !text.starts_with('{');
        if let Some((place, bad)) = self.pointers().into_iter().find(|(_, pointer)| bad(pointer)) {
            return Err((place, format!("{bad:?} is no JSON pointer: it must be empty or start with /")));
        }
        if let Some((place, bad)) = self.paths().into_iter().find(|(_, path)| !path.as_str().starts_with('/')) {
            return Err((place, format!("the path {:?} must start with /", bad.as_str())));
        }
        if let Some(CurrencySource::Const { code }) = self.money.as_ref().map(|money| &money.currency)
            && Currency::parse(code).and_then(Currency::exponent).is_err()
        {
            let text =
                format!("{code:?} is no currency whose smallest unit is known: write an ISO 4217 code such as EUR");
            return Err(at(["money", "currency", "code"], text));
        }
        self.time.as_ref().map_or(Ok(()), TimeField::check)?;
        self.window.as_ref().map_or(Ok(()), Window::check)
    }

    fn lists(&self) -> Result<(), Mistake> {
        match (self.records.is_empty(), self.lists.is_empty()) {
            (true, true) => Err(at(["records"], "records must name at least one JSON pointer")),
            (false, false) => Err(at(["lists"], "records and lists are two ways of saying one thing: remove one")),
            _ => match self.lists.iter().position(|list| list.at.is_empty()) {
                Some(empty) => {
                    let place = Place::of(["lists"]).and(Step::Index(empty));
                    Err((place, "at must name at least one JSON pointer".to_owned()))
                }
                None => Ok(()),
            },
        }
    }

    fn identity(&self) -> Result<(), Mistake> {
        match (self.key.is_empty(), &self.key_of) {
            (true, None) => Err(at(["key"], "a stream needs key or keyOf: where is a record's id?")),
            (false, Some(_)) => Err(at(["keyOf"], "key and keyOf are two ways of saying one thing: remove one")),
            _ => Ok(()),
        }
    }

    /// A transaction has money and a time; what is kept whole has neither of its own.
    fn fits_its_record(&self) -> Result<(), Mistake> {
        let whole = self.record != Record::Transaction;
        let unread =
            [("money", self.money.is_some()), ("account", self.account.is_some()), ("fields", !self.fields.is_empty())];
        match unread.iter().find(|(_, set)| whole && *set) {
            Some((field, _)) => {
                let text = format!("{field} is for record: transaction; other records are kept whole, remove it");
                Err(at([field], text))
            }
            None if !whole && self.time.is_none() => Err(at(["time"], "a transaction needs time: where is its day?")),
            None if !whole && self.money.is_none() => {
                Err(at(["money"], "a transaction needs money: where is its amount?"))
            }
            None => Ok(()),
        }
    }

    fn pages(&self) -> Result<(), Mistake> {
        let wrong = |field: &str, problem: &str| Err(at(["pagination", field], problem));
        let link = |link: &LinkUse| match link {
            LinkUse::TakeParams { parameters } if parameters.is_empty() => {
                Err(at(["pagination", "link"], "parameters must name what is taken out of the link"))
            }
            _ => Ok(()),
        };
        match &self.pagination {
            Pagination::Page { next, .. } | Pagination::NextUrl { next, .. } if next.is_empty() => {
                wrong("next", "must name where the next page is told")
            }
            Pagination::Page { size: 0, .. }
            | Pagination::Offset { size: 0, .. }
            | Pagination::LastRecordId { size: 0, .. }
            | Pagination::Token { size: Some(0), .. } => wrong("size", "must be above 0"),
            Pagination::Token { size_parameter, size, .. } if size_parameter.is_some() != size.is_some() => {
                wrong("size", "size and sizeParameter go together: add the other, or remove it")
            }
            Pagination::Token { from: TokenSource::Body { pointers }, .. } if pointers.is_empty() => {
                wrong("from", "pointers must name where the token is told")
            }
            Pagination::Token { from: TokenSource::Header { name }, .. } if !is_header(name) => {
                wrong("from", &format!("{name:?} is no header name"))
            }
            Pagination::Token { to: TokenTarget::Body { .. }, .. } if !matches!(self.body, Some(Body::Json { .. })) => {
                wrong("to", "a token in the body needs a body of kind: json")
            }
            Pagination::LastRecordId { .. } if self.records.is_empty() || self.key.is_empty() => {
                wrong("kind", "lastRecordId needs one list (records) whose records have one id (key)")
            }
            Pagination::NextUrl { link: used, .. } | Pagination::LinkHeader { link: used, .. } => link(used),
            _ => Ok(()),
        }
    }

    /// Every placeholder is declared, everything declared is used, and what must have a value has one.
    fn placeholders(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), Mistake> {
        let mut used: Vec<(Place, String)> = Vec::new();
        for (place, text) in self.placed_texts() {
            let template = Template::parse(text).map_err(|error| (place.clone(), error.to_string()))?;
            used.extend(template.parameters().map(|name| (place.clone(), name.to_owned())));
        }
        let queries = self.query.iter().map(|(name, value)| (Place::of(["query", name]), value));
        for (place, template) in self.paths().into_iter().chain(queries) {
            used.extend(template.parameters().map(|name| (place.clone(), name.to_owned())));
        }
        match &self.body {
            Some(Body::Json { content }) => {
                let (place, mut names) = (Place::of(["body", "content"]), Vec::new());
                placeholders(content, &mut names).map_err(|problem| (place.clone(), problem))?;
                used.extend(names.into_iter().map(|name| (place.clone(), name)));
            }
            Some(Body::Form { fields }) => {
                let names = |(field, value)| {
                    let place = Place::of(["body", "fields", field]);
                    Template::parameters(value).map(move |name| (place.clone(), name.to_owned()))
                };
                used.extend(fields.iter().map(|(field, value)| (field.as_str(), value)).flat_map(names));
            }
            None => {}
        }
        let known = |name: &String| self.parameters.contains_key(name) || endpoint.contains_key(name);
        if let Some((place, unknown)) = used.iter().find(|(_, name)| !known(name)) {
            return Err((place.clone(), unknown_placeholder(unknown)));
        }
        let named = self.account.as_ref().map(|account| &account.parameter);
        if let Some(unknown) = named.filter(|name| !self.parameters.contains_key(*name)) {
            let text = format!("{unknown} is not known: declare it under parameters");
            return Err(at(["account", "parameter"], text));
        }
        for (name, rule) in &self.parameters {
            let wrong = |problem: &str| Err(at(["parameters", name], problem));
            if !used.iter().any(|(_, used)| used == name) && named != Some(name) {
                return wrong("is used nowhere: remove it");
            }
            if endpoint.contains_key(name) {
                return wrong("is the connection's own: a job must not set it");
            }
            if !rule.required && rule.default.is_none() && !self.only_in_query(name) {
                return wrong("may have no value: make it required, or give it a default");
            }
        }
        Ok(())
    }

    /// Whether the parameter is used in query parameters and the body only, which are left out without a value.
    fn only_in_query(&self, name: &str) -> bool {
        let in_path = self.paths().iter().any(|(_, path)| path.parameters().any(|used| used == name));
        let in_text = self.filled_texts().iter().any(|text| text.contains(&format!("{{{name}}}")));
        !in_path && !in_text && self.account.as_ref().is_none_or(|account| account.parameter != name)
    }

    fn paths(&self) -> Vec<(Place, &Template)> {
        let mut paths = vec![(Place::of(["path"]), &self.path)];
        if let Some(Amounts { currency: CurrencySource::Join { path, .. }, .. }) = &self.money {
            paths.push((Place::of(["money", "currency", "path"]), path));
        }
        paths
    }

    /// The texts that may hold placeholders, each with its place.
    fn placed_texts(&self) -> Vec<(Place, &String)> {
        let mut texts = vec![(Place::of(["key"]), &self.key)];
        texts.extend(each(&["records"], &self.records));
        texts.extend(self.time.iter().map(|time| (Place::of(["time", "pointer"]), &time.pointer)));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &self.pagination {
            texts.push((Place::of(["pagination", "parameter"]), parameter));
            texts.push((Place::of(["pagination", "sizeParameter"]), size_parameter));
            texts.extend(each(&["pagination", "total"], total));
        }
        texts
    }

    fn pointers(&self) -> Vec<(Place, &str)> {
        let mut found: Vec<(Place, &String)> = vec![(Place::of(["key"]), &self.key)];
        found.extend(self.time.iter().map(|time| (Place::of(["time", "pointer"]), &time.pointer)));
        found.extend(each(&["records"], &self.records));
        for (n, list) in self.lists.iter().enumerate() {
            let place = Place::of(["lists"]).and(Step::Index(n));
            found.extend(list.at.iter().map(|pointer| (place.clone(), pointer)));
        }
        found.extend(self.key_of.iter().flat_map(|key| each(&["keyOf", "fallback"], &key.fallback)));
        found.extend(self.fields.iter().map(|(name, pointer)| (Place::of(["fields", name]), pointer)));
        found.extend(self.account.iter().flat_map(|account| each(&["account", "number"], &account.number)));
        let more = || Place::of(["pagination", "more"]);
        match &self.pagination {
            Pagination::Page { next, total, .. } => {
                found.extend(each(&["pagination", "next"], next));
                found.extend(each(&["pagination", "total"], total));
            }
            Pagination::Offset { total, .. } => found.extend(each(&["pagination", "total"], total)),
            Pagination::Token { from, to, more: told, .. } => {
                found.extend(told.iter().map(|pointer| (more(), pointer)));
                if let TokenSource::Body { pointers } = from {
                    found.extend(each(&["pagination", "from", "pointers"], pointers));
                }
                if let TokenTarget::Body { pointer } = to {
                    found.push((Place::of(["pagination", "to", "pointer"]), pointer));
                }
            }
            Pagination::LastRecordId { more: told, .. } => found.push((more(), told)),
            Pagination::NextUrl { next, .. } => found.extend(each(&["pagination", "next"], next)),
            Pagination::LinkHeader { .. } | Pagination::None => {}
        }
        if let Some(money) = &self.money {
            found.push((Place::of(["money", "amount"]), &money.amount));
            match &money.currency {
                CurrencySource::Field { pointer } => {
                    found.push((Place::of(["money", "currency", "pointer"]), pointer));
                }
                CurrencySource::Join { pointers, .. } => {
                    found.extend(each(&["money", "currency", "pointers"], pointers));
                }
                CurrencySource::Const { .. } => {}
            }
            if let Sign::Field { pointer, .. } = &money.sign {
                found.push((Place::of(["money", "sign", "pointer"]), pointer));
            }
        }
        found.into_iter().map(|(place, pointer)| (place, pointer.as_str())).collect()
    }
}

/// Each text of a list with its place.
fn each<'a>(fields: &[&str], texts: &'a [String]) -> Vec<(Place, &'a String)> {
    let list = fields.iter().fold(Place::default(), |place, field| place.and(Step::Field((*field).to_owned())));
    texts.iter().enumerate().map(|(n, text)| (list.clone().and(Step::Index(n)), text)).collect()
}

impl TimeField {
    fn check(&self) -> Result<(), Mistake> {
        if let Some(zone) = self.zone.as_ref().filter(|zone| TimeZone::get(zone).is_err()) {
            let text = format!("{zone:?} is no time zone: write an IANA name such as Europe/Paris");
            return Err(at(["time", "zone"], text));
        }
        match &self.format {
            Some(_) if self.form != TimeForm::Text => Err(at(["time", "format"], "is for texts: remove it, or as")),
            Some(format) => printable(format).map_err(|problem| at(["time", "format"], problem)),
            None => Ok(()),
        }
    }
}

impl Window {
    fn check(&self) -> Result<(), Mistake> {
        match (&self.format, self.form) {
            (Some(format), TimeForm::Text) => printable(format).map_err(|problem| at(["window", "format"], problem)),
            (None, TimeForm::Text) => Err(at(["window"], "needs format: how are the ends written?")),
            (Some(_), _) => Err(at(["window", "format"], "is for texts: remove it, or as")),
            (None, _) => Ok(()),
        }
    }
}

/// Whether a moment can be written as `format` says.
fn printable(format: &str) -> Result<(), String> {
    let sample = jiff::civil::date(2026, 1, 2).at(3, 4, 5, 0).in_tz("UTC").map_err(|error| error.to_string())?;
    jiff::fmt::strtime::format(format, &sample).map(drop).map_err(|error| format!("{format:?}: {error}"))
}
