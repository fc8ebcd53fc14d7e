//! Who asks for events: a consumer by its key, or staff by a token. And who may manage consumers.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use uuid::Uuid;

use crate::cluster::auth::{AccessRequest, UserInfo};
use crate::domain::consumer::{is_consumer_name, is_consumer_user};
use crate::domain::key::ObjectKey;
use crate::gateway::access::{call_access, not_for_consumers};
use crate::gateway::audit::RBAC;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::problem::Problem;
use crate::gateway::state::Gateway;
use crate::ledger::audit::{AuditEntry, AuditKind};
use crate::ledger::delivery::Consumer;

/// The caller of a path that serves consumers and staff.
pub enum EventReader {
    /// A consumer: it sees its own deliveries, and no other ones.
    Consumer(Arc<Consumer>),
    /// A user of the API server: RBAC decides.
    Staff(Arc<UserInfo>),
}

impl<S: Send + Sync> FromRequestParts<S> for EventReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if let Some(consumer) = parts.extensions.get::<Arc<Consumer>>() {
            return Ok(Self::Consumer(Arc::clone(consumer)));
        }
        let user = parts.extensions.get::<Arc<UserInfo>>().map(|user| Self::Staff(Arc::clone(user)));
        user.ok_or_else(|| Problem::new(ErrorCode::Internal, "internal error; report it with the request ID"))
    }
}

/// A right on consumers. They are of no namespace, so the right is one of the cluster.
#[derive(Copy, Clone, Debug)]
pub(super) struct ConsumerRight {
    verb: &'static str,
    resource: &'static str,
    subresource: &'static str,
}

impl ConsumerRight {
    pub(super) const LIST: Self = Self::of("list", "");
    pub(super) const CREATE: Self = Self::of("create", "");
    pub(super) const RENAME: Self = Self::of("update", "");
    pub(super) const REMOVE: Self = Self::of("delete", "");
    pub(super) const ROTATE_KEY: Self = Self::of("update", "keys");
    pub(super) const LIST_DEAD_LETTERS: Self = Self::of("list", "deadletters");
    pub(super) const PURGE_DEAD_LETTERS: Self = Self::of("delete", "deadletters");
    pub(super) const REPLAY_DEAD_LETTERS: Self = Self::of("update", "deadletters");
    pub(super) const RESEND: Self = Self { verb: "create", resource: "events", subresource: "resend" };
    pub(super) const REDELIVER: Self = Self { verb: "create", resource: "events", subresource: "redeliver" };

    const fn of(verb: &'static str, subresource: &'static str) -> Self {
        Self { verb, resource: "consumers", subresource }
    }

    /// What the audit says of a refusal: `update consumers/keys`.
    fn action(self) -> String {
        let Self { verb, resource, subresource } = self;
        if subresource.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {resource}/{subresource}") }
    }
}

/// An administrative act on a consumer, for the audit.
pub(super) struct ConsumerAct<'a> {
    pub(super) action: &'static str,
    /// Name of the consumer; empty: all.
    pub(super) consumer: &'a str,
    pub(super) subject: &'a str,
    pub(super) reason: Option<String>,
    pub(super) request_id: Uuid,
}

impl Gateway {
    /// Fails unless RBAC allows `subject` this on the consumer; an empty name is any. A refusal is in the audit.
    pub(super) async fn require_consumer_right(
        &self,
        subject: &UserInfo,
        right: ConsumerRight,
        namespace: &str,
        name: &str,
    ) -> Result<(), Problem> {
        let ConsumerRight { verb, resource, subresource } = right;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let access = AccessRequest { verb, resource, subresource, namespace: namespace.clone(), name: name.clone() };
        let Err(problem) = self.access.require(subject, access).await else { return Ok(()) };
        if let Some(audit) = &self.audit
            && problem.code() == ErrorCode::Forbidden
        {
            audit.enqueue(AuditEntry {
                at: self.clock.now().wall,
                kind: AuditKind::Consumer,
                action: right.action(),
                subject: subject.user.clone(),
                rights_profile: None,
                allowed: false,
                namespace,
                connection: name,
                provider: None,
                purpose: None,
                reason: Some(RBAC.to_owned()),
                request_id: None,
                repeats: None,
            });
            return Err(problem.audited());
        }
        Err(problem)
    }

    /// Records an act before it is done: one that cannot be recorded is not done.
    pub(super) async fn record_consumer_act(&self, act: ConsumerAct<'_>) -> Result<(), Problem> {
        let entry = AuditEntry {
            at: self.clock.now().wall,
            kind: AuditKind::Consumer,
            action: act.action.to_owned(),
            subject: act.subject.to_owned(),
            rights_profile: None,
            allowed: true,
            namespace: String::new(),
            connection: act.consumer.to_owned(),
            provider: None,
            purpose: None,
            reason: act.reason,
            request_id: Some(act.request_id),
            repeats: None,
        };
        self.ledger.append_audit(&[entry]).await.map_err(|error| Problem::ledger(&error))
    }

    /// Fails unless `subject` may call the connection: by RBAC, or a consumer by a licence profile that names it.
    pub(in crate::gateway) async fn require_call(
        &self,
        subject: &UserInfo,
        connection: &ObjectKey,
    ) -> Result<(), Problem> {
        if !is_consumer_user(&subject.user) {
            return self.access.require(subject, call_access(connection)).await;
        }
        let settings = self.registry.get(connection).map(|live| live.settings());
        let rights = settings.as_ref().and_then(|settings| settings.rights());
        if rights.is_some_and(|rights| rights.names_user(&subject.user)) { Ok(()) } else { Err(not_for_consumers()) }
    }
}

/// A consumer's name of a path; one that no consumer can have does not exist.
pub(super) fn path_name(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let name = path.ok().map(|Path(name)| name).filter(|name| is_consumer_name(name));
    name.ok_or_else(consumer_not_found)
}

/// The error for a consumer that does not exist.
pub(super) fn consumer_not_found() -> Problem {
    Problem::new(ErrorCode::NotFound, "consumer not found; list the consumers with GET /api/consumers")
}
