//! Waits until a component of the control plane is ready.

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use crate::testbed::control_plane::component::Component;
use crate::testbed::control_plane::error::ControlPlaneError;
use crate::testbed::control_plane::ports::Ports;
use crate::testbed::control_plane::process::Process;

/// Interval of the readiness probe.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Timeout of one probe: a server that is starting may accept a connection and not answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Log lines that an error shows.
const LOG_TAIL: usize = 15;

/// Waits until the component is ready, has exited, or `timeout` has passed.
pub(crate) async fn wait_ready(
    component: Component,
    process: &mut Process,
    ports: Ports,
    config: &kube::Config,
    timeout: Duration,
) -> Result<(), ControlPlaneError> {
    let mut last = String::from("not probed yet");
    let poll = async {
        let client = Client::try_from(config.clone()).map_err(ControlPlaneError::api("create a client"))?;
        loop {
            if let Some(status) = process.exited() {
                return Err(ControlPlaneError::Exited {
                    component,
                    status: status.to_string(),
                    log_tail: process.log_tail(LOG_TAIL),
                });
            }
            match tokio::time::timeout(PROBE_TIMEOUT, probe(component, ports, &client)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(cause)) => last = cause,
                Err(_) => last = format!("no response within {PROBE_TIMEOUT:?}"),
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    match tokio::time::timeout(timeout, poll).await {
        Ok(result) => result,
        Err(_) => Err(ControlPlaneError::NotReady { component, timeout, last, log_tail: process.log_tail(LOG_TAIL) }),
    }
}

/// One readiness probe; the error is for a person.
async fn probe(component: Component, ports: Ports, client: &Client) -> Result<(), String> {
    match component {
        Component::Etcd => get_ok(&ports.etcd_url(), "/health").await,
        Component::ApiServer => {
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
            client.request_text(request).await.map(drop).map_err(|error| error.to_string())
        }
        Component::ControllerManager => {
            get_ok(&format!("https://127.0.0.1:{}", ports.controller_manager), "/healthz").await?;
            // Healthy does not mean that the controllers run: the first object they create is this ServiceAccount.
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
            accounts.get("default").await.map(drop).map_err(|error| error.to_string())
        }
    }
}

async fn get_ok(base: &str, path: &str) -> Result<(), String> {
    let http = plain_http().map_err(|error| error.to_string())?;
    let response = http.get(format!("{base}{path}")).send().await.map_err(|error| error.to_string())?;
    if response.status().is_success() { Ok(()) } else { Err(format!("{path} returned {}", response.status())) }
}

/// An HTTP client for health checks on loopback, without proxy and with a timeout. It accepts any certificate, because
/// the controller-manager's is self-signed; no secret is sent or received.
pub(crate) fn plain_http() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).timeout(Duration::from_secs(10)).build()
}
