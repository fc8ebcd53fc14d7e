//! Waits until the API server serves our four kinds.
//!
//! CRDs may be applied after the operator, or be deleted under it; both are waited out, said once, and never end the
//! process. Discovery needs no right of ours.

use std::time::Duration;

use kube::Client;

use crate::domain::key::Kind;

/// Group and version of our kinds, as discovery names them.
pub const GROUP_VERSION: &str = "busbar.dev/v1alpha1";

/// How often to look while kinds are missing.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Which of our kinds the API server does not serve now.
pub async fn missing(client: &Client) -> Result<Vec<Kind>, super::ApiError> {
    let served = match super::call(client.list_api_group_resources(GROUP_VERSION)).await {
        Ok(list) => list.resources,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Kind::ALL.into_iter().filter(|k| !served.iter().any(|r| r.kind == k.as_str())).collect())
}

/// Returns once all four kinds are served.
pub async fn wait_until_served(client: &Client) {
    let mut said: Option<String> = None;
    loop {
        let state = match missing(client).await {
            Ok(none) if none.is_empty() => return,
            Ok(some) => {
                let kinds: Vec<_> = some.iter().map(|k| k.as_str()).collect();
                format!("waiting for custom resource definitions: {} (apply the files in crds/)", kinds.join(", "))
            }
            Err(error) => format!("waiting for the API server: {error}"),
        };
        if said.as_ref() != Some(&state) {
            tracing::warn!("{state}");
            said = Some(state);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
