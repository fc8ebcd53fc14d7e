//! Clients for the API server, one per purpose.
//!
//! kube's default client retries 429 and 503 up to fifteen times inside one call, for minutes, and has no read timeout.
//! That is wrong here: a reconcile, and above all the leader lease, must learn of a failure soon, and a watch that
//! sleeps inside such a call would keep sleeping after the API server has recovered. So no client retries; each user
//! has its own backoff, and requests other than watches have a timeout ([`super::call`]).

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cluster::client_metrics::RequestCounter;
use crate::metrics::{Metrics, MetricsError};

/// Connect timeout of the clients for reconciles and the lease.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The clients of one process.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches, which retry with the reflectors' backoff.
    pub watch: Client,
    /// For reconciles, which retry with the reconcile backoff.
    pub calls: Client,
    /// For the leader lease only: its own connection, which no other request can block.
    pub lease: Client,
}

/// The clients cannot be built from the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read or does not parse.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// The cause.
        source: kube::config::KubeconfigError,
    },
    /// Neither a Pod's ServiceAccount nor a kubeconfig was found.
    #[error("no cluster configured: set --kubeconfig, or run in a Pod with a ServiceAccount: {0}")]
    Infer(#[source] kube::config::InferConfigError),
    /// The TLS material or the address is unusable.
    #[error("API server client: {0}")]
    Build(#[source] kube::Error),
    /// The counter of requests is registered already.
    #[error("API server client: {0}")]
    Metrics(#[from] MetricsError),
}

impl Clients {
    /// Builds the clients from `kubeconfig`, or else from the process's environment; their requests are counted in
    /// `metrics`. `instance` is part of the user agent: replicas share a ServiceAccount, and the API server's audit log
    /// must show which of them made a request.
    pub async fn connect(kubeconfig: Option<&Path>, instance: &str, metrics: &Metrics) -> Result<Self, ClientError> {
        let config = match kubeconfig {
            Some(path) => {
                let error = |source| ClientError::Kubeconfig { path: path.display().to_string(), source };
                let file = Kubeconfig::read_from(path).map_err(error)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(error)?
            }
            None => Config::infer().await.map_err(ClientError::Infer)?,
        };
        Self::from_config(config, instance, metrics)
    }

    /// Builds the clients; sends nothing.
    pub fn from_config(mut config: Config, instance: &str, metrics: &Metrics) -> Result<Self, ClientError> {
        let counter = RequestCounter::new(metrics, &config.cluster_url)?;
        config.headers.extend(user_agent(instance).map(|name| (USER_AGENT, name)));
        let mut watch = config.clone();
        watch.default_retry = false;
        let mut short = config;
        short.default_retry = false;
        short.connect_timeout = Some(CONNECT_TIMEOUT);
        let build = |config: Config| -> Result<Client, ClientError> {
            Ok(ClientBuilder::try_from(config).map_err(ClientError::Build)?.with_layer(&counter).build())
        };
        Ok(Self { watch: build(watch)?, calls: build(short.clone())?, lease: build(short)? })
    }
}

/// `busbar/<version> (<instance>)`; `None` if the instance's name is not a valid header value.
fn user_agent(instance: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("busbar/{} ({instance})", env!("CARGO_PKG_VERSION"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_the_instance_if_it_is_a_valid_header_value() {
        let named = user_agent("busbar-0").unwrap();
        assert!(named.to_str().unwrap().starts_with("busbar/") && named.to_str().unwrap().ends_with(" (busbar-0)"));
        assert_eq!(user_agent("two\nlines"), None);
    }
}
