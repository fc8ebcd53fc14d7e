//! The body of a request, as operations and streams describe it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::template::Template;

/// A request's body.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum RequestBody {
    /// JSON in which every text is a template. A text that is exactly one placeholder gets the parameter's own type (a
    /// number, a boolean); one whose placeholder has no value is omitted from its object or list.
    Json {
        /// The content.
        content: Value,
    },
    /// A form; a field whose placeholder has no value is omitted.
    Form {
        /// The fields.
        fields: BTreeMap<String, Template>,
    },
}

/// The error for a placeholder that is not declared.
pub(super) fn unknown_placeholder(name: &str) -> String {
    format!("the placeholder {{{name}}} is not declared: add it under parameters")
}

/// Collects the placeholders in the texts of a JSON body.
pub(super) fn collect_placeholders(value: &Value, names: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let template = Template::parse(text).map_err(|error| error.to_string())?;
            names.extend(template.parameters().map(str::to_owned));
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect_placeholders(item, names)),
        Value::Object(fields) => fields.values().try_for_each(|value| collect_placeholders(value, names)),
        _ => Ok(()),
    }
}
