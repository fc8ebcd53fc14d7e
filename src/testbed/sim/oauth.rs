//! The token endpoint: client credentials in the form or as Basic (RFC 6749 §4.4 and §2.3.1), and refresh tokens.

use axum::body::Bytes;
use http::{HeaderMap, header};
use serde::Serialize;

use crate::domain::time::Mono;
use crate::testbed::sim::auth::{CredentialCheck, IssuedTokens, basic};
use crate::testbed::sim::reply::{Reply, param};

/// Path of the token endpoint; Finastra's `/login/v1/{tenant}/oidc/token` works too.
pub(crate) const TOKEN_PATH: &str = "/oauth/token";

/// Whether `path` is that of the token endpoint.
pub(crate) fn is_token_path(path: &str) -> bool {
    path == TOKEN_PATH
        || path.strip_prefix("/login/v1/").and_then(|p| p.split_once('/')).is_some_and(|(_, p)| p == "oidc/token")
}

#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// Responds to one token request.
pub(crate) fn respond(
    check: &CredentialCheck,
    headers: &HeaderMap,
    form: &Bytes,
    now: Mono,
    tokens: &IssuedTokens,
) -> Reply {
    let CredentialCheck::Issued { client_id, client_secret, lifetime, refresh_token } = check else {
        return Reply::fixed(404, r#"{"error":"invalid_request","error_description":"this bank issues no tokens"}"#);
    };
    let form = std::str::from_utf8(form).ok();
    let field = |name: &str| param(form, name);
    let grant = if refresh_token.is_some() { "refresh_token" } else { "client_credentials" };
    if field("grant_type").as_deref() != Some(grant) {
        return Reply::fixed(400, r#"{"error":"unsupported_grant_type"}"#);
    }
    let authenticated = match headers.get(header::AUTHORIZATION) {
        Some(sent) => sent.as_bytes() == basic(&form_encoded(client_id), &form_encoded(client_secret)).as_bytes(),
        None => {
            field("client_id").as_ref() == Some(client_id) && field("client_secret").as_ref() == Some(client_secret)
        }
    };
    if !authenticated {
        return Reply::fixed(401, r#"{"error":"invalid_client"}"#).with(header::WWW_AUTHENTICATE, "Basic");
    }
    let rotated = match refresh_token {
        None => None,
        Some(initial) => match tokens.rotate(initial, &field("refresh_token").unwrap_or_default()) {
            Some(next) => Some(next),
            None => return Reply::fixed(400, r#"{"error":"invalid_grant"}"#),
        },
    };
    let token = tokens.issue(now, *lifetime);
    let response = TokenResponse {
        access_token: &token,
        token_type: "Bearer",
        expires_in: lifetime.as_secs(),
        scope: "openid",
        refresh_token: rotated,
    };
    Reply::json(200, &response).with(header::CACHE_CONTROL, "no-store")
}

/// Form encoding, which RFC 6749 §2.3.1 requires for id and secret in Basic.
fn form_encoded(text: &str) -> String {
    const UNESCAPED: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b' ');
    percent_encoding::utf8_percent_encode(text, &UNESCAPED).to_string().replace(' ', "+")
}
