//! SIGTERM while a token refresh is under way.

use serde_json::json;

use super::access::key_folder;
use super::{ConnectionEnv, is};
use crate::kit::objects::connection;
use crate::kit::token_server::TokenServer;
use crate::kit::wait::PATIENCE;

#[tokio::test]
async fn a_refresh_token_rotated_during_sigterm_is_stored() {
    let mut env = ConnectionEnv::with_flags("refresh-sigterm", |ns| vec![key_folder(ns.plane(), ns.name())]).await;
    let (client_secret, refresh_token) = (env.ns.canary("client"), env.ns.canary("refresh"));
    let entries = [
        ("client-id", "busbar".as_bytes()),
        ("client-secret", client_secret.as_bytes()),
        ("refresh-token", refresh_token.as_bytes()),
    ];
    env.ns.secret("grant", &entries).await;
    let server = TokenServer::start(&refresh_token, 6).await;
    let auth = json!({"oauth2RefreshToken": {"tokenURL": server.token_url(), "secretRef": {"name": "grant"}}});
    // The operator waits for a request as long as the request may take.
    let timeout = json!({"connect": "1s", "request": "15s", "total": "15s"});
    env.put(&connection("bank", &server.url(), json!({"auth": auth, "timeout": timeout}))).await;
    env.until_verified("bank").await;

    server.hold();
    let count = server.sent().len() + 1;
    server.arrived(count).await;
    // The provider has spent the token that it was sent; its successor is in the answer that it holds.
    env.operator.begin_sigterm().await;
    server.release();
    let status = env.operator.wait_exit(PATIENCE).await;
    assert!(status.success(), "{status}; log:\n{}", env.operator.log_tail());

    env.operator.restart().await;
    server.arrived(count + 1).await;
    let sent = server.sent();
    assert_eq!(sent[count], format!("canary-rotated-{count}"), "the first token after the restart");
    assert!(is(&env.latest("bank"), "Authenticated", "True", "CredentialAccepted"));
    env.finish().await;
}
