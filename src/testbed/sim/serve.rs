//! Handles one request: evaluates the script, builds the response, logs the request, and applies the scripted
//! behaviour.
//!
//! This is the hot path of load tests. A healthy request takes no lock for the script, one read lock for the
//! credentials and one short lock for the log, and does not allocate here.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::domain::time::Mono;
use crate::testbed::sim::abortable_stream::AbortSwitch;
use crate::testbed::sim::arrivals::NewArrival;
use crate::testbed::sim::auth::CredentialResult;
use crate::testbed::sim::bank::{Bank, lock};
use crate::testbed::sim::counters::increment;
use crate::testbed::sim::engine::{RequestInfo, ResponsePlan};
use crate::testbed::sim::reply::Reply;
use crate::testbed::sim::response_body::{AbortedByScript, ScriptedBody, Truncation};
use crate::testbed::sim::script::{Behaviour, FailurePoint, Garbage};
use crate::testbed::sim::{finastra, mono, oauth, payouts};

/// Maximum size of a token request, which has a few short fields.
const MAX_FORM: usize = 64 * 1024;

/// The context of one connection.
pub(crate) struct ConnectionContext {
    pub(crate) bank: Arc<Bank>,
    pub(crate) abort: Arc<AbortSwitch>,
    pub(crate) connection: u64,
    pub(crate) tls: bool,
}

/// Responds to one request.
pub(crate) async fn respond(
    context: Arc<ConnectionContext>,
    request: Request<Incoming>,
) -> Result<Response<ScriptedBody>, AbortedByScript> {
    let bank = &context.bank;
    let at = bank.clock.mono();
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query());
    let (label, bare) = split_label(path);
    let is_token = oauth::is_token_path(bare);
    let info = RequestInfo { method: head.method.as_str(), path, is_token };
    let plan = bank.engine().map_or(ResponsePlan::HEALTHY, |mut engine| engine.on_request(at, info));
    let mut auth = CredentialResult::Open;
    let reply = match scripted_reply(plan.behaviour()) {
        Some(reply) => reply,
        None if is_token => token_reply(bank, &head.method, &head.headers, body, at).await,
        None => {
            if !bank.config.open_paths.iter().any(|p| bare.starts_with(p.as_str())) {
                auth = bank.credential_check().check(&head.headers, query, at, &bank.tokens);
            }
            if auth.is_accepted()
                && let Some(rest) = payouts::below(bare)
            {
                payouts::respond(bank, &head.method, &head.headers, rest, body).await
            } else if auth.is_accepted() {
                let target = RegularRequest { bank, method: &head.method, label, path: bare, query, tls: context.tls };
                target.reply(head.headers.get(header::HOST))
            } else {
                unauthorized(auth)
            }
        }
    };
    let no_response = matches!(
        plan.behaviour(),
        Behaviour::Stall(FailurePoint::BeforeHead) | Behaviour::Reset(FailurePoint::BeforeHead) | Behaviour::Down(_)
    );
    let status = (!no_response).then_some(reply.status);
    lock(&bank.arrivals).push(NewArrival {
        at,
        method: &head.method,
        path,
        query,
        status,
        behaviour: plan.behaviour().label(),
        auth: auth.as_str(),
        connection: context.connection,
        tls: context.tls,
    });
    bank.counters.record(status);
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    deliver(plan.behaviour(), reply, &context.abort).await
}

/// Splits `/c/{label}/rest` into label prefix and `/rest`.
fn split_label(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix("/c/").and_then(|labelled| labelled.find('/').and_then(|i| labelled.get(i..)));
    match rest {
        Some(rest) => (path.strip_suffix(rest).unwrap_or_default(), rest),
        None => ("", path),
    }
}

/// The response of a behaviour that does not depend on the request.
fn scripted_reply(behaviour: &Behaviour) -> Option<Reply> {
    match behaviour {
        Behaviour::Status { code, headers, body } => {
            let mut reply = match body {
                Some(body) => Reply { body: Bytes::from(body.clone()), ..Reply::fixed(*code, "") },
                None => Reply::fixed(*code, r#"{"status":"failed","message":"simulated failure"}"#),
            };
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) = (name.parse(), HeaderValue::try_from(value.as_str())) {
                    reply.headers.push((name, value));
                }
            }
            Some(reply)
        }
        Behaviour::Garbage(Garbage::Html) => Some(Reply {
            content_type: "text/html; charset=utf-8",
            ..Reply::fixed(200, "<!DOCTYPE html><html><body><h1>Scheduled maintenance</h1></body></html>")
        }),
        Behaviour::Garbage(Garbage::InvalidJson) => Some(Reply::fixed(200, r#"{"status":"successful","data":[{"id":"#)),
        Behaviour::Garbage(Garbage::Empty)
        | Behaviour::Down(_)
        | Behaviour::Stall(FailurePoint::BeforeHead)
        | Behaviour::Reset(FailurePoint::BeforeHead) => Some(Reply::fixed(200, "")),
        Behaviour::Healthy
        | Behaviour::Dribble { .. }
        | Behaviour::Stall(FailurePoint::AfterHead)
        | Behaviour::Reset(FailurePoint::AfterHead)
        | Behaviour::Truncate { .. }
        | Behaviour::Garbage(Garbage::ContentType) => None,
    }
}

/// Sends `reply` as `behaviour` requires.
async fn deliver(
    behaviour: &Behaviour,
    reply: Reply,
    abort: &Arc<AbortSwitch>,
) -> Result<Response<ScriptedBody>, AbortedByScript> {
    let Reply { status, mut content_type, body: data, headers } = reply;
    let half = data.len() / 2;
    let body = match behaviour {
        Behaviour::Stall(FailurePoint::BeforeHead) => std::future::pending().await,
        Behaviour::Reset(FailurePoint::BeforeHead) => {
            abort.reset();
            return Err(AbortedByScript);
        }
        Behaviour::Down(_) => {
            abort.close();
            return Err(AbortedByScript);
        }
        Behaviour::Dribble { bytes, every_ms } => ScriptedBody::dribble(data, *bytes, Duration::from_millis(*every_ms)),
        Behaviour::Stall(FailurePoint::AfterHead) => {
            ScriptedBody::truncated(&data, half, Truncation::Stall, abort.clone())
        }
        Behaviour::Reset(FailurePoint::AfterHead) => {
            ScriptedBody::truncated(&data, half, Truncation::Reset, abort.clone())
        }
        Behaviour::Truncate { percent } => {
            let sent = data.len() * usize::from(*percent) / 100;
            ScriptedBody::truncated(&data, sent, Truncation::Close, abort.clone())
        }
        Behaviour::Garbage(Garbage::ContentType) => {
            content_type = "text/plain";
            ScriptedBody::complete(data)
        }
        Behaviour::Garbage(_) | Behaviour::Healthy | Behaviour::Status { .. } => ScriptedBody::complete(data),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        // Inserted, not appended: a script may override the content type.
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

fn unauthorized(result: CredentialResult) -> Reply {
    let body = match result {
        CredentialResult::Missing => r#"{"status":"failed","message":"credentials missing"}"#,
        CredentialResult::Expired => r#"{"status":"failed","message":"token expired"}"#,
        _ => r#"{"status":"failed","message":"credentials invalid"}"#,
    };
    Reply::fixed(401, body).with(header::WWW_AUTHENTICATE, r#"Bearer realm="busbar-sim""#)
}

async fn token_reply(bank: &Bank, method: &Method, headers: &HeaderMap, body: Incoming, at: Mono) -> Reply {
    if method != Method::POST {
        return Reply::fixed(405, r#"{"error":"invalid_request"}"#);
    }
    let Ok(form) = axum::body::to_bytes(axum::body::Body::new(body), MAX_FORM).await else {
        return Reply::fixed(400, r#"{"error":"invalid_request"}"#);
    };
    let reply = oauth::respond(&bank.credential_check(), headers, &form, at, &bank.tokens);
    increment(if reply.status == 200 { &bank.counters.tokens_issued } else { &bank.counters.tokens_refused });
    reply
}

/// A request that gets a regular response.
struct RegularRequest<'a> {
    bank: &'a Bank,
    method: &'a Method,
    label: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    tls: bool,
}

impl RegularRequest<'_> {
    fn reply(&self, host: Option<&HeaderValue>) -> Reply {
        if *self.method != Method::GET && *self.method != Method::HEAD {
            return Reply::fixed(405, r#"{"status":"failed","message":"method not allowed"}"#);
        }
        if self.path == self.bank.config.health_path {
            return Reply::fixed(200, r#"{"status":"ok"}"#);
        }
        if let Some(body) = self.bank.config.canned.get(self.path) {
            return Reply { body: Bytes::from(body.clone()), ..Reply::fixed(200, "") };
        }
        if let Some(rest) = self.path.strip_prefix(finastra::COLLATERALS) {
            let (total, seed) = (self.bank.config.collaterals, self.bank.config.seed);
            return match rest.strip_prefix('/') {
                Some(id) => finastra::item_by_id(total, seed, id),
                None => finastra::list(total, seed, self.query),
            };
        }
        match self.path.strip_prefix("/v2/accounts") {
            Some(rest) => self.mono(rest, host),
            None => Reply::fixed(404, r#"{"status":"failed","message":"not found"}"#),
        }
    }

    fn mono(&self, rest: &str, host: Option<&HeaderValue>) -> Reply {
        let host = host.and_then(|h| h.to_str().ok()).map_or_else(|| self.bank.address.to_string(), str::to_owned);
        let base = format!("{}://{host}{}", if self.tls { "https" } else { "http" }, self.label);
        let request = mono::MonoRequest { query: self.query, base: &base, now: self.bank.clock.now().wall };
        let accounts = self.bank.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if rest.is_empty() {
            return mono::accounts(accounts.values().map(|a| &a.config), &request);
        }
        let (id, rest) = rest.strip_prefix('/').map_or(("", ""), |r| r.split_once('/').unwrap_or((r, "")));
        match (accounts.get(id), rest) {
            (None, _) => Reply::failed(404, "account not found"),
            (Some(account), "") => mono::account(&account.config, &request),
            (Some(account), "transactions") => mono::transactions(account, &self.bank.config.mono, &request),
            (Some(_), _) => Reply::failed(404, "not found"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split_label;

    #[test]
    fn only_a_label_prefix_is_split_off() {
        assert_eq!(split_label("/c/0042/v2/accounts"), ("/c/0042", "/v2/accounts"));
        assert_eq!(split_label("/c/0042"), ("", "/c/0042"));
        assert_eq!(split_label("/v2/c/x"), ("", "/v2/c/x"));
    }
}
