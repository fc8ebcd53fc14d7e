//! Status conditions as values: merge rules for `lastTransitionTime`, and the invariants of every kind.
//!
//! The invariants are those of kstatus (sigs.k8s.io/cli-utils, `pkg/kstatus`): `Reconciling` and `Stalled` are
//! abnormal-true, exist only while true and never together, and either of them implies that `Ready` is not true. The
//! structure is that of `metav1.Condition`; the merge is that of apimachinery's `meta.SetStatusCondition`.

use std::fmt;

use jiff::Timestamp;

/// A condition's status.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Not known.
    Unknown,
}

impl ConditionStatus {
    /// The status as written by the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// Parses a status; any text other than `True` and `False` is `Unknown`.
    pub fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One condition, wanted or observed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The condition's type: `Ready`, `Healthy` …
    pub type_: String,
    /// Status of the condition.
    pub status: ConditionStatus,
    /// Machine-readable reason, `UpperCamelCase`, of the closed list.
    pub reason: String,
    /// Text for people: cause and remedy. Without IDs, durations and attempt numbers, which would change every time.
    pub message: String,
    /// The `metadata.generation` that the condition was computed from.
    pub observed_generation: i64,
    /// When `status` last changed; set by [`merge`].
    pub last_transition: Timestamp,
}

impl Condition {
    /// A condition whose status changed at `now`.
    pub fn new(
        type_: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
        observed_generation: i64,
        now: Timestamp,
    ) -> Self {
        Self {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation,
            last_transition: now,
        }
    }
}

/// The conditions to write: exactly `wanted`, in its order, each with its `last_transition` of `old` if the status is
/// the same. Conditions that are no longer wanted are removed, which is how an abnormal-true condition ends.
pub fn merge(old: &[Condition], wanted: Vec<Condition>) -> Vec<Condition> {
    wanted
        .into_iter()
        .map(|mut new| {
            if let Some(was) = old.iter().find(|c| c.type_ == new.type_ && c.status == new.status) {
                new.last_transition = was.last_transition;
            }
            new
        })
        .collect()
}

/// Abnormal-true conditions: they exist only while true.
const ONLY_WHILE_TRUE: [&str; 9] = [
    "Reconciling",
    "Stalled",
    "Throttled",
    "CircuitOpen",
    "Suspended",
    "SchemaDrifted",
    "DeadLetters",
    "Degraded",
    "PayoutsHeld",
];

/// Checks the invariants of an object's conditions. The error names the violated one.
pub fn check_invariants(conditions: &[Condition]) -> Result<(), String> {
    let find = |type_: &str| conditions.iter().find(|c| c.type_ == type_);
    for (i, condition) in conditions.iter().enumerate() {
        let type_ = &condition.type_;
        if conditions[..i].iter().any(|c| &c.type_ == type_) {
            return Err(format!("{type_} appears twice"));
        }
        if ONLY_WHILE_TRUE.contains(&type_.as_str()) && condition.status != ConditionStatus::True {
            return Err(format!("{type_} exists only while True, but is {}", condition.status));
        }
        if !is_upper_camel_case(&condition.reason) {
            return Err(format!("{type_} has reason {:?}, which is not an UpperCamelCase word", condition.reason));
        }
        if let Some(word) = volatile_word(&condition.message) {
            return Err(format!(
                "the message of {type_} contains {word:?}: IDs, durations and attempt numbers are not allowed"
            ));
        }
        if condition.observed_generation < 0 {
            return Err(format!("{type_} has observedGeneration {}", condition.observed_generation));
        }
    }
    match (find("Reconciling"), find("Stalled")) {
        (Some(_), Some(_)) => return Err("Reconciling and Stalled exist together".to_owned()),
        (Some(c), None) | (None, Some(c)) if find("Ready").is_some_and(|r| r.status == ConditionStatus::True) => {
            return Err(format!("{} exists although Ready is True", c.type_));
        }
        _ => {}
    }
    Ok(())
}

fn is_upper_camel_case(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The first word that is an ID, a duration or an attempt count: such a word makes an unchanged condition look changed.
fn volatile_word(message: &str) -> Option<&str> {
    let words = message.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')' | '"' | '\''));
    let mut before = "";
    words.map(|w| w.trim_end_matches(['.', ':', '!'])).find(|word| {
        let previous = std::mem::replace(&mut before, word);
        is_uuid(word) || is_duration(word) || is_attempt(previous, word)
    })
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.bytes().enumerate().all(
            |(i, b)| {
                if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() }
            },
        )
}

fn is_duration(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && ["ms", "s", "m", "h", "µs"].iter().any(|unit| {
            word.strip_suffix(unit).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        })
}

/// `#3`, `attempt 3`, `3 times`: an attempt count. A number alone may be an HTTP status or a field's value.
fn is_attempt(previous: &str, word: &str) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let counts = ["attempt", "try", "retry", "tries", "retries"].iter().any(|w| previous.eq_ignore_ascii_case(w));
    word.strip_prefix('#').is_some_and(digits) || (counts && digits(word)) || (word == "times" && digits(previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn condition(type_: &str, status: impl Into<ConditionStatus>) -> Condition {
        Condition::new(type_, status, "Because", "a message", 1, at(100))
    }

    #[test]
    fn last_transition_changes_only_with_the_status() {
        let old = [condition("Ready", true), condition("Healthy", true), condition("Stalled", true)];
        let mut ready = condition("Ready", true);
        ready.reason = "Other".into();
        ready.last_transition = at(200);
        let mut healthy = condition("Healthy", false);
        healthy.last_transition = at(200);
        let merged = merge(&old, vec![ready, healthy]);
        assert_eq!(merged.len(), 2, "unwanted conditions are removed");
        assert_eq!((merged[0].last_transition, merged[0].reason.as_str()), (at(100), "Other"));
        assert_eq!(merged[1].last_transition, at(200));
    }

    #[test]
    fn unknown_differs_from_false() {
        let old = [condition("Fresh", ConditionStatus::Unknown)];
        let mut fresh = condition("Fresh", false);
        fresh.last_transition = at(300);
        assert_eq!(merge(&old, vec![fresh])[0].last_transition, at(300));
    }

    #[test]
    fn each_violated_invariant_is_named() {
        let message = |text: &str| Condition { message: text.into(), ..condition("Ready", false) };
        let reason = |text: &str| Condition { reason: text.into(), ..condition("Ready", false) };
        for (conditions, want) in [
            (vec![condition("Ready", true), condition("Reconciling", true)], "Reconciling exists although Ready"),
            (vec![condition("Ready", true), condition("Stalled", true)], "Stalled exists although Ready"),
            (vec![condition("Reconciling", true), condition("Stalled", true)], "exist together"),
            (vec![condition("Reconciling", false)], "exists only while True"),
            (vec![condition("CircuitOpen", ConditionStatus::Unknown)], "exists only while True"),
            (vec![condition("Ready", true), condition("Ready", true)], "appears twice"),
            (vec![message("try #3 failed")], "#3"),
            (vec![message("failed 3 times")], "times"),
            (vec![message("gave up after attempt 3")], "\"3\""),
            (vec![message("no answer within 1500ms")], "1500ms"),
            (vec![message("request 123e4567-e89b-12d3-a456-426614174000.")], "123e4567"),
            (vec![reason("not camel")], "UpperCamelCase"),
            (vec![reason("")], "UpperCamelCase"),
        ] {
            let error = check_invariants(&conditions).unwrap_err();
            assert!(error.contains(want), "{error} should say {want}");
        }
    }

    #[test]
    fn valid_conditions_pass() {
        for conditions in [
            vec![],
            vec![condition("Ready", true), condition("Healthy", false), condition("CircuitOpen", true)],
            vec![condition("Ready", false), condition("Reconciling", true)],
            vec![condition("Ready", ConditionStatus::Unknown), condition("Stalled", true)],
            vec![Condition {
                message: "the provider answered HTTP 401/403 (status 401); fix spec.auth".into(),
                ..condition("Ready", true)
            }],
        ] {
            assert_eq!(check_invariants(&conditions), Ok(()));
        }
    }
}
