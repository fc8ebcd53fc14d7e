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
    let mut said = Said::default();
    loop {
        match missing(client).await {
            Ok(none) if none.is_empty() => return,
            Ok(some) => said.missing(some),
            Err(error) => said.trouble(&error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What was said while waiting: each thing once.
#[derive(Default)]
struct Said {
    missing: Option<Vec<Kind>>,
    trouble: Option<String>,
}

impl Said {
    fn missing(&mut self, kinds: Vec<Kind>) {
        let names = kinds.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(", ");
        match &self.missing {
            None => tracing::warn!("waiting for custom resource definitions: {names} (apply the files in crds/)"),
            // Served one after another while they are applied.
            Some(before) if *before != kinds => tracing::info!("still missing: {names}"),
            Some(_) => {}
        }
        (self.missing, self.trouble) = (Some(kinds), None);
    }

    fn trouble(&mut self, error: &super::ApiError) {
        let error = error.to_string();
        if self.trouble.as_ref() != Some(&error) {
            tracing::warn!("waiting for the API server: {error}");
            self.trouble = Some(error);
        }
    }
}
