//! The format of scripted faults: a [`Script`] of rules, each a sequence of steps. Data only; `engine` evaluates it.
//!
//! The control API takes it as JSON. Enums are externally tagged (`{"status": {"code": 503}}`), because serde buffers
//! the other representations and a buffered number does not survive `arbitrary_precision`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header;
use serde::{Deserialize, Serialize};

/// How a bank responds to one request, or handles one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Behaviour {
    /// The regular response.
    #[default]
    Healthy,
    /// This HTTP status for any request, such as 401, 403, 429 or 5xx.
    Status {
        /// The HTTP status, 200–599.
        code: u16,
        /// Additional headers, such as `retry-after` or `location`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body; without one, Mono's `{"status":"failed","message":…}`.
        #[serde(default)]
        body: Option<String>,
    },
    /// Stalls forever: before the head, or after the head and half of the body.
    Stall(FailurePoint),
    /// The regular response, a few bytes at a time.
    Dribble {
        /// Bytes per piece, at least 1.
        bytes: usize,
        /// Milliseconds between pieces.
        every_ms: u64,
    },
    /// A TCP reset before the head, or after the head and half of the body.
    Reset(FailurePoint),
    /// `Content-Length` announces the whole body, part of it is sent, then the connection is closed.
    Truncate {
        /// Percent of the body that is sent, 0–99.
        percent: u8,
    },
    /// Status 200 with an unusable body.
    Garbage(Garbage),
    /// The whole bank is down: no request is read, and open connections are closed.
    Down(Down),
}

/// The point of a response at which it fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailurePoint {
    /// Before any byte of the response.
    BeforeHead,
    /// After the status line, the headers and half of the body.
    AfterHead,
}

/// Kinds of unusable body, which no client should accept.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Garbage {
    /// A maintenance page, `text/html`, as sent by a proxy in front of a bank.
    Html,
    /// `application/json` that does not parse.
    InvalidJson,
    /// The regular body with content type `text/plain`.
    ContentType,
    /// An empty body with content type `application/json`.
    Empty,
}

/// How connections fail while a bank is down.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Down {
    /// Connection refused. The port stays reserved.
    Refuse,
    /// Accepts and closes at once.
    Close,
    /// Accepts and sends nothing, not even a TLS handshake.
    Hang,
}

/// A delay before the response, for a share of the requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Milliseconds.
    pub ms: u64,
    /// Share of the requests, 1–100. The shares of one step partition one draw, so their sum is at most 100.
    #[serde(default = "all")]
    pub percent: u8,
}

/// One step of a rule: a behaviour, its share of the requests, and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScriptStep {
    /// The behaviour.
    #[serde(rename = "do", default)]
    pub behaviour: Behaviour,
    /// Delays before the behaviour.
    #[serde(default)]
    pub latency: Vec<Latency>,
    /// Share of the requests, 1–100; the others fall through to the next rule.
    #[serde(default = "all")]
    pub percent: u8,
    /// Number of requests after which it ends (for [`Behaviour::Down`]: connections).
    #[serde(default)]
    pub requests: Option<u64>,
    /// Milliseconds after which it ends. Without `requests` and `ms` the step is permanent.
    #[serde(default)]
    pub ms: Option<u64>,
}

/// A sequence of steps for matching requests. The first rule that matches and has not ended decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Path prefix. Without it, every path except the token endpoint's matches.
    #[serde(default)]
    pub path: Option<String>,
    /// HTTP method in upper case.
    #[serde(default)]
    pub method: Option<String>,
    /// The steps, in order.
    pub steps: Vec<ScriptStep>,
    /// Whether it restarts after the last step.
    #[serde(default)]
    pub repeat: bool,
}

/// The faults of a bank. With an empty script the bank is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// The rules; the first match decides.
    pub rules: Vec<Rule>,
}

/// Why a script is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A rule has no steps.
    #[error("rules[{rule}] has no steps; add one or remove the rule")]
    NoSteps {
        /// Index of the rule.
        rule: usize,
    },
    /// A field is out of range.
    #[error("rules[{rule}].steps[{step}].{field} must be {expected}")]
    Range {
        /// Index of the rule.
        rule: usize,
        /// Index of the step.
        step: usize,
        /// Name of the field.
        field: &'static str,
        /// The allowed range.
        expected: &'static str,
    },
    /// `down` affects connections, which have neither path nor method.
    #[error("rules[{rule}].steps[{step}]: `down` applies to the whole bank; remove path, method, percent and latency")]
    DownIsBankWide {
        /// Index of the rule.
        rule: usize,
        /// Index of the step.
        step: usize,
    },
    /// A refused connection is not observed, so it cannot be counted.
    #[error("rules[{rule}].steps[{step}]: `down: refuse` cannot count requests; use `ms`")]
    RefuseNotCounted {
        /// Index of the rule.
        rule: usize,
        /// Index of the step.
        step: usize,
    },
}

const fn all() -> u8 {
    100
}

impl Behaviour {
    /// This HTTP status with the default error body.
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: BTreeMap::new(), body: None }
    }

    /// 429 with a `Retry-After` header, written as given (seconds or an HTTP date).
    pub fn rate_limited(retry_after: &str) -> Self {
        let headers = BTreeMap::from([("retry-after".to_owned(), retry_after.to_owned())]);
        Self::Status { code: 429, headers, body: None }
    }

    /// The name in the arrival log.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Status { .. } => "status",
            Self::Stall(_) => "stall",
            Self::Dribble { .. } => "dribble",
            Self::Reset(_) => "reset",
            Self::Truncate { .. } => "truncate",
            Self::Garbage(_) => "garbage",
            Self::Down(_) => "down",
        }
    }
}

impl From<Behaviour> for ScriptStep {
    fn from(behaviour: Behaviour) -> Self {
        Self { behaviour, latency: Vec::new(), percent: all(), requests: None, ms: None }
    }
}

impl ScriptStep {
    /// A healthy step with this delay.
    pub fn slow(delay: Duration) -> Self {
        Self::from(Behaviour::Healthy).after(delay, all())
    }

    /// Adds a delay for a share of the requests.
    #[must_use]
    pub fn after(mut self, delay: Duration, percent: u8) -> Self {
        self.latency.push(Latency { ms: millis(delay), percent });
        self
    }

    /// Ends after this number of requests.
    #[must_use]
    pub fn times(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// Ends after this long.
    #[must_use]
    pub fn during(mut self, time: Duration) -> Self {
        self.ms = Some(millis(time));
        self
    }

    /// Restricts it to this share of the requests.
    #[must_use]
    pub fn share(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }
}

impl Rule {
    /// These steps for paths that start with `path`.
    pub fn on(path: impl Into<String>, steps: impl IntoIterator<Item = ScriptStep>) -> Self {
        Self { path: Some(path.into()), steps: steps.into_iter().collect(), ..Self::default() }
    }
}

impl From<Rule> for Script {
    fn from(rule: Rule) -> Self {
        Self { rules: vec![rule] }
    }
}

impl From<Behaviour> for Script {
    fn from(behaviour: Behaviour) -> Self {
        ScriptStep::from(behaviour).into()
    }
}

impl From<ScriptStep> for Script {
    fn from(step: ScriptStep) -> Self {
        Self::sequence([step])
    }
}

impl Script {
    /// These steps in order for every request; healthy afterwards.
    pub fn sequence(steps: impl IntoIterator<Item = ScriptStep>) -> Self {
        Rule { steps: steps.into_iter().collect(), ..Rule::default() }.into()
    }

    /// Checks the ranges and combinations of all fields.
    pub fn validate(&self) -> Result<(), ScriptError> {
        for (r, rule) in self.rules.iter().enumerate() {
            if rule.steps.is_empty() {
                return Err(ScriptError::NoSteps { rule: r });
            }
            for (s, step) in rule.steps.iter().enumerate() {
                step.validate(r, s)?;
                if let Behaviour::Down(mode) = step.behaviour {
                    let restricted = rule.path.is_some() || rule.method.is_some();
                    if restricted || step.percent != 100 || !step.latency.is_empty() {
                        return Err(ScriptError::DownIsBankWide { rule: r, step: s });
                    }
                    if mode == Down::Refuse && step.requests.is_some() {
                        return Err(ScriptError::RefuseNotCounted { rule: r, step: s });
                    }
                }
            }
        }
        Ok(())
    }
}

impl ScriptStep {
    fn validate(&self, rule: usize, step: usize) -> Result<(), ScriptError> {
        let shares: u32 = self.latency.iter().map(|l| u32::from(l.percent)).sum();
        let checks = [
            ((1..=100).contains(&self.percent), "percent", "1 to 100"),
            (shares <= 100, "latency", "shares that add up to at most 100"),
            (self.requests != Some(0), "requests", "at least 1"),
            (self.ms != Some(0), "ms", "at least 1"),
            (is_valid_code(&self.behaviour), "do.status.code", "200 to 599"),
            (
                are_valid_headers(&self.behaviour),
                "do.status.headers",
                "valid HTTP headers without content-length and transfer-encoding",
            ),
            (!matches!(self.behaviour, Behaviour::Dribble { bytes: 0, .. }), "do.dribble.bytes", "at least 1"),
            (!matches!(self.behaviour, Behaviour::Truncate { percent: 100.. }), "do.truncate.percent", "0 to 99"),
        ];
        match checks.into_iter().find(|(ok, ..)| !ok) {
            Some((_, field, expected)) => Err(ScriptError::Range { rule, step, field, expected }),
            None => Ok(()),
        }
    }
}

fn is_valid_code(behaviour: &Behaviour) -> bool {
    !matches!(behaviour, Behaviour::Status { code, .. } if !(200..=599).contains(code))
}

fn are_valid_headers(behaviour: &Behaviour) -> bool {
    let Behaviour::Status { headers, .. } = behaviour else { return true };
    headers.iter().all(|(name, value)| {
        // The HTTP library sets these and rejects wrong ones; `truncate` sends a body that is too short.
        let framing = |n: &http::HeaderName| [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(n);
        http::HeaderName::try_from(name.as_str()).is_ok_and(|n| !framing(&n))
            && http::HeaderValue::try_from(value.as_str()).is_ok()
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
