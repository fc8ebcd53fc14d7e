//! Which parameters of a stream select its source: what it reads, as opposed to how.
//!
//! A source is identified by the values of these parameters and not by the URL that they make, so that a corrected profile
//! keeps its rows. A value that is the default is left out, whether the job sets it or not.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::Stream;
use crate::profile::body::{RequestBody, collect_placeholders};
use crate::profile::template::Template;

impl Stream {
    /// The names and values of the parameters that select what is read, of `values`, sorted by name; `None` if the stream
    /// has no such parameters, and so one source only.
    pub fn source<'a>(&self, values: &'a BTreeMap<String, String>) -> Option<Vec<(&'a str, &'a str)>> {
        let selecting = self.selecting_parameters();
        if selecting.is_empty() {
            return None;
        }
        let default = |name: &str| self.parameters.get(name).and_then(|rule| rule.default.as_ref());
        let chosen = values.iter().filter(|(name, value)| selecting.contains(*name) && default(name) != Some(*value));
        Some(chosen.map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    /// The placeholders of path, query and body, and of the place of the records in a response: two lists of one response
    /// are two sources.
    fn selecting_parameters(&self) -> BTreeSet<String> {
        let mut names: Vec<String> = self.path.parameters().map(str::to_owned).collect();
        let mut add = |template: &Template| names.extend(template.parameters().map(str::to_owned));
        self.query.values().for_each(&mut add);
        let pointers = self.records.iter().filter_map(|pointer| Template::parse(pointer).ok());
        pointers.for_each(|pointer| add(&pointer));
        match &self.body {
            Some(RequestBody::Form { fields }) => fields.values().for_each(add),
            // What cannot be collected was rejected with the profile.
            Some(RequestBody::Json { content }) => drop(collect_placeholders(content, &mut names)),
            None => {}
        }
        names.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profiles;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn path_query_and_list_select_a_source_and_defaults_do_not() {
        let profiles = Profiles::builtin().unwrap();
        let stream = &profiles.get("generic").unwrap().streams["documents"];
        let source = |pairs: &[(&str, &str)]| {
            let values = stream.effective_values(&values(pairs), &BTreeMap::new()).unwrap();
            stream.source(&values).unwrap().into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>()
        };
        assert_eq!(source(&[("path", "customers")]), ["path=customers"]);
        assert_eq!(source(&[("path", "customers"), ("key", "/number")]), ["path=customers"], "how, not what");
        assert_eq!(source(&[("path", "customers"), ("records", "")]), ["path=customers"], "a default written out");
        assert_eq!(source(&[("path", "all"), ("records", "/rows")]), ["path=all", "records=/rows"]);
        assert_eq!(source(&[("path", "Customers")]), ["path=Customers"]);
    }

    #[test]
    fn a_stream_without_such_parameters_has_one_source() {
        let mut stream = Stream::clone(&Profiles::builtin().unwrap().get("generic").unwrap().streams["documents"]);
        stream.path = Template::parse("/rows").unwrap();
        stream.records = vec![String::new()];
        assert_eq!(stream.source(&values(&[("key", "/id")])), None);
        stream.query.insert("q".into(), Template::parse("{q}").unwrap());
        assert_eq!(stream.source(&values(&[("key", "/id")])), Some(vec![]));
    }
}
