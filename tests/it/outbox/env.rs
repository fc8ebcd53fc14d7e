//! Relays in the process of a test.

use std::sync::Arc;

use busbar::clock::Clock;
use busbar::ledger::Ledger;
use busbar::metrics::Metrics;
use busbar::tasks::TaskGroup;
use busbar::testbed::rabbitmq::RabbitBroker;
use busbar::work::outbox::{AmqpBroker, BrokerCredentials, OutboxRelay, RelayDeps, TopologyOptions, TopologyStatus};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kit::events::topology;

/// The relay for a broker.
pub(super) fn relay(ledger: &Arc<dyn Ledger>, url: &str, options: TopologyOptions) -> (OutboxRelay, Metrics) {
    let metrics = Metrics::new();
    let broker = AmqpBroker::new(url.parse().unwrap(), BrokerCredentials::default(), "busbar-test");
    let deps = RelayDeps {
        broker: Arc::new(broker),
        clock: Clock::system(),
        host: "test".to_owned(),
        ledger: Arc::clone(ledger),
        tasks: TaskGroup::default(),
        topology: options,
    };
    (OutboxRelay::new(deps, "replica", &metrics).unwrap(), metrics)
}

/// A relay in this process.
pub(super) struct RunningRelay {
    pub(super) status: TopologyStatus,
    pub(super) metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl RunningRelay {
    pub(super) fn start(ledger: &Arc<dyn Ledger>, broker: &RabbitBroker) -> Self {
        Self::with(ledger, broker, topology())
    }

    pub(super) fn with(ledger: &Arc<dyn Ledger>, broker: &RabbitBroker, options: TopologyOptions) -> Self {
        let (relay, metrics) = relay(ledger, &broker.url(), options);
        let (status, stop) = (relay.topology_status(), CancellationToken::new());
        let task = tokio::spawn(relay.run(stop.clone()));
        Self { status, metrics, stop, task }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}
