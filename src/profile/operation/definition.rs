//! The fields of an operation.

use std::collections::BTreeMap;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::domain::breaker::CallClass;
use crate::profile::body::RequestBody;
use crate::profile::mapping::Mapping;
use crate::profile::parameter::Parameter;
use crate::profile::template::Template;

/// One operation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// What it returns or does, in a sentence.
    #[serde(default)]
    pub summary: String,
    /// The HTTP method; unset: GET.
    #[serde(default = "get", deserialize_with = "method")]
    #[schemars(with = "MethodName")]
    pub method: Method,
    /// Path below the base URL.
    pub path: Template,
    /// Query parameters; one whose placeholder has no value is omitted.
    #[serde(default)]
    pub query: BTreeMap<String, Template>,
    /// Headers; one whose placeholder has no value is omitted.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// The body.
    #[serde(default)]
    pub body: Option<RequestBody>,
    /// The parameters that a caller may set.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// The class of the call. Unset: `Read` for GET; required for every other method.
    #[serde(default, rename = "class", deserialize_with = "class")]
    #[schemars(with = "ClassName")]
    pub explicit_class: Option<CallClass>,
    /// The parameter whose values are the partitions of limits with scope `Partition`, such as an account.
    #[serde(default)]
    pub partition: Option<String>,
    /// Whether responses may be cached.
    #[serde(default)]
    pub cache: bool,
    /// The mapping of the response to a canonical record.
    #[serde(default)]
    pub canonical: Option<Mapping>,
    /// The feature switch that enables it.
    #[serde(default)]
    pub feature: Option<String>,
    /// A fixed response, returned without a call.
    #[serde(default)]
    pub stub: Option<Value>,
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

/// The classes that an operation may have; probes are the operator's own.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CallClass")]
enum ClassName {
    /// Changes nothing at the provider.
    Read,
    /// Changes something, but moves no money.
    Write,
    /// Moves money: never retried automatically, never the trial of a half-open circuit.
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
    /// The class of the call. Validation requires `class` for every method but GET; without it, the class is the one
    /// that is never retried.
    pub fn class(&self) -> CallClass {
        let default = if self.method == Method::GET { CallClass::Read } else { CallClass::Money };
        self.explicit_class.unwrap_or(default)
    }
}
