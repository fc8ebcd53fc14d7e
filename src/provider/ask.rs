//! One operation, asked of one connection, and what its end means for whoever asked.
//!
//! The gateway asks for its callers, and the worker of dead requests asks again: both must read an end alike, or what was
//! kept as worth retrying would be given up at the first retry, or the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::breaker::CallClass;
use crate::domain::rights::{Caller, Denial};
use crate::provider::call::{Answer, CacheUse, CallError, Request};
use crate::provider::classify::{Class, Wait};
use crate::provider::live::Live;
use crate::provider::profile::{Operation, ParameterError};
use crate::provider::settings::Settings;

/// Somebody waits for the answer: a pause that the provider asks for is sat out only if it is hardly longer than the
/// waits between tries, and is otherwise told, with its end.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How an operation is asked for.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Who asks.
    pub caller: Option<Arc<Caller>>,
    /// The call must have ended by then.
    pub within: Option<Duration>,
    /// One try and no waiting: somebody else can be asked instead, or it will be asked again anyway.
    pub hasty: bool,
}

/// Why an operation cannot be asked for at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotAsk {
    /// The profile does not have it.
    #[error("the provider's profile has no such operation")]
    Unknown,
    /// It stands behind a switch that is off.
    #[error("the operation is switched off: set spec.features.{0} to Enabled")]
    SwitchedOff(String),
    /// A parameter is missing, unknown or out of bounds.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

/// How it ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With what was asked for.
    Good(Answer),
    /// The provider has no such thing.
    NotFound(Answer),
    /// The provider understood and refused; it would refuse again.
    Refused(Answer),
    /// The caller may not.
    Denied(Refusal),
    /// Without an answer that helps.
    Failed(Failure),
}

/// Why a caller may not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No profile of his allows it.
    Rights {
        /// What is not allowed.
        action: Arc<str>,
        /// Why.
        why: Denial,
    },
    /// His profile's day is used up.
    Quota {
        /// Until the next one.
        retry_in: Duration,
    },
}

/// What kind of failure it was.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// The provider failed, or could not be reached or understood.
    Provider,
    /// The circuit is open.
    CircuitOpen,
    /// A quota is used up, or the provider asked for a pause.
    Quota,
    /// The connection is suspended.
    Suspended,
}

/// A call without an answer that helps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What kind it was.
    pub kind: FailureKind,
    /// The machine-readable code.
    pub code: &'static str,
    /// The provider's HTTP status, if it answered.
    pub status: Option<u16>,
    /// When it may be worth another try, where that is known.
    pub retry_in: Option<Duration>,
    /// Whether the same request may succeed later without anybody's doing.
    pub again: bool,
}

/// The operation of that name, if the connection offers it.
pub fn operation<'a>(settings: &'a Settings, name: &str) -> Result<&'a Operation, CannotAsk> {
    let operation = settings.profile().operations.get(name).ok_or(CannotAsk::Unknown)?;
    match operation.feature.as_deref().filter(|feature| !settings.feature(feature)) {
        Some(feature) => Err(CannotAsk::SwitchedOff(feature.to_owned())),
        None => Ok(operation),
    }
}

/// The request for it.
pub fn request(
    settings: &Settings,
    name: &str,
    operation: &Operation,
    parameters: &BTreeMap<String, String>,
    manner: Manner,
) -> Result<Request, ParameterError> {
    let mut request = operation.request_at(name, parameters, settings.parameters())?;
    if operation.cache {
        request.cache = CacheUse::FreshOrStale;
    }
    request.caller = manner.caller;
    request.within = manner.within;
    request.no_wait = manner.hasty;
    request.tries = manner.hasty.then_some(1);
    request.max_wait = Some(LONGEST_WAIT);
    Ok(request)
}

/// Whether the request may be made again although it is not known what became of it: only what changes nothing.
///
/// `Money` and `Write` never are. A payment whose answer was lost may have been made, and a second one pays twice; who
/// may repeat a write, and under which key, only its caller knows.
pub fn may_be_repeated(operation: &Operation) -> bool {
    operation.class() == CallClass::Read
}

/// Makes the call.
pub async fn ask(live: &Live, request: Request, now: impl FnOnce() -> Timestamp) -> Ended {
    match live.call(request).await {
        Ok(answer) => read(answer, now()),
        Err(error) => failed(&error),
    }
}

fn read(answer: Answer, now: Timestamp) -> Ended {
    let class = answer.reading.class;
    let failure = |kind, code, again| {
        let retry_in = answer.reading.wait.map(|wait| match wait {
            Wait::For(time) => time,
            Wait::Until(at) => Duration::try_from(at.duration_since(now)).unwrap_or_default(),
        });
        Ended::Failed(Failure { kind, code, status: Some(answer.status.as_u16()), retry_in, again })
    };
    match class {
        Class::Ok | Class::EndOfData => Ended::Good(answer),
        Class::NotFound | Class::ItemGone => Ended::NotFound(answer),
        Class::Fatal | Class::RestartWindow | Class::ResetCursor => Ended::Refused(answer),
        Class::RateLimited => failure(FailureKind::Quota, "rate_limited", true),
        Class::Quota => failure(FailureKind::Quota, "quota_exhausted", true),
        Class::Retry => failure(FailureKind::Provider, "provider_error", true),
        // A credential that was replaced a moment ago is good at the next try.
        Class::Auth => failure(FailureKind::Provider, "credentials_refused", true),
        Class::Rights => failure(FailureKind::Provider, "not_in_plan", false),
    }
}

/// What the rights said, if it was they that refused.
pub fn refusal(error: &CallError) -> Option<Refusal> {
    match error {
        CallError::RightsDenied { action, why } => Some(Refusal::Rights { action: Arc::clone(action), why: *why }),
        CallError::RightsQuota { retry_in } => Some(Refusal::Quota { retry_in: *retry_in }),
        _ => None,
    }
}

fn failed(error: &CallError) -> Ended {
    let code = error.code();
    if let Some(refusal) = refusal(error) {
        return Ended::Denied(refusal);
    }
    let (kind, retry_in, again) = match error {
        CallError::CircuitOpen { retry_in } => (FailureKind::CircuitOpen, *retry_in, true),
        CallError::QuotaExhausted { retry_in } | CallError::Throttled { retry_in } => {
            (FailureKind::Quota, Some(*retry_in), true)
        }
        CallError::Suspended => (FailureKind::Suspended, None, false),
        // The next answer is as large, the next request as wrong, the address as forbidden.
        CallError::TooLarge { .. } | CallError::Request(_) | CallError::Refused(_) | CallError::Client(_) => {
            (FailureKind::Provider, None, false)
        }
        _ => (FailureKind::Provider, None, true),
    };
    let status = match error {
        CallError::CredentialsRefused { status } => Some(*status),
        CallError::NoToken { status, .. } => *status,
        _ => None,
    };
    Ended::Failed(Failure { kind, code, status, retry_in, again })
}
