//! An operation: one thing a caller can ask a provider for, with parameters in bounds.
//!
//! The gateway calls operations by name; what they look like on the wire is data. An operation with a canonical mapping
//! answers the same record whichever provider was asked, so that one can stand in for another.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::mapping::{Mapping, MappingError};
use super::parameter::{self, Parameter, ParameterError, ParameterKind};
use super::secrets::free_header;
use super::template::Template;
use crate::domain::breaker::CallClass;
use crate::provider::call::{CacheUse, Request};

/// One operation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// What it gives, in a sentence.
    #[serde(default)]
    pub summary: String,
    /// The method: GET unless the profile says otherwise.
    #[serde(default = "get", deserialize_with = "method")]
    #[schemars(with = "MethodName")]
    pub method: Method,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters; one whose placeholder has no value is left out.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// Headers; one whose placeholder has no value is left out.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// The body.
    #[serde(default)]
    pub body: Option<Body>,
    /// What a caller may give.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What kind of call it is. A GET reads where nothing is said; every other method must say it.
    #[serde(default, rename = "class", deserialize_with = "class")]
    #[schemars(with = "ClassName")]
    pub stated_class: Option<CallClass>,
    /// The parameter that names what a limit of scope `Partition` counts apart: an account.
    #[serde(default)]
    pub partition: Option<String>,
    /// Whether its answers may be kept and given again.
    #[serde(default)]
    pub cache: bool,
    /// How its answer becomes a canonical record.
    #[serde(default)]
    pub canonical: Option<Mapping>,
    /// The feature switch that it stands behind.
    #[serde(default)]
    pub feature: Option<String>,
    /// What it answers without any call: a stub.
    #[serde(default)]
    pub stub: Option<Value>,
}

/// A request's body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Body {
    /// JSON, in which every text is a template. A text that is one placeholder and nothing else becomes the parameter's
    /// own kind (a number, a boolean); one whose placeholder has no value is left out of its object or list.
    Json {
        /// The content.
        content: Value,
    },
    /// A form; a field whose placeholder has no value is left out.
    Form {
        /// Its fields.
        fields: BTreeMap<String, Template>,
    },
}

fn get() -> Method {
    Method::GET
}

/// The methods that a profile may use.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "Method")]
enum MethodName {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// The classes that an operation may have: a probe is the operator's own.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CallClass")]
enum ClassName {
    /// Changes nothing at the provider.
    Read,
    /// Changes something, but moves no money.
    Write,
    /// Moves money: never tried again blindly, never the trial of a circuit.
    Money,
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    Ok(match MethodName::deserialize(deserializer)? {
        MethodName::Get => Method::GET,
        MethodName::Post => Method::POST,
        MethodName::Put => Method::PUT,
        MethodName::Patch => Method::PATCH,
        MethodName::Delete => Method::DELETE,
    })
}

fn class<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CallClass>, D::Error> {
    Ok(Some(match ClassName::deserialize(deserializer)? {
        ClassName::Read => CallClass::Read,
        ClassName::Write => CallClass::Write,
        ClassName::Money => CallClass::Money,
    }))
}

impl Operation {
    /// What kind of call it is. What says nothing and is no GET never comes so far; should it ever, it is the kind that
    /// nobody repeats.
    pub fn class(&self) -> CallClass {
        let unsaid = if self.method == Method::GET { CallClass::Read } else { CallClass::Money };
        self.stated_class.unwrap_or(unsaid)
    }

    /// The request for a call of the operation `name` with what the caller gave.
    pub fn request(&self, name: &str, given: &BTreeMap<String, String>) -> Result<Request, ParameterError> {
        self.request_at(name, given, &BTreeMap::new())
    }

    /// The same, where placeholders may also name the connection's own parameters (`endpoint.parameters`). A caller
    /// cannot set those.
    pub fn request_at(
        &self,
        name: &str,
        given: &BTreeMap<String, String>,
        endpoint: &BTreeMap<String, String>,
    ) -> Result<Request, ParameterError> {
        let own = parameter::admit(&self.parameters, given)?;
        let public = own.iter().filter(|(name, _)| self.parameters.get(*name).is_some_and(|rule| rule.public));
        let public = public.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut values = endpoint.clone();
        values.extend(own);
        let missing = |error: super::TemplateError| {
            let (super::TemplateError::Missing { name } | super::TemplateError::Unsafe { name }) = &error else {
                return ParameterError::new("", "is not usable");
            };
            ParameterError::new(
                name,
                if matches!(error, super::TemplateError::Missing { .. }) {
                    "is missing"
                } else {
                    "must not be empty, `.` or `..`"
                },
            )
        };
        let mut request = Request::get(name, self.path.path(&values).map_err(missing)?);
        request.public = public;
        request.method = self.method.clone();
        request.class = self.class();
        request.partition =
            self.partition.as_ref().and_then(|name| values.get(name)).map(|value| value.as_str().into());
        // Without a mapping the body is the caller's, whatever it is. But what is kept is given again for as long as an
        // hour: a proxy's page must not be, and nothing but JSON fits into an answer of the gateway's anyway.
        request.json = self.canonical.is_some() || self.cache;
        if self.cache {
            request.cache = CacheUse::FreshOrStale;
        }
        for (field, template) in &self.query {
            if let Ok(value) = template.value(&values) {
                request = request.with_query(field, value);
            }
        }
        request.headers = self.headers(&values)?;
        if let Some(body) = &self.body {
            let (kind, bytes) = self.body(body, &values);
            request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            request.body = Some(bytes);
        }
        Ok(request)
    }

    /// The canonical record of an answer's body; `None` where the operation has no mapping.
    pub fn canonical(&self, body: &[u8]) -> Option<Result<Value, MappingError>> {
        self.canonical.as_ref().map(|mapping| mapping.read(body))
    }

    fn headers(&self, values: &BTreeMap<String, String>) -> Result<HeaderMap, ParameterError> {
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let (Ok(header), Ok(text)) = (HeaderName::from_bytes(name.as_bytes()), template.value(values)) else {
                continue;
            };
            let field = template.parameters().next().unwrap_or(name);
            let value =
                HeaderValue::from_str(&text).map_err(|_| ParameterError::new(field, "cannot be sent in a header"))?;
            headers.insert(header, value);
        }
        Ok(headers)
    }

    fn body(&self, body: &Body, values: &BTreeMap<String, String>) -> (&'static str, Bytes) {
        match body {
            Body::Json { content: value } => {
                let filled = self.fill(value, values).unwrap_or(Value::Null);
                ("application/json", Bytes::from(filled.to_string()))
            }
            Body::Form { fields } => {
                let pairs = fields.iter().filter_map(|(name, value)| Some((name, value.value(values).ok()?)));
                let mut form = reqwest::Url::parse("form:").ok();
                if let Some(form) = &mut form {
                    form.query_pairs_mut().extend_pairs(pairs);
                }
                let text = form.as_ref().and_then(|form| form.query()).unwrap_or_default().to_owned();
                ("application/x-www-form-urlencoded", Bytes::from(text))
            }
        }
    }

    fn fill(&self, value: &Value, values: &BTreeMap<String, String>) -> Option<Value> {
        Some(match value {
            Value::String(text) => {
                let template = Template::parse(text).ok()?;
                let filled = template.value(values).ok()?;
                match template.only_parameter().and_then(|name| self.parameters.get(name)).map(|rule| rule.kind) {
                    Some(ParameterKind::Integer | ParameterKind::Boolean) => serde_json::from_str(&filled).ok()?,
                    _ => Value::String(filled),
                }
            }
            Value::Array(items) => Value::Array(items.iter().filter_map(|item| self.fill(item, values)).collect()),
            Value::Object(fields) => Value::Object(
                fields.iter().filter_map(|(name, below)| Some((name.clone(), self.fill(below, values)?))).collect(),
            ),
            plain => plain.clone(),
        })
    }

    /// What serde cannot see. `endpoint` are the connection's parameters that placeholders may name.
    pub(super) fn check(&self, endpoint: &BTreeMap<String, Parameter>) -> Result<(), (Vec<String>, String)> {
        let at = |fields: &[&str], problem: String| Err((fields.iter().map(|f| (*f).to_owned()).collect(), problem));
        for (name, rule) in &self.parameters {
            if let Err(problem) = rule.check(name) {
                return at(&["parameters", name], problem);
            }
            if endpoint.contains_key(name) {
                return at(&["parameters", name], "is the connection's own: a caller must not set it".to_owned());
            }
        }
        if !self.path.as_str().starts_with('/') {
            return at(&["path"], format!("the path {:?} must start with /", self.path.as_str()));
        }
        // A payment taken for a read would be called by GET, tried again and replayed: it would be made twice.
        if self.method != Method::GET && self.stated_class.is_none() {
            let problem = format!(
                "a {} may change something or move money: say which with class: Read, class: Write or class: Money",
                self.method
            );
            return at(&["method"], problem);
        }
        let known = |name: &str| self.parameters.contains_key(name) || endpoint.contains_key(name);
        let mut used: Vec<String> = Vec::new();
        let mut placed: Vec<(Vec<&str>, Vec<String>)> =
            vec![(vec!["path"], self.path.parameters().map(str::to_owned).collect())];
        for (part, templates) in [("query", &self.query), ("headers", &self.headers)] {
            for (name, template) in templates {
                placed.push((vec![part, name], template.parameters().map(str::to_owned).collect()));
            }
        }
        match &self.body {
            Some(Body::Form { fields }) => {
                for (name, template) in fields {
                    placed.push((vec!["body", "fields", name], template.parameters().map(str::to_owned).collect()));
                }
            }
            Some(Body::Json { content: value }) => {
                let mut names = Vec::new();
                if let Err(problem) = placeholders(value, &mut names) {
                    return at(&["body", "content"], problem);
                }
                placed.push((vec!["body", "content"], names));
            }
            None => {}
        }
        for (place, names) in placed {
            if let Some(unknown) = names.iter().find(|name| !known(name)) {
                return at(&place, unknown_placeholder(unknown));
            }
            if place == ["path"]
                && let Some(open) = names.iter().find(|name| {
                    self.parameters.get(*name).is_some_and(|rule| !rule.required && rule.default.is_none())
                })
            {
                return at(
                    &place,
                    format!("{{{open}}} may have no value: make the parameter required, or give it a default"),
                );
            }
            used.extend(names);
        }
        if let Some(idle) = self.parameters.keys().find(|name| !used.contains(name)) {
            return at(&["parameters", idle], "is used nowhere: remove it".to_owned());
        }
        if let Some((name, problem)) = self.headers.keys().find_map(|name| Some((name, free_header(name).err()?))) {
            return at(&["headers", name], problem);
        }
        if let Some(unknown) = self.partition.as_ref().filter(|name| !self.parameters.contains_key(*name)) {
            return at(&["partition"], format!("{unknown} is no parameter of the operation"));
        }
        if self.cache && self.class() != CallClass::Read {
            return at(&["cache"], "only what is read can be kept: remove it, or make it class: Read".to_owned());
        }
        if self.body.is_some() && self.method == Method::GET {
            return at(&["body"], "a GET has no body: set the method".to_owned());
        }
        match self.canonical.as_ref().map(Mapping::check) {
            Some(Err(problem)) => at(&["canonical"], problem),
            _ => Ok(()),
        }
    }
}

/// What to say of a placeholder that nothing declares.
pub(super) fn unknown_placeholder(name: &str) -> String {
    format!("the placeholder {{{name}}} is not known: declare it under parameters")
}

/// The placeholders in the texts of a JSON body.
pub(super) fn placeholders(value: &Value, names: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let template = Template::parse(text).map_err(|error| error.to_string())?;
            names.extend(template.parameters().map(str::to_owned));
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| placeholders(item, names)),
        Value::Object(fields) => fields.values().try_for_each(|below| placeholders(below, names)),
        _ => Ok(()),
    }
}
