//! The probes of a container.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use busbar::domain::time::Mono;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::container::exec;
use super::process::ContainerProcess;

/// The result of a probe whose threshold is reached.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Success,
    Failure,
}

/// One probe of one container, since the start of its process.
pub(super) struct Prober {
    probe: Probe,
    next: Mono,
    successes: i32,
    failures: i32,
    running: Option<AbortOnDropHandle<bool>>,
}

/// The container that is probed.
pub(super) struct Target<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) process: &'a ContainerProcess,
    pub(super) ip: &'a str,
}

impl Prober {
    /// A probe of a container that has started now.
    pub(super) fn new(probe: &Probe, now: Mono) -> Self {
        let next = now + seconds(probe.initial_delay_seconds, 0);
        Self { probe: probe.clone(), next, successes: 0, failures: 0, running: None }
    }

    /// Sends the probe when it is due; returns the outcome when a threshold is reached.
    pub(super) fn poll(&mut self, now: Mono, target: &Target<'_>) -> Option<Outcome> {
        if let Some(running) = &mut self.running {
            // A probe that panicked has failed.
            let good = running.now_or_never()?.unwrap_or(false);
            self.running = None;
            return self.count(good);
        }
        if now >= self.next {
            self.next = now + seconds(self.probe.period_seconds, 10);
            self.running = Some(AbortOnDropHandle::new(tokio::spawn(check(&self.probe, target))));
        }
        None
    }

    fn count(&mut self, good: bool) -> Option<Outcome> {
        let (count, other, threshold, outcome) = if good {
            let threshold = self.probe.success_threshold.unwrap_or(1);
            (&mut self.successes, &mut self.failures, threshold, Outcome::Success)
        } else {
            let threshold = self.probe.failure_threshold.unwrap_or(3);
            (&mut self.failures, &mut self.successes, threshold, Outcome::Failure)
        };
        *count += 1;
        *other = 0;
        (*count >= threshold).then_some(outcome)
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

/// Whether one probe succeeds.
fn check(probe: &Probe, target: &Target<'_>) -> impl Future<Output = bool> + Send + use<> {
    let timeout = seconds(probe.timeout_seconds, 1);
    let work = if let Some(http) = &probe.http_get {
        http_get(http, target).boxed()
    } else if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.clone().unwrap_or_else(|| target.ip.to_owned());
        let port = port(&tcp.port, target.container);
        async move { TcpStream::connect((host, port)).await.is_ok() }.boxed()
    } else if let Some(action) = &probe.exec {
        run(action, target).boxed()
    } else {
        // gRPC is not supported: such a Pod does not get ready.
        std::future::ready(false).boxed()
    };
    async move { tokio::time::timeout(timeout, work).await.unwrap_or(false) }
}

/// Whether a request is answered with 200–399.
pub(super) fn http_get(action: &HTTPGetAction, target: &Target<'_>) -> impl Future<Output = bool> + Send + use<> {
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = action.host.as_deref().unwrap_or(target.ip);
    let path = action.path.as_deref().unwrap_or("/");
    let url = format!("{scheme}://{host}:{}/{}", port(&action.port, target.container), path.trim_start_matches('/'));
    let headers: BTreeMap<_, _> =
        action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect();
    async move {
        // As a kubelet: any certificate, no reuse of connections.
        let client =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).pool_max_idle_per_host(0);
        let Ok(client) = client.redirect(reqwest::redirect::Policy::none()).build() else { return false };
        let request = headers.iter().fold(client.get(url), |request, (name, value)| request.header(name, value));
        request.send().await.is_ok_and(|response| response.status().is_success() || response.status().is_redirection())
    }
}

/// Whether a command in the container exits with 0.
pub(super) fn run(action: &ExecAction, target: &Target<'_>) -> impl Future<Output = bool> + Send + use<> {
    let command = action.command.clone().unwrap_or_default();
    let mut command = exec(target.process, target.pod, target.container, &command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    async move { command.status().await.is_ok_and(|status| status.success()) }
}

/// The number of a port; 0, where nothing listens, for a name that the container does not declare.
fn port(port: &IntOrString, container: &Container) -> u16 {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_counts_from_its_threshold_on_and_is_reset_by_the_other() {
        let probe = Probe { failure_threshold: Some(2), success_threshold: Some(1), ..Probe::default() };
        let mut prober = Prober::new(&probe, Mono::ZERO);
        let outcomes: Vec<_> = [false, true, false, false, false].map(|good| prober.count(good)).into();
        let failure = Some(Outcome::Failure);
        assert_eq!(outcomes, [None, Some(Outcome::Success), None, failure, failure]);
    }
}
