//! Reads a call from an HTTP request: the caller, the target, the options of the gateway and the parameters of the
//! operation.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::{Extension, RequestPartsExt as _};
use uuid::Uuid;

use crate::cluster::auth::UserInfo;
use crate::domain::rights::Caller;
use crate::gateway::call::CallRequest;
use crate::gateway::call_budget::MAX_DEADLINE;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{CallInput, CallTarget};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;

/// The header that selects one of the caller's licence profiles.
pub const RIGHTS_PROFILE: HeaderName = HeaderName::from_static("x-rights-profile");

/// The shortest accepted deadline.
const MIN_DEADLINE: Duration = Duration::from_millis(100);
/// Maximum number of parameters of one call: the profiles' operations have ten at most.
const MAX_PARAMETERS: usize = 64;
/// Maximum length of a purpose and of a licence profile's name.
const MAX_NAME: usize = 63;

/// What every call has besides its path and body.
pub struct CallParts {
    /// The authenticated user.
    pub(super) subject: Arc<UserInfo>,
    /// The correlation ID.
    pub(super) request_id: Uuid,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// The URI, for its query.
    pub(super) uri: Uri,
}

impl<S: Send + Sync> FromRequestParts<S> for CallParts {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let extensions = parts.extract::<(Extension<Arc<UserInfo>>, Extension<RequestId>)>().await;
        let (Extension(subject), Extension(RequestId(request_id))) = extensions
            .map_err(|_| Problem::new(ErrorCode::Internal, "internal error; report it with the request ID"))?;
        Ok(Self { subject, request_id, headers: parts.headers.clone(), uri: parts.uri.clone() })
    }
}

impl CallParts {
    /// The caller, without the options of the request.
    pub(super) fn caller(&self) -> Caller {
        let UserInfo { user, groups, .. } = &*self.subject;
        let request_id = Some(self.request_id);
        Caller { user: user.clone(), groups: groups.clone(), profile: None, purpose: None, request_id }
    }

    /// The call that the request asks for.
    pub(super) fn call_request(&self, target: CallTarget, input: CallInput) -> Result<CallRequest, Problem> {
        let CallTarget { connection, operation } = target;
        let CallInput { item, query, body: mut parameters, post } = input;
        if query.len() + parameters.len() > MAX_PARAMETERS {
            return Err(Problem::new(ErrorCode::InvalidRequest, "too many parameters; at most 64"));
        }
        let mut options = CallOptions::default();
        for (name, value) in query {
            if options.read(&name, &value)? {
                continue;
            }
            if parameters.contains_key(&name) {
                return Err(invalid("duplicate parameter", &name));
            }
            parameters.insert(name, value);
        }
        let CallOptions { raw, purpose, deadline } = options;
        let caller = Arc::new(Caller { profile: selected_profile(&self.headers)?, purpose, ..self.caller() });
        let subject = Arc::clone(&self.subject);
        Ok(CallRequest { connection, operation, item, parameters, raw, post, deadline, caller, subject })
    }
}

/// The gateway's own query parameters.
#[derive(Default)]
struct CallOptions {
    raw: bool,
    purpose: Option<String>,
    deadline: Option<Duration>,
}

impl CallOptions {
    /// Reads the parameter `name`; `false` if it is one of the operation.
    fn read(&mut self, name: &str, value: &str) -> Result<bool, Problem> {
        match name {
            "shape" => {
                self.raw = match value {
                    "provider" => true,
                    "canonical" => false,
                    _ => return Err(invalid("shape must be provider or canonical", name)),
                }
            }
            "purpose" if value.is_empty() || value.len() > MAX_NAME => {
                return Err(invalid("purpose must have 1 to 63 characters", name));
            }
            "purpose" => self.purpose = Some(value.to_owned()),
            "deadline_ms" => {
                let deadline = value.parse().ok().map(Duration::from_millis);
                let deadline = deadline.filter(|deadline| (MIN_DEADLINE..=MAX_DEADLINE).contains(deadline));
                self.deadline = Some(deadline.ok_or_else(|| invalid("deadline_ms must be from 100 to 60000", name))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The licence profile that the caller selects, if any.
fn selected_profile(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&RIGHTS_PROFILE) else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
    let text = "X-Rights-Profile must have 1 to 63 ASCII characters";
    name.map(|name| Some(name.to_owned())).ok_or_else(|| Problem::new(ErrorCode::InvalidRequest, text))
}

fn invalid(text: &str, parameter: &str) -> Problem {
    Problem::new(ErrorCode::InvalidRequest, text).with("parameter", parameter)
}
