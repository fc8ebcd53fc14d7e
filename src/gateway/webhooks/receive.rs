//! `POST /webhooks/{namespace}/{connection}`: something changed at a provider.
//!
//! The caller has no token: the signature takes its place. A connection that does not exist, one that accepts no webhooks
//! and a wrong signature are the same 401. Nothing of a refused webhook is logged or stored.

use std::sync::Arc;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::key::ObjectKey;
use crate::gateway::envelope::Envelope;
use crate::gateway::error_code::ErrorCode;
use crate::gateway::extract::{is_object_name, read_body};
use crate::gateway::problem::Problem;
use crate::gateway::request_label::RequestId;
use crate::gateway::state::Gateway;
use crate::gateway::webhooks::inbox::WebhookInbox;
use crate::gateway::webhooks::rule::{Verified, WebhookRule};
use crate::http_server::Peer;
use crate::ledger::delivery::{NewWebhook, WebhookOutcome};

/// The path of webhooks.
pub const PATH: &str = "/webhooks/{namespace}/{connection}";

/// A webhook that was accepted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WebhookAccepted {
    /// `accepted`: a sync of each job follows. `coalesced`: one follows already. `repeated`: it came before. `ignored`: its
    /// event triggers nothing.
    #[schema(value_type = String)]
    pub result: &'static str,
}

/// Accepts a webhook of a provider. It is stored before it is answered, and triggers one run of each job of the connection.
/// No token: the header that the provider's profile names proves the raw body.
#[utoipa::path(
    post,
    path = PATH,
    operation_id = "receiveWebhook",
    tag = "webhooks",
    params(
        ("namespace" = String, Path, description = "Namespace of the connection"),
        ("connection" = String, Path, description = "Name of the connection"),
    ),
    request_body(content = String, content_type = "application/octet-stream", description = "The body, as the provider signed it"),
    responses((status = 202, description = "The webhook is stored", body = Envelope<WebhookAccepted>))
)]
pub async fn receive(
    State(gateway): State<Arc<Gateway>>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().copied();
    let count = |result: &str| gateway.metrics.webhooks.with_label_values(&[result]).inc();
    // Before it is known whether the connection exists: a body that is too large, or breaks off, is the same error for all.
    let (text, permit) = read_body(&gateway.request_limits, body).await?;
    let target = path.ok().map(|Path((namespace, name))| (namespace, name));
    let target = target.filter(|(namespace, name)| is_object_name(namespace) && is_object_name(name));
    let authentic = match (&gateway.webhooks, target) {
        (Some(inbox), Some((namespace, name))) => {
            let connection = ObjectKey::new(namespace, name);
            let verified = verify(&gateway, inbox, &connection, &parts.headers, &text).await?;
            verified.map(|verified| (inbox, connection, verified))
        }
        _ => None,
    };
    drop((text, permit));
    let Some((inbox, connection, verified)) = authentic else {
        count("unverified");
        return Err(unverified(&gateway, peer));
    };
    let result = match verified {
        Verified::Ignored => "ignored",
        Verified::Stale => {
            count("stale");
            let text = "webhook rejected: its signed time is more than 5 minutes from now, or missing";
            return Err(Problem::new(ErrorCode::Unauthenticated, text));
        }
        Verified::Triggers(replay) => {
            let stored = inbox.store(NewWebhook { connection, correlation_id: request_id, replay }).await;
            match stored {
                Some(WebhookOutcome::Accepted) => "accepted",
                Some(WebhookOutcome::Coalesced) => "coalesced",
                Some(WebhookOutcome::Repeated) => "repeated",
                None => {
                    count("failed");
                    let text = "the webhook could not be stored; retry after Retry-After";
                    return Err(Problem::new(ErrorCode::Unavailable, text));
                }
            }
        }
    };
    count(result);
    Ok(Envelope::accepted(WebhookAccepted { result }).into_response())
}

/// The webhook, if its signature is right. A Secret that may have been rotated is read again before it is refused.
async fn verify(
    gateway: &Gateway,
    inbox: &WebhookInbox,
    connection: &ObjectKey,
    headers: &HeaderMap,
    text: &[u8],
) -> Result<Option<Verified>, Problem> {
    let Some(rule) = rule(inbox, connection, false).await? else { return Ok(None) };
    let Some(presented) = presented(&rule, headers) else { return Ok(None) };
    let rule = if rule.is_authentic(presented, text) {
        rule
    } else {
        match self::rule(inbox, connection, true).await? {
            Some(again) if again.is_authentic(presented, text) => again,
            _ => return Ok(None),
        }
    };
    inbox.rules.verified(connection);
    Ok(Some(rule.verified(connection, text, gateway.clock.now().wall)))
}

async fn rule(inbox: &WebhookInbox, connection: &ObjectKey, refused: bool) -> Result<Option<WebhookRule>, Problem> {
    inbox.rules.rule(connection, refused).await.map_err(|error| {
        tracing::warn!(namespace = %connection.namespace, name = %connection.name, %error, "webhook not verified; responding 503");
        Problem::new(ErrorCode::Unavailable, "the webhook cannot be verified now; retry after Retry-After")
    })
}

/// The value of the rule's header, if it is there once.
fn presented<'a>(rule: &WebhookRule, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let mut values = headers.get_all(rule.header.as_str()).iter();
    let value = values.next().filter(|_| values.next().is_none());
    value.map(axum::http::HeaderValue::as_bytes)
}

/// The error of a webhook that is not verified; its address pays for it.
fn unverified(gateway: &Gateway, peer: Option<Peer>) -> Problem {
    if let Some(Err(wait)) = peer.map(|peer| gateway.rate_limits.check_address(peer.0.ip())) {
        let text = "rate limit exceeded for webhooks without a valid signature from this address; see Retry-After";
        return Problem::new(ErrorCode::RateLimited, text).retry_in(wait);
    }
    let text = "webhook rejected: no connection accepts it with this signature; check its path, header and secret";
    Problem::new(ErrorCode::Unauthenticated, text)
}
