//! What makes an operation unusable, found when the profile is parsed.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::definition::Operation;
use crate::domain::breaker::CallClass;
use crate::profile::body::{RequestBody, collect_placeholders, unknown_placeholder};
use crate::profile::header_name::check_settable_header;
use crate::profile::invalid_field::InvalidField;
use crate::profile::parameter::Parameter;
use crate::profile::template::Template;
use crate::profile::yaml_position::YamlPath;

/// A template's path and the names of its placeholders.
type Placeholders = (YamlPath, Vec<String>);

impl Operation {
    /// Checks what serde cannot. `endpoint` holds the connection's parameters, which placeholders may use.
    pub(in crate::profile) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), InvalidField> {
        for (name, rule) in &self.parameters {
            let invalid = |problem| InvalidField::new(["parameters", name], problem);
            rule.check(name).map_err(invalid)?;
            if endpoint.contains_key(name) {
                return Err(invalid("belongs to the connection: a caller must not set it; rename it".to_owned()));
            }
        }
        if !self.path.as_str().starts_with('/') {
            return Err(InvalidField::new(["path"], format!("the path {:?} must start with /", self.path.as_str())));
        }
        // A payment classified as a read would be retried and served from the cache: it would be made twice.
        if self.method != Method::GET && self.explicit_class.is_none() {
            let problem = format!(
                "{} may change something or move money: add class: Read, class: Write or class: Money",
                self.method
            );
            return Err(InvalidField::new(["method"], problem));
        }
        self.check_placeholders(endpoint)?;
        for name in self.headers.keys() {
            check_settable_header(name).map_err(|problem| InvalidField::new(["headers", name], problem))?;
        }
        if let Some(unknown) = self.partition.as_ref().filter(|name| !self.parameters.contains_key(*name)) {
            return Err(InvalidField::new(["partition"], format!("{unknown} is not a parameter of the operation")));
        }
        if self.cache && self.class() != CallClass::Read {
            return Err(InvalidField::new(["cache"], "only class: Read can be cached: remove it, or set class: Read"));
        }
        if self.body.is_some() && self.method == Method::GET {
            return Err(InvalidField::new(["body"], "GET has no body: set the method"));
        }
        match &self.canonical {
            Some(mapping) => mapping.check().map_err(|problem| InvalidField::new(["canonical"], problem)),
            None => Ok(()),
        }
    }

    /// Every placeholder is declared, every parameter is used, and each placeholder of the path has a value.
    fn check_placeholders(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), InvalidField> {
        let path = names(&self.path);
        let mut used = BTreeSet::new();
        for (position, names) in std::iter::once((["path"].into(), path.clone())).chain(self.other_placeholders()?) {
            let known = |name: &String| self.parameters.contains_key(name) || endpoint.contains_key(name);
            if let Some(unknown) = names.iter().find(|name| !known(name)) {
                return Err(InvalidField::new(position, unknown_placeholder(unknown)));
            }
            used.extend(names);
        }
        let optional =
            |name: &&String| self.parameters.get(*name).is_some_and(|rule| !rule.required && rule.default.is_none());
        if let Some(open) = path.iter().find(optional) {
            let problem = format!("{{{open}}} may have no value: make the parameter required, or add a default");
            return Err(InvalidField::new(["path"], problem));
        }
        match self.parameters.keys().find(|name| !used.contains(*name)) {
            Some(unused) => Err(InvalidField::new(["parameters", unused], "is not used: remove it")),
            None => Ok(()),
        }
    }

    /// The placeholders of the query, the headers and the body.
    fn other_placeholders(&self) -> Result<Vec<Placeholders>, InvalidField> {
        let mut found: Vec<Placeholders> = Vec::new();
        for (part, templates) in [("query", &self.query), ("headers", &self.headers)] {
            found.extend(templates.iter().map(|(name, template)| ([part, name].into(), names(template))));
        }
        match &self.body {
            Some(RequestBody::Form { fields }) => {
                let each = |(name, template): (&String, &Template)| (["body", "fields", name].into(), names(template));
                found.extend(fields.iter().map(each));
            }
            Some(RequestBody::Json { content }) => {
                let mut names = Vec::new();
                collect_placeholders(content, &mut names)
                    .map_err(|problem| InvalidField::new(["body", "content"], problem))?;
                found.push((["body", "content"].into(), names));
            }
            None => {}
        }
        Ok(found)
    }
}

fn names(template: &Template) -> Vec<String> {
    template.parameters().map(str::to_owned).collect()
}
