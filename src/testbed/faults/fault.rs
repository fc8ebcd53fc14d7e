//! The faults, and the environment in which they are injected.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::testbed::control_plane::{Component, ControlPlane};
use crate::testbed::faults::error::FaultError;
use crate::testbed::faults::load_generator::LoadGenerator;
use crate::testbed::faults::proxy::{Proxy, ProxyMode};

/// One fault. [`Fault::begin`] returns when it is in force, [`Fault::end`] when it is fully removed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The API server is stopped; connections to it are refused.
    ApiServerStopped,
    /// The API server is frozen: connections stay open and requests hang.
    ApiServerPaused,
    /// etcd is killed; the API server keeps running without it.
    EtcdKilled,
    /// Watches are cut and held back; then etcd is compacted and the API server restarted, so that a watch that resumes
    /// from its last revision receives 410.
    HistoryLost,
    /// The same with etcd's compaction alone, behind an API server without a watch cache. Restarts the API server.
    HistoryCompacted,
    /// A load generator occupies all request slots of an API server that has few: 429. Restarts the API server.
    ApiServerOverloaded,
    /// The proxy rejects all requests with this status, and cuts the watches.
    AllRejected(u16),
    /// The proxy rejects this percentage of the requests with 503; open watches continue.
    SomeRejected(u8),
    /// The proxy cuts the watches, and holds new ones back until the end.
    WatchesHeld,
    /// The proxy cuts the watches; they may be reopened at once.
    WatchesCut,
    /// The proxy keeps the connections of the open watches and forwards nothing on them; new watches pass.
    WatchesSilent,
    /// The proxy holds all requests back.
    AllHeld,
}

impl Fault {
    /// Faults that need only the proxy, and so do not affect other clients of the control plane.
    pub const BY_PROXY: [Self; 5] =
        [Self::AllRejected(503), Self::SomeRejected(50), Self::WatchesHeld, Self::WatchesCut, Self::AllHeld];

    /// Faults of a component; they need a dedicated control plane.
    pub const BY_COMPONENT: [Self; 5] =
        [Self::ApiServerStopped, Self::ApiServerPaused, Self::EtcdKilled, Self::HistoryLost, Self::ApiServerOverloaded];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiServerStopped => f.write_str("API server stopped"),
            Self::ApiServerPaused => f.write_str("API server paused"),
            Self::EtcdKilled => f.write_str("etcd killed"),
            Self::HistoryLost => f.write_str("watch history lost in a restart"),
            Self::HistoryCompacted => f.write_str("watch history compacted"),
            Self::ApiServerOverloaded => f.write_str("API server overloaded"),
            Self::AllRejected(status) => write!(f, "all requests rejected with {status}"),
            Self::SomeRejected(percent) => write!(f, "{percent} % of requests rejected with 503"),
            Self::WatchesHeld => f.write_str("watches held"),
            Self::WatchesCut => f.write_str("watches cut"),
            Self::WatchesSilent => f.write_str("watches silent"),
            Self::AllHeld => f.write_str("all requests held"),
        }
    }
}

/// The environment of faults: a control plane, and the proxy between it and one operator.
pub struct FaultEnv {
    /// The control plane.
    pub plane: Arc<ControlPlane>,
    /// The proxy.
    pub proxy: Proxy,
    load: Mutex<Option<LoadGenerator>>,
}

impl FaultEnv {
    /// Starts a proxy in front of `plane`.
    pub async fn new(plane: Arc<ControlPlane>) -> Result<Self, FaultError> {
        let proxy = Proxy::start(&plane).await?;
        Ok(Self { plane, proxy, load: Mutex::default() })
    }
}

impl Fault {
    /// Injects the fault.
    pub async fn begin(self, env: &FaultEnv) -> Result<(), FaultError> {
        let FaultEnv { plane, proxy, load } = env;
        match self {
            Self::ApiServerStopped => plane.stop_component(Component::ApiServer).await?,
            Self::ApiServerPaused => plane.pause(Component::ApiServer).await?,
            Self::EtcdKilled => plane.kill_component(Component::Etcd).await?,
            Self::HistoryCompacted => {
                let without_cache = ["--watch-cache=false"];
                plane.restart_with(Component::ApiServer, &without_cache).await?;
                hold_watches(proxy);
            }
            Self::HistoryLost | Self::WatchesHeld => hold_watches(proxy),
            Self::ApiServerOverloaded => {
                plane.restart_with(Component::ApiServer, &LoadGenerator::SERVER_ARGS).await?;
                *load.lock().await = Some(LoadGenerator::start(plane)?);
            }
            Self::AllRejected(status) => {
                let retry_after = (status == 429).then_some(Duration::from_secs(1));
                proxy.set(ProxyMode::Reject { status, percent: 100, retry_after });
                proxy.cut_watches();
            }
            Self::SomeRejected(percent) => proxy.set(ProxyMode::Reject { status: 503, percent, retry_after: None }),
            Self::WatchesCut => proxy.cut_watches(),
            Self::WatchesSilent => proxy.silence_watches(),
            Self::AllHeld => proxy.set(ProxyMode::HoldAll),
        }
        Ok(())
    }

    /// Removes the fault and waits until the components are ready again.
    pub async fn end(self, env: &FaultEnv) -> Result<(), FaultError> {
        let FaultEnv { plane, proxy, load } = env;
        match self {
            Self::ApiServerStopped => plane.start_component(Component::ApiServer).await?,
            Self::ApiServerPaused => plane.resume(Component::ApiServer).await?,
            Self::EtcdKilled => plane.start_component(Component::Etcd).await?,
            Self::HistoryLost => {
                plane.compact().await?;
                plane.restart(Component::ApiServer).await?;
                proxy.set(ProxyMode::Pass);
            }
            Self::HistoryCompacted => {
                plane.compact().await?;
                proxy.set(ProxyMode::Pass);
            }
            Self::ApiServerOverloaded => drop(load.lock().await.take()),
            Self::AllRejected(_) | Self::SomeRejected(_) | Self::WatchesHeld | Self::AllHeld => {
                proxy.set(ProxyMode::Pass);
            }
            // Silent watches stay silent: the operator opens others.
            Self::WatchesCut | Self::WatchesSilent => {}
        }
        Ok(())
    }
}

fn hold_watches(proxy: &Proxy) {
    proxy.set(ProxyMode::HoldWatches);
    proxy.cut_watches();
}
