//! One request at a bank: what the script says, the true answer, the log, and then the answer as the script wants it.
//!
//! This is the load target. A healthy check costs no lock for the script, one read lock for the credentials, one short
//! lock for the log and no allocation of ours.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;

use axum::body::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::domain::time::Mono;
use crate::testbed::sim::arrivals::{Seen, bump};
use crate::testbed::sim::auth::Verdict;
use crate::testbed::sim::bank::{Bank, lock};
use crate::testbed::sim::body::{CutByScript, End, SimBody};
use crate::testbed::sim::engine::{Ask, Play};
use crate::testbed::sim::reply::Reply;
use crate::testbed::sim::script::{Behaviour, Garbage, Moment};
use crate::testbed::sim::wire::Cut;
use crate::testbed::sim::{finastra, mono, oauth};

/// A token request is a handful of short fields.
const FORM_CAP: usize = 64 * 1024;

/// One connection's visit to a bank.
pub(crate) struct Visit {
    pub(crate) bank: Arc<Bank>,
    pub(crate) cut: Arc<Cut>,
    pub(crate) connection: u64,
    pub(crate) tls: bool,
}

/// Answers one request.
pub(crate) async fn answer(visit: Arc<Visit>, request: Request<Incoming>) -> Result<Response<SimBody>, CutByScript> {
    let bank = &visit.bank;
    let at = bank.clock.mono();
    let (head, body) = request.into_parts();
    let (path, query) = (head.uri.path(), head.uri.query());
    let (label, bare) = unlabel(path);
    let token = oauth::is_token_path(bare);
    let play = bank
        .playing()
        .map_or(Play::HEALTHY, |mut engine| engine.on_request(at, Ask { method: head.method.as_str(), path, token }));
    let mut auth = Verdict::Open;
    let reply = match said_by_script(play.behaviour()) {
        Some(reply) => reply,
        None if token => token_reply(bank, &head.method, &head.headers, body, at).await,
        None => {
            if !bank.config.open_paths.iter().any(|p| bare.starts_with(p.as_str())) {
                auth = bank.guard().check(&head.headers, query, at, &bank.tokens);
            }
            if auth.admits() {
                let question = Question { bank, method: &head.method, label, path: bare, query, tls: visit.tls };
                question.reply(head.headers.get(header::HOST))
            } else {
                unauthorized(auth)
            }
        }
    };
    let silent = matches!(
        play.behaviour(),
        Behaviour::Stall(Moment::BeforeHead) | Behaviour::Reset(Moment::BeforeHead) | Behaviour::Down(_)
    );
    let status = (!silent).then_some(reply.status);
    lock(&bank.ring).push(Seen {
        at,
        method: &head.method,
        path,
        query,
        status,
        behaviour: play.behaviour().label(),
        auth: auth.as_str(),
        connection: visit.connection,
        tls: visit.tls,
    });
    bank.counters.answered(status);
    if !play.delay.is_zero() {
        tokio::time::sleep(play.delay).await;
    }
    deliver(play.behaviour(), reply, &visit.cut).await
}

/// `/c/{label}/rest` is `/rest` for one of many connections that share this bank.
fn unlabel(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix("/c/").and_then(|labelled| labelled.find('/').and_then(|i| labelled.get(i..)));
    match rest {
        Some(rest) => (path.strip_suffix(rest).unwrap_or_default(), rest),
        None => ("", path),
    }
}

/// An answer that does not depend on the question.
fn said_by_script(behaviour: &Behaviour) -> Option<Reply> {
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
        Behaviour::Garbage(Garbage::Empty) => Some(Reply::fixed(200, "")),
        Behaviour::Down(_) | Behaviour::Stall(Moment::BeforeHead) | Behaviour::Reset(Moment::BeforeHead) => {
            Some(Reply::fixed(200, ""))
        }
        Behaviour::Healthy
        | Behaviour::Dribble { .. }
        | Behaviour::Stall(Moment::AfterHead)
        | Behaviour::Reset(Moment::AfterHead)
        | Behaviour::Truncate { .. }
        | Behaviour::Garbage(Garbage::ContentType) => None,
    }
}

async fn deliver(behaviour: &Behaviour, reply: Reply, cut: &Arc<Cut>) -> Result<Response<SimBody>, CutByScript> {
    let Reply { status, mut content_type, body: data, headers } = reply;
    let half = data.len() / 2;
    let body = match behaviour {
        Behaviour::Stall(Moment::BeforeHead) => std::future::pending().await,
        Behaviour::Reset(Moment::BeforeHead) => {
            cut.reset();
            return Err(CutByScript);
        }
        Behaviour::Down(_) => {
            cut.close();
            return Err(CutByScript);
        }
        Behaviour::Dribble { bytes, every_ms } => SimBody::dribble(data, *bytes, Duration::from_millis(*every_ms)),
        Behaviour::Stall(Moment::AfterHead) => SimBody::part(&data, half, End::Never, cut.clone()),
        Behaviour::Reset(Moment::AfterHead) => SimBody::part(&data, half, End::Reset, cut.clone()),
        Behaviour::Truncate { percent } => {
            let sent = data.len() * usize::from(*percent) / 100;
            SimBody::part(&data, sent, End::Close, cut.clone())
        }
        Behaviour::Garbage(Garbage::ContentType) => {
            content_type = "text/plain";
            SimBody::whole(data)
        }
        Behaviour::Garbage(_) | Behaviour::Healthy | Behaviour::Status { .. } => SimBody::whole(data),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        // Inserted, not appended: a script may name another content type.
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

fn unauthorized(verdict: Verdict) -> Reply {
    let body = match verdict {
        Verdict::Missing => r#"{"status":"failed","message":"credentials are missing"}"#,
        Verdict::Expired => r#"{"status":"failed","message":"the token has expired"}"#,
        _ => r#"{"status":"failed","message":"credentials are not accepted"}"#,
    };
    Reply::fixed(401, body).with(header::WWW_AUTHENTICATE, r#"Bearer realm="busbar-sim""#)
}

async fn token_reply(bank: &Bank, method: &Method, headers: &HeaderMap, body: Incoming, at: Mono) -> Reply {
    if method != Method::POST {
        return Reply::fixed(405, r#"{"error":"invalid_request"}"#);
    }
    let Ok(form) = axum::body::to_bytes(axum::body::Body::new(body), FORM_CAP).await else {
        return Reply::fixed(400, r#"{"error":"invalid_request"}"#);
    };
    let reply = oauth::answer(&bank.guard(), headers, &form, at, &bank.tokens);
    bump(if reply.status == 200 { &bank.counters.tokens_issued } else { &bank.counters.tokens_refused });
    reply
}

struct Question<'a> {
    bank: &'a Bank,
    method: &'a Method,
    label: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    tls: bool,
}

impl Question<'_> {
    fn reply(&self, host: Option<&HeaderValue>) -> Reply {
        if *self.method != Method::GET && *self.method != Method::HEAD {
            return Reply::fixed(405, r#"{"status":"failed","message":"only GET is simulated here"}"#);
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
                Some(id) => finastra::one(total, seed, id),
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
        let asked = mono::Asked { query: self.query, base: &base, now: self.bank.clock.now().wall };
        let accounts = self.bank.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if rest.is_empty() {
            return mono::accounts(accounts.values().map(|a| &a.config), &asked);
        }
        let (id, rest) = rest.strip_prefix('/').map_or(("", ""), |r| r.split_once('/').unwrap_or((r, "")));
        match (accounts.get(id), rest) {
            (None, _) => Reply::failed(404, "account not found"),
            (Some(account), "") => mono::account(&account.config, &asked),
            (Some(account), "transactions") => mono::transactions(account, &self.bank.config.mono, &asked),
            (Some(_), _) => Reply::failed(404, "not found"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unlabel;

    #[test]
    fn a_label_is_taken_off_and_nothing_else_is() {
        assert_eq!(unlabel("/c/0042/v2/accounts"), ("/c/0042", "/v2/accounts"));
        assert_eq!(unlabel("/c/0042"), ("", "/c/0042"));
        assert_eq!(unlabel("/v2/c/x"), ("", "/v2/c/x"));
    }
}
