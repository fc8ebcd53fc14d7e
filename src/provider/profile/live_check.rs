//! What `busbar check live` asks of a provider: a list, then one of its records by its id.
//!
//! It is the profile's to say, because only the profile knows which of its operations are such a pair and where an answer
//! has the id. Both must be reads: a smoke check changes nothing.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Profile;
use super::errors::scalar;
use super::operation::Operation;
use crate::domain::breaker::CallClass;

/// The pair of operations.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LiveCheck {
    /// The operation that lists records.
    pub list: String,
    /// The operation that reads one of them.
    pub by_id: String,
    /// Pointers to an id in the list's answer, tried in order; none there: an id is asked for that nobody has.
    pub id: Vec<String>,
    /// The parameter of `byId` that the id goes into; unset: the only required one that `parameters` does not give.
    #[serde(default)]
    pub parameter: Option<String>,
    /// Values of further parameters, for whichever of the two operations has one of that name.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

/// A field of `liveCheck` and what is wrong with it.
type Mistake = (Vec<&'static str>, String);

impl LiveCheck {
    /// The name of the parameter of `by_id` that the id goes into.
    pub fn id_parameter<'a>(&'a self, by_id: &'a Operation) -> Option<&'a str> {
        let mut open =
            by_id.parameters.iter().filter(|(name, rule)| rule.required && !self.parameters.contains_key(*name));
        match (&self.parameter, open.next(), open.next()) {
            (Some(named), ..) => Some(named),
            (None, Some((name, _)), None) => Some(name),
            _ => None,
        }
    }

    /// Those of `parameters` that the operation has.
    pub fn given(&self, operation: &Operation) -> BTreeMap<String, String> {
        let known = self.parameters.iter().filter(|(name, _)| operation.parameters.contains_key(*name));
        known.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The id of a record in the list's answer.
    pub fn id_in(&self, body: &Value) -> Option<String> {
        self.id.iter().find_map(|pointer| scalar(body.pointer(pointer)?)).filter(|id| !id.is_empty())
    }

    /// What serde cannot see.
    pub(super) fn check(&self, profile: &Profile) -> Result<(), Mistake> {
        let find = |field, name: &String| {
            let known = || profile.operations.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let unknown = || (vec![field], format!("{name} is no operation of the profile: there are {}", known()));
            let operation = profile.operations.get(name).ok_or_else(unknown)?;
            if operation.class() != CallClass::Read || operation.stub.is_some() {
                return Err((vec![field], format!("{name} does not read from the provider: name one that does")));
            }
            Ok(operation)
        };
        let (list, by_id) = (find("list", &self.list)?, find("byId", &self.by_id)?);
        if self.id.is_empty() {
            return Err((vec!["id"], "must name at least one JSON pointer".to_owned()));
        }
        if let Some(bad) = self.id.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err((vec!["id"], format!("{bad:?} is no JSON pointer: it must start with /")));
        }
        if let Some(named) = self.parameter.as_ref().filter(|name| !by_id.parameters.contains_key(*name)) {
            return Err((vec!["parameter"], format!("{named} is no parameter of {}", self.by_id)));
        }
        let Some(id) = self.id_parameter(by_id) else {
            let text = format!("{} must have one required parameter for the id: name it as parameter", self.by_id);
            return Err((vec!["byId"], text));
        };
        let has = |name: &String| [list, by_id].iter().any(|operation| operation.parameters.contains_key(name));
        if let Some(idle) = self.parameters.keys().find(|name| !has(name)) {
            return Err((vec!["parameters"], format!("neither operation has a parameter {idle}: remove it")));
        }
        for (operation, with_id) in [(list, None), (by_id, Some(id))] {
            let mut required = operation.parameters.iter().filter(|(_, rule)| rule.required).map(|(name, _)| name);
            if let Some(open) =
                required.find(|name| Some(name.as_str()) != with_id && !self.parameters.contains_key(*name))
            {
                return Err((vec!["parameters"], format!("the parameter {open} must have a value: add it")));
            }
            for (name, value) in self.given(operation) {
                if let Some(Err(error)) = operation.parameters.get(&name).map(|rule| rule.admit(&name, &value)) {
                    return Err((vec!["parameters"], error.to_string()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::profile::Profiles;

    const MINE: &str = "id: x\ntitle: X\nbreaker: Api\nhealthCheck: {}\noperations:\n  all: {path: /all}\n  one: {path: '/all/{id}', parameters: {id: {required: true}}}\n  put: {path: '/all/{id}', method: PUT, class: Write, parameters: {id: {required: true}}}\n  two: {path: '/{a}/{b}', parameters: {a: {required: true}, b: {required: true, kind: integer}}}\nliveCheck:\n";

    fn told(fields: &str) -> String {
        let error = Profile::parse("x.yaml", &format!("{MINE}{fields}")).map(drop).unwrap_err();
        error.to_string().trim_start_matches("profile x.yaml, ").to_owned()
    }

    #[test]
    fn a_live_check_that_cannot_be_made_is_told_with_its_line() {
        for (fields, problem) in [
            (
                "  list: al\n  byId: one\n  id: [/0/id]\n",
                "line 11, liveCheck.list: al is no operation of the profile: there are all, one, put, two",
            ),
            (
                "  list: all\n  byId: on\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: on is no operation of the profile: there are all, one, put, two",
            ),
            (
                "  list: all\n  byId: put\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: put does not read from the provider: name one that does",
            ),
            ("  list: all\n  byId: one\n  id: []\n", "line 13, liveCheck.id: must name at least one JSON pointer"),
            (
                "  list: all\n  byId: one\n  id: [id]\n",
                "line 13, liveCheck.id: \"id\" is no JSON pointer: it must start with /",
            ),
            (
                "  list: all\n  byId: two\n  id: [/0/id]\n",
                "line 12, liveCheck.byId: two must have one required parameter for the id: name it as parameter",
            ),
            (
                "  list: one\n  byId: one\n  id: [/0/id]\n",
                "line 11, liveCheck.parameters: the parameter id must have a value: add it",
            ),
            (
                "  list: all\n  byId: one\n  id: [/0/id]\n  parameter: ip\n",
                "line 14, liveCheck.parameter: ip is no parameter of one",
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
            assert_eq!(told(fields), problem);
        }
        let good = format!("{MINE}  list: all\n  byId: two\n  id: [/0/id, /id]\n  parameters: {{b: '7'}}\n");
        let check = Profile::parse("x.yaml", &good).unwrap().live_check.unwrap();
        assert_eq!(check.id_in(&serde_json::json!([{"id": 7}])).as_deref(), Some("7"));
        assert_eq!(check.id_in(&serde_json::json!({"id": ""})), None);
    }

    #[test]
    fn whoever_has_a_list_and_reads_by_id_can_be_checked_live() {
        let profiles = Profiles::builtin().unwrap();
        let able: Vec<_> =
            profiles.ids().filter(|id| profiles.get(id).is_some_and(|p| p.live_check.is_some())).collect();
        // The others have no such pair: prices, series and articles are asked for by symbol, name and words.
        assert_eq!(able, ["finastra", "gocardless", "mono", "open-banking-uk", "plaid", "stripe"]);
    }
}
