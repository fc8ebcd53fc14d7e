//! Misfortunes with a beginning and an end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::testbed::control_plane::{Component, ControlPlane};
use crate::testbed::trouble::{Crowd, Proxy, TroubleError, Weather};

/// One misfortune. [`Fault::begin`] returns when it is in force, [`Fault::end`] when nothing of it is left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The API server is stopped; connections to it are refused.
    ApiServerStopped,
    /// The API server is frozen: connections stay open and nothing is answered.
    ApiServerPaused,
    /// etcd is killed; the API server lives without it.
    EtcdKilled,
    /// Watches are cut and cannot be opened, and what happens meanwhile is forgotten by etcd and by an API server that is
    /// started anew: a watch that comes back asks for the past and is told 410.
    HistoryLost,
    /// The same from etcd alone, told by an API server without a watch cache. The API server is started anew for it.
    HistoryCompacted,
    /// A crowd takes all the slots of an API server that has few: 429. The API server is started anew for it.
    Crowded,
    /// The proxy answers everything with this status, and cuts the watches.
    Storm(u16),
    /// The proxy answers so many of a hundred with 503; watches go on.
    Showers(u8),
    /// The proxy cuts the watches, and lets none through until the end.
    WatchesHeld,
    /// The proxy cuts the watches; they may come back at once.
    WatchesCut,
    /// The proxy answers nothing.
    Silence,
}

impl Fault {
    /// Those that need nothing but the proxy, and so disturb nobody else on the control plane.
    pub const BY_PROXY: [Self; 5] =
        [Self::Storm(503), Self::Showers(50), Self::WatchesHeld, Self::WatchesCut, Self::Silence];

    /// Those that break a component: for a control plane of one's own.
    pub const BY_COMPONENT: [Self; 5] =
        [Self::ApiServerStopped, Self::ApiServerPaused, Self::EtcdKilled, Self::HistoryLost, Self::Crowded];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiServerStopped => f.write_str("API server stopped"),
            Self::ApiServerPaused => f.write_str("API server paused"),
            Self::EtcdKilled => f.write_str("etcd killed"),
            Self::HistoryLost => f.write_str("watch history lost with a restart"),
            Self::HistoryCompacted => f.write_str("watch history compacted"),
            Self::Crowded => f.write_str("API server crowded"),
            Self::Storm(status) => write!(f, "storm of {status}"),
            Self::Showers(percent) => write!(f, "showers of 503 ({percent} %)"),
            Self::WatchesHeld => f.write_str("watches held"),
            Self::WatchesCut => f.write_str("watches cut"),
            Self::Silence => f.write_str("silence"),
        }
    }
}

/// Where faults strike: a control plane, and the proxy that leads one operator to it.
pub struct Ground {
    /// The control plane.
    pub plane: Arc<ControlPlane>,
    /// The proxy.
    pub proxy: Proxy,
    crowd: Mutex<Option<Crowd>>,
}

impl Ground {
    /// A proxy before `plane`.
    pub async fn new(plane: Arc<ControlPlane>) -> Result<Self, TroubleError> {
        let proxy = Proxy::start(&plane).await?;
        Ok(Self { plane, proxy, crowd: Mutex::default() })
    }
}

impl Fault {
    /// Begins.
    pub async fn begin(self, ground: &Ground) -> Result<(), TroubleError> {
        let Ground { plane, proxy, crowd } = ground;
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
            Self::Crowded => {
                plane.restart_with(Component::ApiServer, &Crowd::SERVER_ARGS).await?;
                *crowd.lock().await = Some(Crowd::gather(plane)?);
            }
            Self::Storm(status) => {
                let retry_after = (status == 429).then_some(Duration::from_secs(1));
                proxy.set(Weather::Storm { status, percent: 100, retry_after });
                proxy.cut_watches();
            }
            Self::Showers(percent) => proxy.set(Weather::Storm { status: 503, percent, retry_after: None }),
            Self::WatchesCut => proxy.cut_watches(),
            Self::Silence => proxy.set(Weather::Silence),
        }
        Ok(())
    }

    /// Ends; waits until the components work again.
    pub async fn end(self, ground: &Ground) -> Result<(), TroubleError> {
        let Ground { plane, proxy, crowd } = ground;
        match self {
            Self::ApiServerStopped => plane.start_component(Component::ApiServer).await?,
            Self::ApiServerPaused => plane.resume(Component::ApiServer).await?,
            Self::EtcdKilled => plane.start_component(Component::Etcd).await?,
            Self::HistoryLost => {
                plane.compact().await?;
                plane.restart(Component::ApiServer).await?;
                proxy.set(Weather::Fair);
            }
            Self::HistoryCompacted => {
                plane.compact().await?;
                proxy.set(Weather::Fair);
            }
            Self::Crowded => drop(crowd.lock().await.take()),
            Self::Storm(_) | Self::Showers(_) | Self::WatchesHeld | Self::Silence => proxy.set(Weather::Fair),
            Self::WatchesCut => {}
        }
        Ok(())
    }
}

fn hold_watches(proxy: &Proxy) {
    proxy.set(Weather::NoWatches);
    proxy.cut_watches();
}
