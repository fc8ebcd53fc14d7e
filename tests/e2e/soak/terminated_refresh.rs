//! SIGTERM while a provider rotates a refresh token: its successor is used after the restart.

use std::sync::Arc;

use busbar::testbed::control_plane::ControlPlane;
use serde_json::json;

use super::random::SoakEnv;
use crate::kit::objects::connection;
use crate::kit::token_server::TokenServer;
use crate::kit::wait::PATIENCE;

/// The connection that exists meanwhile.
const NAME: &str = "refreshing";

/// The flag that names a folder with one key, which refresh tokens require.
pub(super) fn key_flag(plane: &Arc<ControlPlane>) -> String {
    let folder = plane.run_dir().path().join("keys-soak");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("2026-11-22"), [5; 32]).expect("a key");
    format!("--key-secret={}", folder.display())
}

/// Terminates the operator while the token endpoint of a new connection holds its answer, and starts it again.
pub(super) async fn terminated_during_refresh(env: &mut SoakEnv) {
    let (client_secret, refresh_token) = (env.ns.canary("client"), env.ns.canary("refresh"));
    let entries = [
        ("client-id", "busbar".as_bytes()),
        ("client-secret", client_secret.as_bytes()),
        ("refresh-token", refresh_token.as_bytes()),
    ];
    env.ns.secret(NAME, &entries).await;
    let server = TokenServer::start(&refresh_token, 6).await;
    let auth = json!({"oauth2RefreshToken": {"tokenURL": server.token_url(), "secretRef": {"name": NAME}}});
    let timeout = json!({"connect": "1s", "request": "15s", "total": "15s"});
    env.put(&connection(NAME, &server.url(), json!({"auth": auth, "timeout": timeout}))).await;
    server.arrived(1).await;

    server.hold();
    let count = server.sent().len() + 1;
    server.arrived(count).await;
    env.operator.begin_sigterm().await;
    server.release();
    let status = env.operator.wait_exit(PATIENCE).await;
    assert!(status.success(), "{status}\n{}", env.operator.log_tail());
    env.operator.restart().await;
    server.arrived(count + 1).await;
    assert_eq!(server.sent()[count], format!("canary-rotated-{count}"), "the first token after the restart");
    env.delete("ProviderConnection", NAME).await;
}
