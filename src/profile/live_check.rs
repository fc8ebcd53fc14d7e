//! The operations that `busbar check live` calls: a list, then one of its records by ID.
//!
//! The profile declares them, because only it knows which of its operations are such a pair and where a response holds
//! the ID. Both must be reads: a smoke check changes nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::invalid_field::InvalidField;
use super::json::{self, scalar_text};
use super::operation::Operation;
use crate::domain::breaker::CallClass;

/// The operations of a live check.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LiveCheck {
    /// The operation that lists records.
    pub list: String,
    /// The operation that reads one of them.
    pub by_id: String,
    /// JSON pointers to an ID in the list's response, tried in order; none found: an ID is requested that does not
    /// exist.
    pub id: Vec<String>,
    /// The parameter of `byId` that receives the ID; unset: the only required one that `parameters` does not set.
    #[serde(default)]
    pub parameter: Option<String>,
    /// Values of other parameters, for each of the two operations that has one of that name.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

impl LiveCheck {
    /// The parameter of `by_id` that receives the ID.
    pub fn id_parameter<'a>(&'a self, by_id: &'a Operation) -> Option<&'a str> {
        let mut unset =
            by_id.parameters.iter().filter(|(name, rule)| rule.required && !self.parameters.contains_key(*name));
        match (&self.parameter, unset.next(), unset.next()) {
            (Some(named), ..) => Some(named),
            (None, Some((name, _)), None) => Some(name),
            _ => None,
        }
    }

    /// The entries of `parameters` that the operation has.
    pub fn parameters_of(&self, operation: &Operation) -> BTreeMap<String, String> {
        let known = self.parameters.iter().filter(|(name, _)| operation.parameters.contains_key(*name));
        known.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The ID of a record in the list's response, which may be long.
    pub fn id_in(&self, body: &[u8]) -> Option<String> {
        let pointers: Vec<&str> = self.id.iter().map(String::as_str).collect();
        let found = json::select(json::text(body).ok()?, &pointers).ok()?;
        let id = found.into_iter().flatten().find_map(|slice| scalar_text(&json::parse(slice.as_bytes()).ok()?));
        id.filter(|id| !id.is_empty())
    }

    /// Checks what serde cannot. `operations` holds the profile's operations.
    pub(super) fn check(&self, operations: &BTreeMap<String, Operation>) -> Result<(), InvalidField> {
        let (list, by_id) = (read(operations, "list", &self.list)?, read(operations, "byId", &self.by_id)?);
        if self.id.is_empty() {
            return Err(InvalidField::new(["id"], "must name at least one JSON pointer"));
        }
        if let Some(bad) = self.id.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err(InvalidField::new(["id"], format!("{bad:?} is not a JSON pointer: it must start with /")));
        }
        if let Some(named) = self.parameter.as_ref().filter(|name| !by_id.parameters.contains_key(*name)) {
            return Err(InvalidField::new(["parameter"], format!("{named} is not a parameter of {}", self.by_id)));
        }
        let Some(id) = self.id_parameter(by_id) else {
            let problem = format!("{} must have exactly one required parameter for the ID: set parameter", self.by_id);
            return Err(InvalidField::new(["byId"], problem));
        };
        let invalid = |problem| InvalidField::new(["parameters"], problem);
        let has = |name: &String| [list, by_id].iter().any(|operation| operation.parameters.contains_key(name));
        if let Some(unused) = self.parameters.keys().find(|name| !has(name)) {
            return Err(invalid(format!("neither operation has a parameter {unused}: remove it")));
        }
        for (operation, with_id) in [(list, None), (by_id, Some(id))] {
            let mut required = operation.parameters.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name);
            if let Some(unset) =
                required.find(|name| Some(name.as_str()) != with_id && !self.parameters.contains_key(*name))
            {
                return Err(invalid(format!("the parameter {unset} is required: add it")));
            }
            for (name, value) in self.parameters_of(operation) {
                if let Some(Err(error)) = operation.parameters.get(&name).map(|rule| rule.validate(&name, &value)) {
                    return Err(invalid(error.to_string()));
                }
            }
        }
        Ok(())
    }
}

/// The operation that `field` names; it must be a read that calls the provider.
fn read<'a>(
    operations: &'a BTreeMap<String, Operation>,
    field: &str,
    name: &str,
) -> Result<&'a Operation, InvalidField> {
    let invalid = |problem| InvalidField::new([field], problem);
    let Some(operation) = operations.get(name) else {
        let known = operations.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(invalid(format!("{name} is not an operation of the profile: the operations are {known}")));
    };
    if operation.class() != CallClass::Read || operation.stub.is_some() {
        return Err(invalid(format!("{name} does not read from the provider: name an operation of class Read")));
    }
    Ok(operation)
}

#[cfg(test)]
mod tests {
    use crate::profile::{Profile, Profiles};

    const PROFILE: &str = "id: x\ntitle: X\nbreaker: Api\nhealthCheck: {}\noperations:\n  all: {path: /all}\n  one: {path: '/all/{id}', parameters: {id: {required: true}}}\n  put: {path: '/all/{id}', method: PUT, class: Write, parameters: {id: {required: true}}}\n  two: {path: '/{a}/{b}', parameters: {a: {required: true}, b: {required: true, kind: integer}}}\nliveCheck:\n";

    fn error_of(fields: &str) -> String {
        let error = Profile::parse("x.yaml", &format!("{PROFILE}{fields}")).map(drop).unwrap_err();
        error.to_string().trim_start_matches("profile x.yaml, ").to_owned()
    }

    #[test]
    fn an_invalid_live_check_is_reported_with_its_line() {
        for (fields, problem) in [
            (
                "  list: al\n  byId: one\n  id: [/0/id]\n",
                "line 11, liveCheck.list: al is not an operation of the profile: the operations are all, one, put, two",
            ),
            (
                "  list: all\n  byId: on\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: on is not an operation of the profile: the operations are all, one, put, two",
            ),
            (
                "  list: all\n  byId: put\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: put does not read from the provider: name an operation of class Read",
            ),
            ("  list: all\n  byId: one\n  id: []\n", "line 13, liveCheck.id: must name at least one JSON pointer"),
            (
                "  list: all\n  byId: one\n  id: [id]\n",
                "line 13, liveCheck.id: \"id\" is not a JSON pointer: it must start with /",
            ),
            (
                "  list: all\n  byId: two\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: two must have exactly one required parameter for the ID: set parameter",
            ),
            (
                "  list: one\n  byId: one\n  id: [/0/id]\n",
                "line 11, liveCheck.parameters: the parameter id is required: add it",
            ),
            (
                "  list: all\n  byId: one\n  id: [/0/id]\n  parameter: ip\n",
                "line 14, liveCheck.parameter: ip is not a parameter of one",
            ),
            (
                "  list: all\n  byId: one\n  id: [/0/id]\n  parameters: {c: d}\n",
                "line 14, liveCheck.parameters: neither operation has a parameter c: remove it",
            ),
            (
                "  list: all\n  byId: two\n  id: [/0/id]\n  parameters: {b: d}\n",
                "line 14, liveCheck.parameters: the parameter b must be a whole number",
            ),
        ] {
            assert_eq!(error_of(fields), problem);
        }
        let good = format!("{PROFILE}  list: all\n  byId: two\n  id: [/0/id, /id]\n  parameters: {{b: '7'}}\n");
        let check = Profile::parse("x.yaml", &good).unwrap().live_check.unwrap();
        assert_eq!(check.id_in(br#"[{"id": 7}]"#).as_deref(), Some("7"));
        assert_eq!(check.id_in(br#"{"id": ""}"#), None);
    }

    #[test]
    fn every_profile_with_list_and_read_by_id_has_a_live_check() {
        let profiles = Profiles::builtin().unwrap();
        let checkable: Vec<_> =
            profiles.ids().filter(|id| profiles.get(id).is_some_and(|p| p.live_check.is_some())).collect();
        // The others have no such pair: prices, series and articles are requested by symbol, name and search words.
        assert_eq!(checkable, ["finastra", "gocardless", "mono", "open-banking-uk", "plaid", "stripe"]);
    }
}
