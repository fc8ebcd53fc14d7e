//! What a bank is told to do: a [`Script`] of rules, each a sequence of steps. Data only; `engine` plays it.
//!
//! The JSON form is what the control API takes. Enums are tagged from outside (`{"status": {"code": 503}}`) because
//! serde buffers the other kinds, and a buffered number does not survive `arbitrary_precision`.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header;
use serde::{Deserialize, Serialize};

/// How a bank answers one request, or treats one connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Behaviour {
    /// The true answer.
    #[default]
    Healthy,
    /// This HTTP status, whatever was asked. 401, 403, 429 and the 5xx are all told this way.
    Status {
        /// The HTTP status, 200–599.
        code: u16,
        /// Further headers, such as `retry-after` or `location`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body; without one, Mono's `{"status":"failed","message":…}`.
        #[serde(default)]
        body: Option<String>,
    },
    /// Never answers: nothing at all, or a head and half of the body and then nothing.
    Stall(Moment),
    /// The true answer, a few bytes at a time.
    Dribble {
        /// Bytes per piece, at least 1.
        bytes: usize,
        /// Milliseconds between two pieces.
        every_ms: u64,
    },
    /// A TCP reset in place of the head, or after the head and half of the body.
    Reset(Moment),
    /// The head promises the whole body, this share of it comes, then the connection is closed.
    Truncate {
        /// Percent of the body that is sent, 0–99.
        percent: u8,
    },
    /// Status 200 with a body that is not what was asked for.
    Garbage(Garbage),
    /// Connection level, for the whole bank: nobody gets as far as a request. Live connections are closed.
    Down(Down),
}

/// Before or after the head of the answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// Instead of any answer.
    BeforeHead,
    /// After the status line, the headers and half of the body.
    AfterHead,
}

/// Kinds of body that no client should take for an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Garbage {
    /// A maintenance page, `text/html`, as a proxy in front of a bank sends it.
    Html,
    /// `application/json` that does not parse.
    InvalidJson,
    /// The true body, called `text/plain`.
    ContentType,
    /// No body at all, called `application/json`.
    Empty,
}

/// Ways of being down.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Down {
    /// Nobody listens: connection refused. The port stays reserved.
    Refuse,
    /// Accepts and closes at once.
    Close,
    /// Accepts and never says a word, not even in TLS.
    Hang,
}

/// A delay before the answer, for a share of the requests.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Milliseconds.
    pub ms: u64,
    /// Share of the requests, 1–100. The shares of one step divide one draw, so they add up to at most 100.
    #[serde(default = "all")]
    pub percent: u8,
}

/// One step of a rule: what happens, to which share of the requests, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// What happens.
    #[serde(rename = "do", default)]
    pub behaviour: Behaviour,
    /// Delays before it happens.
    #[serde(default)]
    pub latency: Vec<Latency>,
    /// Share of the requests, 1–100; the others fall through to the next rule.
    #[serde(default = "all")]
    pub percent: u8,
    /// Ends after so many requests (for [`Behaviour::Down`]: connections).
    #[serde(default)]
    pub requests: Option<u64>,
    /// Ends after so many milliseconds. With neither end the step is permanent.
    #[serde(default)]
    pub ms: Option<u64>,
}

/// A sequence of steps for the requests it matches. The first rule that matches and is not over decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Only paths that begin so. Without it: every path but the token endpoint's.
    #[serde(default)]
    pub path: Option<String>,
    /// Only this method, in capitals.
    #[serde(default)]
    pub method: Option<String>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Begins again after the last step.
    #[serde(default)]
    pub repeat: bool,
}

/// Everything a bank has been told. The empty script is a healthy bank.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    /// The rules, the first match wins.
    pub rules: Vec<Rule>,
}

/// Why a script cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A rule has no steps.
    #[error("rules[{rule}] has no steps; give it one or drop the rule")]
    NoSteps {
        /// Index of the rule.
        rule: usize,
    },
    /// A number is out of its range.
    #[error("rules[{rule}].steps[{step}].{field} must be {want}")]
    Range {
        /// Index of the rule.
        rule: usize,
        /// Index of the step.
        step: usize,
        /// Name of the field.
        field: &'static str,
        /// The range, in words.
        want: &'static str,
    },
    /// `down` is about connections, which have neither path nor method.
    #[error("rules[{rule}].steps[{step}]: `down` is for the whole bank: it takes no path, method, percent or latency")]
    DownIsForAll {
        /// Index of the rule.
        rule: usize,
        /// Index of the step.
        step: usize,
    },
    /// A refused connection is never seen, so it cannot be counted.
    #[error("rules[{rule}].steps[{step}]: `down: refuse` cannot count requests; end it with `ms`")]
    RefuseUncounted {
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

    /// The name that the arrival log shows.
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

impl From<Behaviour> for Step {
    fn from(behaviour: Behaviour) -> Self {
        Self { behaviour, latency: Vec::new(), percent: all(), requests: None, ms: None }
    }
}

impl Step {
    /// Healthy, after this delay.
    pub fn slow(delay: Duration) -> Self {
        Self::from(Behaviour::Healthy).after(delay, all())
    }

    /// Adds a delay for a share of the requests.
    #[must_use]
    pub fn after(mut self, delay: Duration, percent: u8) -> Self {
        self.latency.push(Latency { ms: millis(delay), percent });
        self
    }

    /// Ends after `requests`.
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

    /// Only for this share of the requests.
    #[must_use]
    pub fn share(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }
}

impl Rule {
    /// These steps, for paths that begin with `path`.
    pub fn on(path: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Self {
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
        Step::from(behaviour).into()
    }
}

impl From<Step> for Script {
    fn from(step: Step) -> Self {
        Self::sequence([step])
    }
}

impl Script {
    /// These steps one after another, for every request; healthy afterwards.
    pub fn sequence(steps: impl IntoIterator<Item = Step>) -> Self {
        Rule { steps: steps.into_iter().collect(), ..Rule::default() }.into()
    }

    /// Refuses what could not be played.
    pub fn validate(&self) -> Result<(), ScriptError> {
        for (r, rule) in self.rules.iter().enumerate() {
            if rule.steps.is_empty() {
                return Err(ScriptError::NoSteps { rule: r });
            }
            for (s, step) in rule.steps.iter().enumerate() {
                step.validate(r, s)?;
                if let Behaviour::Down(how) = step.behaviour {
                    let narrowed = rule.path.is_some() || rule.method.is_some();
                    if narrowed || step.percent != 100 || !step.latency.is_empty() {
                        return Err(ScriptError::DownIsForAll { rule: r, step: s });
                    }
                    if how == Down::Refuse && step.requests.is_some() {
                        return Err(ScriptError::RefuseUncounted { rule: r, step: s });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Step {
    fn validate(&self, rule: usize, step: usize) -> Result<(), ScriptError> {
        let shares: u32 = self.latency.iter().map(|l| u32::from(l.percent)).sum();
        let checks = [
            ((1..=100).contains(&self.percent), "percent", "1 to 100"),
            (shares <= 100, "latency", "shares of 100 percent at most"),
            (self.requests != Some(0), "requests", "at least 1"),
            (self.ms != Some(0), "ms", "at least 1"),
            (code_fits(&self.behaviour), "do.status.code", "200 to 599"),
            (headers_fit(&self.behaviour), "do.status.headers", "legal HTTP headers, none about the body's length"),
            (!matches!(self.behaviour, Behaviour::Dribble { bytes: 0, .. }), "do.dribble.bytes", "at least 1"),
            (!matches!(self.behaviour, Behaviour::Truncate { percent: 100.. }), "do.truncate.percent", "0 to 99"),
        ];
        match checks.into_iter().find(|(ok, ..)| !ok) {
            Some((_, field, want)) => Err(ScriptError::Range { rule, step, field, want }),
            None => Ok(()),
        }
    }
}

fn code_fits(behaviour: &Behaviour) -> bool {
    !matches!(behaviour, Behaviour::Status { code, .. } if !(200..=599).contains(code))
}

fn headers_fit(behaviour: &Behaviour) -> bool {
    let Behaviour::Status { headers, .. } = behaviour else { return true };
    headers.iter().all(|(name, value)| {
        // Lengths are the HTTP library's business: it would refuse to send a lie. `truncate` is the way to tell one.
        let framing = |n: &http::HeaderName| [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(n);
        http::HeaderName::try_from(name.as_str()).is_ok_and(|n| !framing(&n))
            && http::HeaderValue::try_from(value.as_str()).is_ok()
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
