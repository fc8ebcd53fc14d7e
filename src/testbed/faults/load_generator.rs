//! A load generator that occupies the API server's request slots, so that the server rejects other requests with 429.
//!
//! It costs no CPU time, because its requests only wait. A reader lists at a resource version in the future, for which
//! the server waits some seconds before it gives up; a writer announces a body and never sends it. For a server with
//! few slots and without priority and fairness: [`LoadGenerator::SERVER_ARGS`].

use std::time::Duration;

use futures::StreamExt as _;
use tokio::task::JoinSet;

use crate::testbed::control_plane::ControlPlane;
use crate::testbed::faults::error::FaultError;

/// Read slots, and write slots, of [`LoadGenerator::SERVER_ARGS`].
const SLOTS: usize = 12;

/// Delay after a rejection or an error, to avoid a busy loop.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// A list at a resource version that no control plane of a test reaches.
const FUTURE_LIST: &str =
    "/api/v1/namespaces/default/configmaps?limit=1&resourceVersionMatch=NotOlderThan&resourceVersion=900000000000";

/// A running load generator. Dropping it stops it.
pub struct LoadGenerator {
    _workers: JoinSet<()>,
}

impl LoadGenerator {
    /// Flags for a kube-apiserver that can be saturated: few slots, and no queues.
    pub const SERVER_ARGS: [&str; 3] =
        ["--enable-priority-and-fairness=false", "--max-requests-inflight=12", "--max-mutating-requests-inflight=12"];

    /// Starts to send requests to the API server of `plane`, as admin, which the authorizer always allows.
    pub fn start(plane: &ControlPlane) -> Result<Self, FaultError> {
        let (certificate, key) = plane.admin_identity();
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([reqwest::Certificate::from_pem(plane.ca_pem().as_bytes())?])
            .identity(reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes())?)
            .build()?;
        let mut workers = JoinSet::new();
        for _ in 0..SLOTS {
            workers.spawn(reader(client.clone(), format!("{}{FUTURE_LIST}", plane.url())));
            workers.spawn(writer(client.clone(), format!("{}/api/v1/namespaces/default/configmaps", plane.url())));
        }
        Ok(Self { _workers: workers })
    }
}

async fn reader(client: reqwest::Client, url: String) {
    loop {
        if client.get(&url).send().await.is_err() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}

async fn writer(client: reqwest::Client, url: String) {
    loop {
        let first = futures::stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{")) });
        let body = reqwest::Body::wrap_stream(first.chain(futures::stream::pending()));
        drop(client.post(&url).header("content-type", "application/json").body(body).send().await);
        tokio::time::sleep(RETRY_DELAY).await;
    }
}
