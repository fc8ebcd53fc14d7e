//! Wires the publishing of events: the broker, the relay, and the dead-letter queues for the gateway.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;

use crate::api::v1alpha1::reasons::EventReason;
use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::tasks::Tasks;
use crate::cli::RunArgs;
use crate::cluster::events::EventDraft;
use crate::controllers::Ctx;
use crate::provider::event_queues::EventQueues;
use crate::work::outbox::broker::Broker;
use crate::work::outbox::{AmqpBroker, AmqpQueues, AmqpUrl, OutboxRelay, RelayDeps};

/// The publishing of events to a broker.
pub(super) struct EventPublishing {
    /// Publishes; a task of the leader.
    pub(super) relay: OutboxRelay,
    /// The dead-letter queues, which every replica's gateway looks at.
    pub(super) queues: Arc<dyn EventQueues>,
}

/// Builds it; `None` without a broker.
///
/// # Errors
/// If the URL of the broker has a password, or a metric is registered already.
pub(super) fn event_publishing(base: &BaseDeps<'_>, identity: &str) -> Result<Option<EventPublishing>, AppError> {
    let args = &base.args.amqp;
    let Some(url) = &args.amqp else { return Ok(None) };
    if *url == AmqpUrl::WithPassword {
        let problem = "--amqp must not have a password: other users can read it; put it into the file of \
                       --amqp-password-file";
        return Err(AppError::Arguments(problem.to_owned()));
    }
    let host = url.host();
    if url.is_exposed() {
        tracing::warn!(
            broker = host,
            "connection to the message broker is not encrypted: --amqp is amqp://; credentials and events can be read on \
             the network; use amqps://"
        );
    }
    let broker = Arc::new(AmqpBroker::new(url.clone(), args.credentials(), identity));
    let deps = RelayDeps {
        broker: Arc::clone(&broker) as Arc<dyn Broker>,
        clock: base.clock,
        host,
        ledger: Arc::clone(&base.ledger),
        tasks: base.tasks.effects.clone(),
        topology: args.topology(),
    };
    let relay = OutboxRelay::new(deps, identity, base.metrics)?;
    let status = relay.topology_status();
    base.gates.add_warning(move || status.warning());
    Ok(Some(EventPublishing { relay, queues: Arc::new(AmqpQueues::new(broker, args.topology())) }))
}

/// Starts the relay. A topology that differs from the broker's is an event about the leader lease, which staff look at.
pub(super) fn lead(
    relay: Option<OutboxRelay>,
    ctx: &Arc<Ctx>,
    args: &RunArgs,
    stop: &CancellationToken,
    tasks: &Tasks,
) {
    let Some(relay) = relay else { return };
    let (status, ctx, events_stop) = (relay.topology_status(), Arc::clone(ctx), stop.clone());
    let (name, namespace) = (Some(args.lease_name.clone()), Some(args.lease_namespace.clone()));
    let lease = Lease { metadata: ObjectMeta { name, namespace, ..ObjectMeta::default() }, ..Lease::default() };
    tasks.effect("topology events", async move {
        let mut changes = status.subscribe();
        while let Some(Ok(())) = events_stop.run_until_cancelled(changes.changed()).await {
            if let Some(warning) = status.warning() {
                ctx.events.publish(&lease, &topology_event(warning)).await;
            }
        }
    });
    tasks.effect("outbox relay", relay.run(stop.clone()));
}

/// The event of a topology that differs.
pub(super) fn topology_event(warning: String) -> EventDraft {
    EventDraft::warning(EventReason::TopologyMismatch, warning)
}
