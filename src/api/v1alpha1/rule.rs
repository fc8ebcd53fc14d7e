//! Builders of CEL validation rules. The API server prefixes each message with the field path, so messages begin with
//! "must".
//!
//! One builder per kind of rule keeps wording and null-safety consistent. Rules with two fields compare only fields
//! that are set, because most defaults are applied by the operator and are absent from the object.

use kube::core::Rule;

/// A rule with its message.
pub fn rule(expression: impl Into<String>, message: impl AsRef<str>) -> Rule {
    Rule::new(expression).message(message.as_ref())
}

/// The pattern of `DurationText`.
const DURATION: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
/// The pattern of `DecimalText`, without a backslash, which CEL would read.
const DECIMAL: &str = "^[0-9]{1,15}([.][0-9]{1,8})?$";
/// The pattern of `SignedDecimalText`; see [`DECIMAL`].
const SIGNED_DECIMAL: &str = "^-?[0-9]{1,15}([.][0-9]{1,8})?$";

/// A rule that holds for a malformed text: its schema reports that, and a rule that failed to parse it would report the
/// same mistake again.
fn unless_malformed(fields: &[&str], pattern: &str, expression: &str) -> String {
    let malformed: Vec<String> = fields.iter().map(|field| format!("!{field}.matches('{pattern}') || ")).collect();
    format!("{}({expression})", malformed.concat())
}

/// A rule about two fields of `self`, which holds unless both are set and well-formed.
fn both_set(lower: &str, upper: &str, pattern: &str, expression: &str) -> String {
    let (lower, upper) = (format!("self.{lower}"), format!("self.{upper}"));
    let rule = unless_malformed(&[&lower, &upper], pattern, expression);
    format!("!has({lower}) || !has({upper}) || {rule}")
}

/// A duration field is within bounds, both inclusive.
pub fn duration(min: &str, max: &str) -> Rule {
    rule(
        unless_malformed(
            &["self"],
            DURATION,
            &format!("duration(self) >= duration('{min}') && duration(self) <= duration('{max}')"),
        ),
        format!("must be a duration from {min} to {max}"),
    )
}

/// The duration at `lower` is not longer than the one at `upper`; both are fields of `self`.
pub fn durations_ordered(lower: &str, upper: &str) -> Rule {
    rule(
        both_set(lower, upper, DURATION, &format!("duration(self.{lower}) <= duration(self.{upper})")),
        format!("must set {lower} no longer than {upper}"),
    )
}

/// The amount at `lower` is not greater than the one at `upper`; both are fields of `self`.
pub fn amounts_ordered(lower: &str, upper: &str) -> Rule {
    rule(
        both_set(lower, upper, DECIMAL, &format!("quantity(self.{lower}).compareTo(quantity(self.{upper})) <= 0")),
        format!("must set {lower} no greater than {upper}"),
    )
}

/// A decimal field is within bounds, both inclusive; exact, never as a float. Signed if `min` is negative.
pub fn decimal(min: &str, max: &str) -> Rule {
    let pattern = if min.starts_with('-') { SIGNED_DECIMAL } else { DECIMAL };
    rule(
        unless_malformed(
            &["self"],
            pattern,
            &format!(
                "quantity(self).compareTo(quantity('{min}')) >= 0 && quantity(self).compareTo(quantity('{max}')) <= 0"
            ),
        ),
        format!("must be a decimal from {min} to {max}"),
    )
}

/// A decimal field is greater than zero.
pub fn positive() -> Rule {
    rule(unless_malformed(&["self"], DECIMAL, "quantity(self).isGreaterThan(quantity('0'))"), "must be greater than 0")
}

/// Exactly one member of a union is set.
pub fn exactly_one(members: &[&str]) -> Rule {
    let list: Vec<String> = members.iter().map(|member| format!("has(self.{member})")).collect();
    rule(format!("[{}].exists_one(x, x)", list.join(", ")), format!("must set exactly one of {}", members.join(", ")))
}

/// Two fields are set together or not at all.
pub fn together(first: &str, second: &str) -> Rule {
    rule(format!("has(self.{first}) == has(self.{second})"), format!("must set {first} and {second} together"))
}

/// `field` requires that `other` is set.
pub fn only_with(field: &str, other: &str) -> Rule {
    rule(format!("!has(self.{field}) || has(self.{other})"), format!("must set {field} only together with {other}"))
}

/// A field is immutable.
pub fn immutable(field: &str) -> Rule {
    rule("self == oldSelf", format!("must not change: {field} is immutable; delete the object and create a new one"))
}

/// The instant at `first` is before the one at `second`; both are fields of `self`.
pub fn instants_ordered(first: &str, second: &str) -> Rule {
    rule(
        format!("!has(self.{first}) || !has(self.{second}) || self.{first} < self.{second}"),
        format!("must set {first} before {second}"),
    )
}

/// The keys of a map are identifiers: letters, digits, `-`, `_`, `.`; at most 63 characters.
pub fn word_keys() -> Rule {
    rule(
        "self.all(k, k.matches('^[A-Za-z][-A-Za-z0-9_.]{0,62}$'))",
        "must use keys of at most 63 letters, digits, '-', '_' and '.' that begin with a letter",
    )
}

/// What the description of each kind says about names: `kubectl explain` describes `metadata.name` itself with the text
/// of every kind.
pub const OBJECT_NAME: &str = "Its metadata.name has at most 52 characters and no dot.";

/// Rule of the root: names are short and without dots, so that Job names, labels and URLs can be derived from them.
pub fn object_name() -> Rule {
    rule(
        "self.metadata.name.size() <= 52 && !self.metadata.name.contains('.')",
        "must have a metadata.name of at most 52 characters and without a dot",
    )
}
