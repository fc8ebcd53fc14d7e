//! A crowd that takes the API server's slots, so that it answers others with 429 by itself.
//!
//! It costs no processor time, for each of the crowd only waits. A reader asks for a list that is newer than anything
//! there is, which the server waits for some seconds before it gives up; a writer announces a body and never sends it.
//! Meant for a server with few slots and without priority and fairness: [`Crowd::SERVER_ARGS`].

use std::time::Duration;

use futures::StreamExt as _;
use tokio::task::JoinSet;

use crate::testbed::control_plane::ControlPlane;
use crate::testbed::trouble::TroubleError;

/// Slots for reading and for writing of [`Crowd::SERVER_ARGS`].
const SLOTS: usize = 12;

/// After a refusal or an error, so that nobody spins.
const AGAIN: Duration = Duration::from_millis(20);

/// A revision that no control plane of a test will ever reach.
const FUTURE: &str =
    "/api/v1/namespaces/default/configmaps?limit=1&resourceVersionMatch=NotOlderThan&resourceVersion=900000000000";

/// A crowd at work; dropping it sends it home.
pub struct Crowd {
    _people: JoinSet<()>,
}

impl Crowd {
    /// Flags for a kube-apiserver that a crowd can fill: few slots, and no queues before them.
    pub const SERVER_ARGS: [&str; 3] =
        ["--enable-priority-and-fairness=false", "--max-requests-inflight=12", "--max-mutating-requests-inflight=12"];

    /// Sends the crowd to the API server of `plane`, as admin, whom the server never refuses.
    pub fn gather(plane: &ControlPlane) -> Result<Self, TroubleError> {
        let (certificate, key) = plane.admin_identity();
        let client = reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tls_certs_only([reqwest::Certificate::from_pem(plane.ca_pem().as_bytes())?])
            .identity(reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes())?)
            .build()?;
        let mut people = JoinSet::new();
        for _ in 0..SLOTS {
            people.spawn(reader(client.clone(), format!("{}{FUTURE}", plane.url())));
            people.spawn(writer(client.clone(), format!("{}/api/v1/namespaces/default/configmaps", plane.url())));
        }
        Ok(Self { _people: people })
    }
}

async fn reader(client: reqwest::Client, url: String) {
    loop {
        if client.get(&url).send().await.is_err() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn writer(client: reqwest::Client, url: String) {
    loop {
        let first = futures::stream::once(async { Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{")) });
        let body = reqwest::Body::wrap_stream(first.chain(futures::stream::pending()));
        drop(client.post(&url).header("content-type", "application/json").body(body).send().await);
        tokio::time::sleep(AGAIN).await;
    }
}
