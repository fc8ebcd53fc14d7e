//! What the end of a call means: for the breaker, for health, for the credentials.
//!
//! One table for all callers. A status of 5xx and a failure to connect or to answer in time count against the provider;
//! a connection that TLS refuses or that breaks is a failure to connect too, told apart so that a policy can; a policy may
//! replace both lists. 401 and 403 speak of the credentials and 429 of the quota: neither trips. Whatever
//! else the provider answers, it answered.
//!
//! Of the credentials speaks the class that the answer was read as, not its status: a refused key may come with 200, and
//! a 401 may be about one customer's consent.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::domain::breaker::{CallClass, Outcome};
use crate::domain::quota::Scope;
use crate::provider::call::{Answer, CallError};

/// A status (`503`) or a class of statuses (`5xx`).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StatusPattern {
    /// All statuses of the hundred.
    Class(u16),
    /// One status.
    Exact(u16),
}

/// A text that is neither a status nor a class of statuses.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no HTTP status: write 100 to 599, or a class such as 5xx")]
pub struct BadStatus(String);

impl StatusPattern {
    /// Whether `status` is meant.
    pub const fn matches(self, status: u16) -> bool {
        match self {
            Self::Class(hundred) => status / 100 == hundred,
            Self::Exact(exact) => status == exact,
        }
    }
}

impl FromStr for StatusPattern {
    type Err = BadStatus;
    fn from_str(text: &str) -> Result<Self, BadStatus> {
        let bad = || BadStatus(text.to_owned());
        let (pattern, hundred) = if let Some(class) = text.strip_suffix("xx") {
            let hundred = class.parse().map_err(|_| bad())?;
            (Self::Class(hundred), hundred)
        } else {
            let status: u16 = text.parse().map_err(|_| bad())?;
            (Self::Exact(status), status / 100)
        };
        if (1..=5).contains(&hundred) { Ok(pattern) } else { Err(bad()) }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// YAML writes `200` as a number and `2xx` as a text.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u16),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(number) => number.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A kind of failure without an HTTP status.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ErrorClass {
    /// No connection: name, address, network.
    Connect,
    /// No agreement on TLS.
    Tls,
    /// The connection broke while the answer was awaited or read.
    Reset,
    /// No complete answer in time.
    Timeout,
    /// An answer that cannot be taken: too large, or not HTTP.
    Body,
}

impl ErrorClass {
    /// The class as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Body => "body",
        }
    }
}

/// What an answer means for whoever asked: whether to ask again, when, and what to do with a walk that is under way.
///
/// A profile's matchers choose it; where none fits, the status does (see `Profile::read`).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// What was asked for.
    #[default]
    Ok,
    /// A passing trouble: the same request may be made again.
    Retry,
    /// Too many requests at once: the whole connection waits.
    RateLimited,
    /// A quota is used up: nothing until it is renewed.
    Quota,
    /// The credentials are refused.
    Auth,
    /// The credentials are good, but this plan or this item is not theirs.
    Rights,
    /// There is no such thing.
    NotFound,
    /// There was such a thing, and there will not be again: the end of this partition, not of the job.
    ItemGone,
    /// The list changed under the walk: begin the window again.
    RestartWindow,
    /// The provider no longer knows the place where the walk stood: forget it and begin anew.
    ResetCursor,
    /// The list ends here by the provider's rules, though it has more.
    EndOfData,
    /// Refused for good: the same request would be refused again.
    Fatal,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Retry,
        Self::RateLimited,
        Self::Quota,
        Self::Auth,
        Self::Rights,
        Self::NotFound,
        Self::ItemGone,
        Self::RestartWindow,
        Self::ResetCursor,
        Self::EndOfData,
        Self::Fatal,
    ];

    /// The name, as profiles write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Retry => "retry",
            Self::RateLimited => "rateLimited",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Rights => "rights",
            Self::NotFound => "notFound",
            Self::ItemGone => "itemGone",
            Self::RestartWindow => "restartWindow",
            Self::ResetCursor => "resetCursor",
            Self::EndOfData => "endOfData",
            Self::Fatal => "fatal",
        }
    }

    /// The class of a status where no matcher of the profile fits.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            401 => Self::Auth,
            402 | 403 => Self::Rights,
            404 => Self::NotFound,
            410 => Self::ItemGone,
            408 | 425 | 500..=599 => Self::Retry,
            429 => Self::RateLimited,
            _ => Self::Fatal,
        }
    }
}

/// How long the provider asks to be left alone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Wait {
    /// So long from the moment of the answer.
    For(Duration),
    /// Until then; perhaps already past.
    Until(Timestamp),
}

/// What an answer was read as.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// What it means.
    pub class: Class,
    /// When to come again, where the provider tells.
    pub wait: Option<Wait>,
    /// Of `RateLimited` and `Quota`: who is to wait.
    pub scope: Scope,
}

impl Reading {
    /// What a status means by itself.
    pub const fn of_status(status: u16) -> Self {
        Self { class: Class::of_status(status), wait: None, scope: Scope::Connection }
    }

    /// How long the provider asks to be left alone, counted from `now`; nothing if that time is past.
    pub fn asked(&self, now: Timestamp) -> Option<Duration> {
        let asked = match self.wait? {
            Wait::For(wait) => wait,
            Wait::Until(at) => Duration::try_from(at.duration_since(now)).ok()?,
        };
        (!asked.is_zero()).then_some(asked)
    }
}

/// Which ends of a call count against the provider.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Classify {
    /// Statuses that are failures.
    pub failure_statuses: Vec<StatusPattern>,
    /// Errors that are failures.
    pub failure_errors: Vec<ErrorClass>,
    /// Statuses that are neither success nor failure; they outrank `failure_statuses`.
    pub ignore_statuses: Vec<StatusPattern>,
}

impl Default for Classify {
    fn default() -> Self {
        Self {
            failure_statuses: vec![StatusPattern::Class(5)],
            // `Connect` and `Timeout`, as documented: `Tls` and `Reset` are finer words for no connection, which a policy
            // may tell apart. A bank whose certificate ran out, or that resets every connection, is as unusable as one
            // that is off the network. What stays out is an answer of the wrong size or form.
            failure_errors: vec![ErrorClass::Connect, ErrorClass::Tls, ErrorClass::Timeout, ErrorClass::Reset],
            ignore_statuses: Vec::new(),
        }
    }
}

/// What the end of a call says about the credentials.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// They were accepted.
    Accepted,
    /// They were refused.
    Refused,
    /// Nothing.
    Silent,
}

/// The judgement on one call.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    /// What the breaker records.
    pub outcome: Outcome,
    /// What is known about the credentials now.
    pub credentials: Credentials,
}

impl Judgement {
    /// The call says nothing.
    pub const NOTHING: Self = Self { outcome: Outcome::Ignored, credentials: Credentials::Silent };
}

/// Judges the end of a call. `expected` are the statuses a health check counts as well; other calls have none.
pub fn judge(
    rules: &Classify,
    class: CallClass,
    expected: &[StatusPattern],
    end: Result<&Answer, &CallError>,
) -> Judgement {
    match end {
        Ok(answer) => judge_answer(rules, class, expected, (answer.status.as_u16(), answer.reading.class)),
        Err(CallError::CredentialsRefused { .. }) => {
            Judgement { outcome: Outcome::Ignored, credentials: Credentials::Refused }
        }
        Err(error) => {
            let failed = error.class().is_some_and(|class| rules.failure_errors.contains(&class));
            let outcome = if failed { Outcome::Failure } else { Outcome::Ignored };
            Judgement { outcome, credentials: Credentials::Silent }
        }
    }
}

/// What an answer of this status that was read as `class` says about the credentials.
pub(crate) const fn credentials(status: u16, class: Class, probe: bool) -> Credentials {
    match class {
        Class::Auth => Credentials::Refused,
        // A 403 to an ordinary call is most often about a plan or one item; only a health check is known to be allowed.
        Class::Rights if status == 403 && probe => Credentials::Refused,
        // A redirect may lead to a log-in page; that is read as `Fatal`.
        Class::Ok => Credentials::Accepted,
        // It looked and told what it found, and it called that a success.
        Class::NotFound | Class::ItemGone | Class::RestartWindow | Class::ResetCursor | Class::EndOfData
            if status / 100 == 2 =>
        {
            Credentials::Accepted
        }
        _ => Credentials::Silent,
    }
}

fn judge_answer(
    rules: &Classify,
    class: CallClass,
    expected: &[StatusPattern],
    (status, read): (u16, Class),
) -> Judgement {
    let probe = class == CallClass::Probe;
    let any = |patterns: &[StatusPattern]| patterns.iter().any(|pattern| pattern.matches(status));
    let as_expected = probe && any(expected);
    // Who expects a 401 without a word of the profile's means that one.
    if as_expected && read == Class::of_status(status) {
        return Judgement { outcome: Outcome::Success, credentials: Credentials::Accepted };
    }
    let credentials = credentials(status, read, probe);
    let outcome = if as_expected && read != Class::Auth {
        Outcome::Success
    } else if read == Class::Auth || matches!(status, 401 | 403 | 429) || any(&rules.ignore_statuses) {
        Outcome::Ignored
    } else if any(&rules.failure_statuses) || probe {
        // A health check that is not answered as expected has failed, whatever the status.
        Outcome::Failure
    } else {
        Outcome::Success
    };
    Judgement { outcome, credentials }
}

#[cfg(test)]
mod tests;
