//! Waits until the API server serves our four kinds.
//!
//! CRDs may be applied after the operator starts, or be deleted while it runs; both are waited for, logged once, and
//! never end the process. Discovery needs no RBAC rule.

use std::time::Duration;

use kube::Client;

use crate::domain::key::Kind;

/// Group and version of our kinds, as in discovery.
pub const GROUP_VERSION: &str = "busbar.dev/v1alpha1";

/// How often discovery is repeated while kinds are missing.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The kinds that the API server does not serve now.
pub async fn missing_kinds(client: &Client) -> Result<Vec<Kind>, super::ApiError> {
    let served = match super::call(client.list_api_group_resources(GROUP_VERSION)).await {
        Ok(list) => list.resources,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(Kind::ALL.into_iter().filter(|k| !served.iter().any(|r| r.kind == k.as_str())).collect())
}

/// Returns once all four kinds are served.
pub async fn wait_until_served(client: &Client) {
    let mut log = WaitLog::default();
    loop {
        match missing_kinds(client).await {
            Ok(none) if none.is_empty() => return,
            Ok(some) => log.missing(some),
            Err(error) => log.failed(&error),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Logs what is waited for, each state once.
#[derive(Default)]
struct WaitLog {
    missing: Option<Vec<Kind>>,
    error: Option<String>,
}

impl WaitLog {
    fn missing(&mut self, kinds: Vec<Kind>) {
        let names = kinds.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ");
        match &self.missing {
            None => tracing::warn!("waiting for custom resource definitions: {names} (apply the files in crds/)"),
            // While they are applied, they are served one after another.
            Some(before) if *before != kinds => tracing::info!("still waiting for: {names}"),
            Some(_) => {}
        }
        (self.missing, self.error) = (Some(kinds), None);
    }

    fn failed(&mut self, error: &super::ApiError) {
        let error = error.to_string();
        if self.error.as_ref() != Some(&error) {
            tracing::warn!("waiting for the API server: {error}");
            self.error = Some(error);
        }
    }
}
