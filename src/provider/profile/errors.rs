//! How a provider says that something is wrong: an ordered list of matchers, the first that fits decides.
//!
//! Providers hide errors behind 200, tell quotas apart from plans by a sentence, and answer HTML from a proxy, so a
//! matcher can look at the status, the content type, a header and the body. A matcher that can never be reached is a
//! mistake of whoever wrote it, and is found when the profile is read: see [`unreachable`].

use std::collections::BTreeSet;

use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::limits::LimitScope;
use super::wait::WaitRule;
use crate::provider::classify::{Class, StatusPattern};
use crate::provider::json;

/// A body larger than this holds data, not an error: it is not searched for one.
pub const MAX_ERROR_BODY: usize = 64 * 1024;

/// Matchers of one profile: each is tried on each answer until one fits. The built-in ones have at most a dozen.
const MAX_MATCHERS: usize = 256;

/// Combinations of values that the matchers of one profile may name between them. Whether a matcher can be reached is
/// asked of each combination, so more would make a start hang on somebody's file.
const MAX_CASES: usize = 4096;

/// One rule of `errors:`. All conditions that are set must hold; at least one must be set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matcher {
    /// The statuses meant, such as `429` or `5xx`; none: all.
    #[serde(default)]
    pub status: Vec<StatusPattern>,
    /// The media type meant, such as `text/html`, without parameters; a JSON type also means `…+json`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// A header that must be there.
    #[serde(default)]
    pub header: Option<HeaderRule>,
    /// What must be in the body, all of it. A body that is not JSON, or larger than 64 KiB, has nothing in it.
    #[serde(default)]
    pub json: Vec<JsonRule>,
    /// What such an answer means.
    pub class: Class,
    /// Of `rateLimited` and `quota`: whether the whole connection waits, or only the partition that was asked about (an
    /// account, say), for the operation that was asked.
    #[serde(default)]
    pub scope: LimitScope,
    /// Where the provider tells how long to wait; the first that gives an answer is taken, before `Retry-After`.
    #[serde(default)]
    pub wait: Vec<WaitRule>,
}

/// A header that must be there, perhaps with a value.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderRule {
    /// Its name, in any case.
    pub name: String,
    /// One of these, letter for letter; none: any value.
    #[serde(default)]
    pub is: Vec<String>,
}

/// A place in the body, and what must be there. Without `is` and `contains`, anything but null.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonRule {
    /// JSON pointer.
    pub pointer: String,
    /// One of these: texts letter for letter, numbers and booleans as JSON writes them.
    #[serde(default, deserialize_with = "scalars")]
    #[schemars(with = "Vec<Value>")]
    pub is: Vec<String>,
    /// A text that holds this, in any case.
    #[serde(default)]
    pub contains: Option<String>,
}

/// An answer as matchers see it; the body is parsed at most once, and only when a matcher asks.
pub(super) struct Seen<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    body: &'a [u8],
    json: std::cell::OnceCell<Option<Value>>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(status: u16, headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        Self { status, headers, body, json: std::cell::OnceCell::new() }
    }

    pub(super) fn at(&self, pointer: &str) -> Option<&Value> {
        let parse = || (self.body.len() <= MAX_ERROR_BODY).then(|| json::parse(self.body).ok()).flatten();
        // Most answers are no errors: a body without the field's name is not parsed.
        if self.json.get().is_none() && !self.may_hold(pointer) {
            return None;
        }
        self.json.get_or_init(parse).as_ref()?.pointer(pointer).filter(|value| !value.is_null())
    }

    /// Whether the last name of `pointer` is written in the body. Only plain names are looked for: others may be
    /// escaped in many ways.
    fn may_hold(&self, pointer: &str) -> bool {
        let Some((_, name)) = pointer.rsplit_once('/') else { return true };
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-.".contains(&b));
        let index = name.bytes().all(|b| b.is_ascii_digit());
        if !plain || index || self.body.len() > MAX_ERROR_BODY {
            return true;
        }
        std::str::from_utf8(self.body).is_ok_and(|body| body.contains(name) || body.contains("\\u"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

impl Matcher {
    pub(super) fn fits(&self, seen: &Seen<'_>) -> bool {
        (self.status.is_empty() || self.status.iter().any(|pattern| pattern.matches(seen.status)))
            && self.content_type.as_deref().is_none_or(|wanted| media_type(seen, wanted))
            && self.header.as_ref().is_none_or(|rule| rule.fits(seen))
            && self.json.iter().all(|rule| rule.fits(seen))
    }

    /// What serde cannot see.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.status.is_empty() && self.content_type.is_none() && self.header.is_none() && self.json.is_empty() {
            return Err("fits every answer: name a status, a contentType, a header or a place in the JSON".to_owned());
        }
        if let Some(bad) = self.json.iter().find(|rule| !rule.pointer.is_empty() && !rule.pointer.starts_with('/')) {
            return Err(format!("{:?} is no JSON pointer: it must be empty or start with /", bad.pointer));
        }
        if let Some(bad) = self.header.as_ref().filter(|rule| !super::wait::is_header(&rule.name)) {
            return Err(format!("{:?} is no header name", bad.name));
        }
        if self.scope == LimitScope::Partition && !matches!(self.class, Class::RateLimited | Class::Quota) {
            return Err("only rateLimited and quota have a scope: remove it".to_owned());
        }
        self.wait.iter().try_for_each(WaitRule::check)
    }

    /// The statuses meant.
    fn statuses(&self) -> BTreeSet<u16> {
        (100..600).filter(|s| self.status.is_empty() || self.status.iter().any(|p| p.matches(*s))).collect()
    }

    /// Whether every answer of one of `self`'s statuses that fits `self` narrowed to `narrowed` also fits `other`'s
    /// conditions beside the status.
    fn implies(&self, narrowed: &[JsonRule], other: &Self) -> bool {
        let content = match (&other.content_type, &self.content_type) {
            (None, _) => true,
            (Some(theirs), Some(ours)) => theirs.eq_ignore_ascii_case(ours),
            (Some(_), None) => false,
        };
        let header = match (&other.header, &self.header) {
            (None, _) => true,
            (Some(theirs), Some(ours)) => {
                let any = theirs.is.is_empty();
                theirs.name.eq_ignore_ascii_case(&ours.name)
                    && (any || (!ours.is.is_empty() && ours.is.iter().all(|value| theirs.is.contains(value))))
            }
            (Some(_), None) => false,
        };
        content && header && other.json.iter().all(|theirs| narrowed.iter().any(|ours| ours.implies(theirs)))
    }
}

impl HeaderRule {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        seen.header(&self.name).is_some_and(|value| self.is.is_empty() || self.is.iter().any(|is| is == value))
    }
}

impl JsonRule {
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let Some(value) = seen.at(&self.pointer) else { return false };
        let text = scalar(value);
        let is = self.is.is_empty() || text.as_ref().is_some_and(|text| self.is.contains(text));
        let holds = self.contains.as_ref().is_none_or(|part| text.as_ref().is_some_and(|text| holds(text, part)));
        is && holds
    }

    /// Whether all that fits `self` fits `other`.
    fn implies(&self, other: &Self) -> bool {
        let is = other.is.is_empty() || (!self.is.is_empty() && self.is.iter().all(|value| other.is.contains(value)));
        let holding = other.contains.as_ref().is_none_or(|part| {
            self.contains.as_ref().is_some_and(|ours| holds(ours, part))
                || (!self.is.is_empty() && self.is.iter().all(|value| holds(value, part)))
        });
        self.pointer == other.pointer && is && holding
    }
}

/// The first matcher that is one too many, or names too many combinations of values; checked before they are compared.
pub(super) fn too_many(matchers: &[Matcher]) -> Option<(usize, String)> {
    if matchers.len() > MAX_MATCHERS {
        return Some((
            MAX_MATCHERS,
            format!("is one more than the {MAX_MATCHERS} that a profile may have: remove some"),
        ));
    }
    let mut all = 0_usize;
    for (at, matcher) in matchers.iter().enumerate() {
        let values = matcher.json.iter().map(|rule| rule.is.len().max(1));
        all = all.saturating_add(values.fold(1, usize::saturating_mul));
        if all > MAX_CASES {
            let text = format!(
                "names too many combinations of values (with those before, over {MAX_CASES}): name fewer values under is, or fewer places"
            );
            return Some((at, text));
        }
    }
    None
}

/// The first matcher that no answer can reach, because earlier ones fit whatever it fits: its place and theirs.
///
/// Conditions are compared as they are written, value by value and status by status; two different ways of saying one
/// thing are not seen through.
pub(super) fn unreachable(matchers: &[Matcher]) -> Option<(usize, Vec<usize>)> {
    matchers.iter().enumerate().find_map(|(place, matcher)| {
        let earlier = matchers.get(..place)?;
        let mut covering = BTreeSet::new();
        for narrowed in cases(&matcher.json) {
            let over: Vec<usize> =
                (0..place).filter(|at| earlier.get(*at).is_some_and(|o| matcher.implies(&narrowed, o))).collect();
            let mut left = matcher.statuses();
            for at in over {
                let statuses = earlier.get(at).map(Matcher::statuses).unwrap_or_default();
                let before = left.len();
                left.retain(|status| !statuses.contains(status));
                if left.len() < before {
                    covering.insert(at);
                }
            }
            if !left.is_empty() {
                return None;
            }
        }
        Some((place, covering.into_iter().collect()))
    })
}

/// The same rules with each list of values taken apart, so that two earlier matchers can cover one between them.
fn cases(rules: &[JsonRule]) -> Vec<Vec<JsonRule>> {
    rules.iter().fold(vec![Vec::new()], |cases, rule| {
        let choices: Vec<JsonRule> = if rule.is.is_empty() {
            vec![rule.clone()]
        } else {
            rule.is.iter().map(|value| JsonRule { is: vec![value.clone()], ..rule.clone() }).collect()
        };
        cases
            .iter()
            .flat_map(|case| choices.iter().map(move |choice| case.iter().chain([choice]).cloned().collect()))
            .collect()
    })
}

/// A scalar as matchers compare it.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn holds(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn media_type(seen: &Seen<'_>, wanted: &str) -> bool {
    let Some(said) = seen.header("content-type") else { return false };
    let said = said.split(';').next().unwrap_or(said).trim();
    let json = wanted.eq_ignore_ascii_case("application/json") && said.to_ascii_lowercase().ends_with("+json");
    said.eq_ignore_ascii_case(wanted) || json
}

/// Reads texts, numbers and booleans alike.
fn scalars<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    values
        .iter()
        .map(|value| scalar(value).ok_or_else(|| serde::de::Error::custom("must be a text, a number or a boolean")))
        .collect()
}
