//! The placeholders of a stream: every one is declared, every parameter is used.

use std::collections::BTreeMap;

use super::amounts::{Amounts, CurrencySource};
use super::definition::{Stream, WindowPlace};
use super::pagination::Pagination;
use super::validate::each;
use crate::profile::body::{RequestBody, collect_placeholders, unknown_placeholder};
use crate::profile::invalid_field::InvalidField;
use crate::profile::parameter::Parameter;
use crate::profile::template::Template;
use crate::profile::yaml_position::YamlPath;

impl Stream {
    /// Every placeholder is declared, every parameter is used, and every placeholder that needs a value has one.
    pub(super) fn check_placeholders(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), InvalidField> {
        let used = self.placeholders()?;
        let bounds = self.path_bounds();
        if let Some(missing) = bounds.iter().find(|bound| !self.path.parameters().any(|name| name == bound.as_str())) {
            let text = format!("in: path needs the placeholder {{{missing}}} in path: add it");
            return Err(InvalidField::new(["window"], text));
        }
        let known =
            |name: &String| self.parameters.contains_key(name) || endpoint.contains_key(name) || bounds.contains(&name);
        if let Some((path, unknown)) = used.iter().find(|(_, name)| !known(name)) {
            return Err(InvalidField::new(path.clone(), unknown_placeholder(unknown)));
        }
        let named = self.account.as_ref().and_then(|account| account.parameter.as_ref());
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

    /// The placeholders of the path that are bounds of the window.
    pub(super) fn path_bounds(&self) -> Vec<&String> {
        let window = self.window.iter().filter(|window| window.place == WindowPlace::Path);
        window.flat_map(|window| std::iter::once(&window.from).chain(&window.to)).collect()
    }

    /// The placeholders with the fields that they stand in.
    pub(super) fn placeholders(&self) -> Result<Vec<(YamlPath, String)>, InvalidField> {
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
        Ok(used)
    }

    /// Whether the parameter is used only in the query and the body, which are omitted without a value.
    fn only_in_query(&self, name: &str) -> bool {
        let in_path = self.paths().iter().any(|(_, path)| path.parameters().any(|used| used == name));
        let in_text = self.expandable_texts().iter().any(|text| text.contains(&format!("{{{name}}}")));
        let is_account = |account: &super::definition::AccountSource| account.parameter.as_deref() == Some(name);
        !in_path && !in_text && !self.account.as_ref().is_some_and(is_account)
    }

    /// The paths of the stream's requests.
    pub(super) fn paths(&self) -> Vec<(YamlPath, &Template)> {
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
        texts.extend(self.add.iter().map(|(name, value)| (YamlPath::from(["add", name]), value)));
        texts.extend(self.time.iter().map(|time| (YamlPath::from(["time", "pointer"]), &time.pointer)));
        if let Pagination::Offset { parameter, total, size_parameter, .. } = &self.pagination {
            texts.push((YamlPath::from(["pagination", "parameter"]), parameter));
            texts.push((YamlPath::from(["pagination", "sizeParameter"]), size_parameter));
            texts.extend(each(&["pagination", "total"], total));
        }
        texts
    }
}
