//! The body of a request, as operations and streams describe it.

use std::collections::BTreeMap;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::parameter::{Parameter, ParameterKind};
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

impl RequestBody {
    /// The content type and the content for these values, whose types are those of `rules`. `field` is a value to put at a
    /// JSON pointer of it; a form has no such place.
    pub fn expand(
        &self,
        rules: &BTreeMap<String, Parameter>,
        values: &BTreeMap<String, String>,
        field: Option<(&str, String)>,
    ) -> (&'static str, Bytes) {
        match self {
            Self::Json { content } => {
                let mut expanded = expand_json(content, rules, values).unwrap_or(Value::Null);
                if let Some((pointer, value)) = field {
                    put(&mut expanded, pointer, Value::String(value));
                }
                ("application/json", Bytes::from(expanded.to_string()))
            }
            Self::Form { fields } => {
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
}

/// The value with its placeholders expanded; `None` if one of them has no value.
fn expand_json(value: &Value, rules: &BTreeMap<String, Parameter>, values: &BTreeMap<String, String>) -> Option<Value> {
    Some(match value {
        Value::String(text) => {
            let template = Template::parse(text).ok()?;
            let expanded = template.value(values).ok()?;
            match template.only_parameter().and_then(|name| rules.get(name)).map(|rule| rule.kind) {
                Some(ParameterKind::Integer | ParameterKind::Boolean) => serde_json::from_str(&expanded).ok()?,
                _ => Value::String(expanded),
            }
        }
        Value::Array(items) => Value::Array(items.iter().filter_map(|item| expand_json(item, rules, values)).collect()),
        Value::Object(fields) => {
            let expanded = |(name, value): (&String, &Value)| Some((name.clone(), expand_json(value, rules, values)?));
            Value::Object(fields.iter().filter_map(expanded).collect())
        }
        scalar => scalar.clone(),
    })
}

/// Puts a value at a JSON pointer; objects on the way that are missing are added.
fn put(content: &mut Value, pointer: &str, value: Value) {
    let mut place = content;
    for name in pointer.split('/').skip(1).map(|name| name.replace("~1", "/").replace("~0", "~")) {
        if !place.is_object() {
            *place = Value::Object(serde_json::Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(name).or_insert(Value::Null);
    }
    *place = value;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_put_where_the_pointer_leads() {
        let content = serde_json::json!({"count": 5, "options": {"days": "{days}"}});
        let values = BTreeMap::from([("days".to_owned(), "30".to_owned())]);
        let body = RequestBody::Json { content };
        let sent = |pointer: &str| {
            let (_, bytes) = body.expand(&BTreeMap::new(), &values, Some((pointer, "t\"1".to_owned())));
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        assert_eq!(sent("/cursor"), r#"{"count":5,"cursor":"t\"1","options":{"days":"30"}}"#);
        assert_eq!(sent("/options/cursor"), r#"{"count":5,"options":{"cursor":"t\"1","days":"30"}}"#);
        assert_eq!(sent("/page/next~1token"), r#"{"count":5,"options":{"days":"30"},"page":{"next/token":"t\"1"}}"#);
        let (kind, first) = body.expand(&BTreeMap::new(), &values, None);
        assert_eq!((kind, &first[..]), ("application/json", &br#"{"count":5,"options":{"days":"30"}}"#[..]));
    }
}
