//! Clients for the API server, one for each temper.
//!
//! kube's default client retries 429 and 503 up to fifteen times inside one call, for minutes, and never times out a
//! read. Nobody here wants that: a reconcile, and above all the leader lease, must know soon, and a watch that sleeps
//! inside such a call would sleep on when the API server is well again. So no client retries by itself; whoever uses one
//! has its own pauses, and requests other than watches run under a deadline ([`super::call`]).

use std::path::Path;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How long connecting may take, for those who must not wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The clients of one process.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches: the pauses between tries are those of the stores.
    pub watch: Client,
    /// For reconciles: no retry of its own, a reconcile's back-off is the retry.
    pub calls: Client,
    /// For the leader lease alone: no retry, a connection that nothing else can block.
    pub lease: Client,
}

/// The API server's address or our credentials are not usable.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read or does not parse.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Which file.
        path: String,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// Neither a Pod's ServiceAccount nor a kubeconfig was found.
    #[error("no cluster to talk to: give --kubeconfig, or run in a Pod with a ServiceAccount: {0}")]
    Infer(#[source] kube::config::InferConfigError),
    /// The TLS material or the address is unusable.
    #[error("API client: {0}")]
    Build(#[source] kube::Error),
}

impl Clients {
    /// Builds the clients from `kubeconfig`, or from what the environment of the process offers. The API server's logs
    /// name whoever asks after `instance`: replicas share an account, and who of them wrote must be found there.
    pub async fn connect(kubeconfig: Option<&Path>, instance: &str) -> Result<Self, ClientError> {
        let mut config = match kubeconfig {
            Some(path) => {
                let error = |source| ClientError::Kubeconfig { path: path.display().to_string(), source };
                let file = Kubeconfig::read_from(path).map_err(error)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(error)?
            }
            None => Config::infer().await.map_err(ClientError::Infer)?,
        };
        config.headers.extend(user_agent(instance).map(|name| (USER_AGENT, name)));
        let mut watch = config.clone();
        watch.default_retry = false;
        let mut prompt = config;
        prompt.default_retry = false;
        prompt.connect_timeout = Some(CONNECT_TIMEOUT);
        let build = |config: Config| Client::try_from(config).map_err(ClientError::Build);
        Ok(Self { watch: build(watch)?, calls: build(prompt.clone())?, lease: build(prompt)? })
    }
}

/// `busbar/<version> (<instance>)`; none if the instance's name cannot be in a header.
fn user_agent(instance: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("busbar/{} ({instance})", env!("CARGO_PKG_VERSION"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_instance_that_makes_them_if_it_has_a_name_that_a_header_can_carry() {
        let named = user_agent("busbar-0").unwrap();
        assert!(named.to_str().unwrap().starts_with("busbar/") && named.to_str().unwrap().ends_with(" (busbar-0)"));
        assert_eq!(user_agent("two\nlines"), None);
    }
}
