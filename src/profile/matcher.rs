//! How responses are classified: an ordered list of matchers, of which the first match decides.
//!
//! Providers hide errors behind 200, distinguish quotas from plans by a sentence, and respond with HTML from a proxy,
//! so a matcher can test the status, the content type, a header and the body. A matcher that can never be reached is an
//! error in the profile, found when it is parsed: see [`find_unreachable`].

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::classification::ResponseClass;
use super::header_name::check_header_name;
use super::json::{check_pointer, scalar_text};
use super::limits::LimitScope;
use super::response_view::ResponseView;
use super::retry_after::RetryAfterRule;
use super::status_pattern::StatusPattern;

/// Most matchers of one profile: each is tried on each response until one matches. Built-in profiles have at most a
/// dozen.
const MAX_MATCHERS: usize = 256;

/// Most combinations of values over all matchers of one profile. Reachability is checked per combination, so more would
/// make the start hang on one file.
const MAX_COMBINATIONS: usize = 4096;

/// One rule of `errors`. All conditions that are set must hold; at least one must be set.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResponseMatcher {
    /// The statuses, such as `429` or `5xx`; empty: all.
    #[serde(default)]
    pub status: Vec<StatusPattern>,
    /// The media type, such as `text/html`, without parameters; a JSON type also matches `…+json`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// A header that must be present.
    #[serde(default)]
    pub header: Option<HeaderMatcher>,
    /// Conditions on the body; all must hold. A body that is not JSON, or larger than 64 KiB, matches none.
    #[serde(default)]
    pub json: Vec<JsonMatcher>,
    /// The class of such a response.
    pub class: ResponseClass,
    /// Of `rateLimited` and `quota`: whether the whole connection is delayed, or only the request's operation for its
    /// partition (for example one account).
    #[serde(default)]
    pub scope: LimitScope,
    /// Where the provider reports how long to wait; the first rule that yields a value is used, before `Retry-After`.
    #[serde(default)]
    pub wait: Vec<RetryAfterRule>,
}

/// A header that must be present, optionally with a value.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatcher {
    /// The name; case-insensitive.
    pub name: String,
    /// The accepted values, compared exactly; empty: any value.
    #[serde(default)]
    pub is: Vec<String>,
}

/// A condition on one value of the body. Without `is` and `contains`: any value but null.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsonMatcher {
    /// JSON pointer.
    pub pointer: String,
    /// The accepted values: texts compared exactly, numbers and booleans as JSON writes them.
    #[serde(default, deserialize_with = "scalars")]
    #[schemars(with = "Vec<Value>")]
    pub is: Vec<String>,
    /// A text that contains this; case-insensitive.
    #[serde(default)]
    pub contains: Option<String>,
}

impl ResponseMatcher {
    /// Whether the response matches.
    pub(super) fn matches(&self, response: &ResponseView<'_>) -> bool {
        (self.status.is_empty() || self.status.iter().any(|pattern| pattern.matches(response.status())))
            && self.content_type.as_deref().is_none_or(|wanted| has_media_type(response, wanted))
            && self.header.as_ref().is_none_or(|rule| rule.matches(response))
            && self.json.iter().all(|rule| rule.matches(response))
    }

    /// Checks what serde cannot.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.status.is_empty() && self.content_type.is_none() && self.header.is_none() && self.json.is_empty() {
            return Err("matches every response: name a status, a contentType, a header or a JSON pointer".to_owned());
        }
        self.json.iter().try_for_each(|rule| check_pointer(&rule.pointer))?;
        self.header.iter().try_for_each(|rule| check_header_name(&rule.name))?;
        if self.scope == LimitScope::Partition
            && !matches!(self.class, ResponseClass::RateLimited | ResponseClass::Quota)
        {
            return Err("only rateLimited and quota have a scope: remove it".to_owned());
        }
        self.wait.iter().try_for_each(RetryAfterRule::check)
    }

    /// All matched statuses.
    fn statuses(&self) -> BTreeSet<u16> {
        (100..600).filter(|s| self.status.is_empty() || self.status.iter().any(|p| p.matches(*s))).collect()
    }

    /// Whether every response that matches `self`, with its JSON conditions narrowed to `narrowed`, also matches
    /// `other`'s conditions other than the status.
    fn implies(&self, narrowed: &[JsonMatcher], other: &Self) -> bool {
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

impl HeaderMatcher {
    fn matches(&self, response: &ResponseView<'_>) -> bool {
        response.header(&self.name).is_some_and(|value| self.is.is_empty() || self.is.iter().any(|is| is == value))
    }
}

impl JsonMatcher {
    fn matches(&self, response: &ResponseView<'_>) -> bool {
        let Some(value) = response.json_at(&self.pointer) else { return false };
        let text = scalar_text(value);
        let is = self.is.is_empty() || text.as_ref().is_some_and(|text| self.is.contains(text));
        let contained =
            self.contains.as_ref().is_none_or(|part| text.as_ref().is_some_and(|text| contains(text, part)));
        is && contained
    }

    /// Whether everything that matches `self` matches `other`.
    fn implies(&self, other: &Self) -> bool {
        let is = other.is.is_empty() || (!self.is.is_empty() && self.is.iter().all(|value| other.is.contains(value)));
        let contained = other.contains.as_ref().is_none_or(|part| {
            self.contains.as_ref().is_some_and(|ours| contains(ours, part))
                || (!self.is.is_empty() && self.is.iter().all(|value| contains(value, part)))
        });
        self.pointer == other.pointer && is && contained
    }
}

/// The first matcher above a limit on matchers or combinations of values; checked before they are compared.
pub(super) fn find_above_limit(matchers: &[ResponseMatcher]) -> Option<(usize, String)> {
    if matchers.len() > MAX_MATCHERS {
        return Some((MAX_MATCHERS, format!("exceeds the limit of {MAX_MATCHERS} matchers: remove some")));
    }
    let mut all = 0_usize;
    for (at, matcher) in matchers.iter().enumerate() {
        let values = matcher.json.iter().map(|rule| rule.is.len().max(1));
        all = all.saturating_add(values.fold(1, usize::saturating_mul));
        if all > MAX_COMBINATIONS {
            let text = format!(
                "has too many combinations of values (over {MAX_COMBINATIONS} with the matchers before): list fewer \
                 values under is, or fewer conditions under json"
            );
            return Some((at, text));
        }
    }
    None
}

/// The first matcher that no response can reach because earlier ones match everything it matches: its index and theirs.
///
/// Conditions are compared as they are written, value by value and status by status; equivalent conditions that are
/// written differently are not detected.
pub(super) fn find_unreachable(matchers: &[ResponseMatcher]) -> Option<(usize, Vec<usize>)> {
    matchers.iter().enumerate().find_map(|(place, matcher)| {
        let earlier = matchers.get(..place)?;
        let mut covering = BTreeSet::new();
        for narrowed in combinations(&matcher.json) {
            let over: Vec<usize> =
                (0..place).filter(|at| earlier.get(*at).is_some_and(|o| matcher.implies(&narrowed, o))).collect();
            let mut left = matcher.statuses();
            for at in over {
                let statuses = earlier.get(at).map(ResponseMatcher::statuses).unwrap_or_default();
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

/// The same rules, one list per combination of their values, so that two earlier matchers together can cover one.
fn combinations(rules: &[JsonMatcher]) -> Vec<Vec<JsonMatcher>> {
    rules.iter().fold(vec![Vec::new()], |combinations, rule| {
        let choices: Vec<JsonMatcher> = if rule.is.is_empty() {
            vec![rule.clone()]
        } else {
            rule.is.iter().map(|value| JsonMatcher { is: vec![value.clone()], ..rule.clone() }).collect()
        };
        combinations
            .iter()
            .flat_map(|one| choices.iter().map(move |choice| one.iter().chain([choice]).cloned().collect()))
            .collect()
    })
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn has_media_type(response: &ResponseView<'_>, wanted: &str) -> bool {
    let Some(content_type) = response.header("content-type") else { return false };
    let actual = content_type.split(';').next().unwrap_or(content_type).trim();
    let json = wanted.eq_ignore_ascii_case("application/json") && actual.to_ascii_lowercase().ends_with("+json");
    actual.eq_ignore_ascii_case(wanted) || json
}

/// Reads texts, numbers and booleans as their text.
fn scalars<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let values = Vec::<Value>::deserialize(deserializer)?;
    values
        .iter()
        .map(|value| {
            scalar_text(value).ok_or_else(|| serde::de::Error::custom("must be a text, a number or a boolean"))
        })
        .collect()
}
