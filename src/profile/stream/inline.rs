//! A stream that a job writes itself, in the format of profiles.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_yaml::{Mapping, Value};

use super::definition::Stream;
use crate::profile::minor_units::MinorUnits;
use crate::profile::parameter::Parameter;

/// What the connection of an inline stream has.
#[derive(Copy, Clone, Debug)]
pub struct InlineContext<'a> {
    /// The parameters of the connection.
    pub endpoint: &'a BTreeMap<String, Parameter>,
    /// The smallest units of the provider.
    pub minor_units: &'a MinorUnits,
}

impl Stream {
    /// The stream that `definition` describes. Each placeholder that is not the connection's is a parameter that the
    /// job must set.
    ///
    /// # Errors
    /// What is wrong, with the field, relative to the definition.
    pub fn inline(definition: &impl Serialize, context: InlineContext<'_>) -> Result<Arc<Self>, String> {
        let mut value = serde_yaml::to_value(definition).map_err(|error| error.to_string())?;
        if let Some(fields) = value.as_mapping_mut() {
            fields.remove("name");
            fields.entry("record".into()).or_insert_with(|| "document".into());
            body(fields);
        }
        let mut stream: Self = serde_yaml::from_value(value).map_err(|error| error.to_string())?;
        let invalid =
            |invalid: crate::profile::invalid_field::InvalidField| format!("{}: {}", invalid.path, invalid.problem);
        let bounds: Vec<String> = stream.path_bounds().into_iter().cloned().collect();
        for (_, name) in stream.placeholders().map_err(invalid)? {
            if !context.endpoint.contains_key(&name) && !bounds.contains(&name) {
                stream.parameters.insert(name, Parameter { required: true, ..Parameter::default() });
            }
        }
        if let Some(name) = stream.account.as_ref().and_then(|account| account.parameter.clone()) {
            stream.parameters.entry(name).or_insert_with(|| Parameter { required: true, ..Parameter::default() });
        }
        if let Some(money) = &mut stream.money {
            money.minor_units.inherit(context.minor_units);
        }
        stream.check(context.endpoint).map_err(invalid)?;
        Ok(Arc::new(stream))
    }
}

/// The fields of a JSON body are its content.
fn body(stream: &mut Mapping) {
    let Some(body) = stream.get_mut("body").and_then(Value::as_mapping_mut) else { return };
    if body.get("kind").and_then(Value::as_str) == Some("json")
        && let Some(fields) = body.remove("fields")
    {
        body.insert("content".into(), fields);
    }
}
