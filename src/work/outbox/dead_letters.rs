//! The dead-letter queues of consumers, for the gateway: looked at, purged, replayed.
//!
//! Each act has a connection of its own, which any replica can open: it is rare, and what it holds goes back to the queue
//! when the connection ends, also if this process does.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{BasicAckOptions, BasicGetOptions, ConfirmSelectOptions};
use lapin::protocol::constants::REPLY_SUCCESS;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection};
use uuid::Uuid;

use super::amqp::{AmqpBroker, rpc, short};
use super::amqp_publisher::AmqpPublisher;
use super::broker::{BrokerError, Message, Publisher as _};
use super::topology::TopologyOptions;
use crate::domain::event::routing_key;
use crate::provider::event_queues::{DeadCount, DeadEvent, DeadSelection, EventQueues, QueueError, QueueFuture};

/// The dead-letter queues of a RabbitMQ broker.
pub struct AmqpQueues {
    broker: Arc<AmqpBroker>,
    topology: TopologyOptions,
}

impl AmqpQueues {
    /// The queues of `topology` on `broker`.
    pub fn new(broker: Arc<AmqpBroker>, topology: TopologyOptions) -> Self {
        Self { broker, topology }
    }

    /// The messages that are meant, on a connection that holds everything that it has read.
    async fn read(&self, consumer: &str, selection: &DeadSelection) -> Result<HeldMessages, BrokerError> {
        let connection = self.broker.open().await?;
        let channel = rpc(connection.create_channel()).await?;
        let queue = short(&self.topology.dead_queue(consumer))?;
        let mut messages = Vec::new();
        for _ in 0..selection.limit {
            let got = rpc(channel.basic_get(queue.clone(), BasicGetOptions::default())).await?;
            let Some(message) = got else { break };
            let event_type = type_of(&message);
            if selection.event_types.is_empty() || selection.event_types.contains(&event_type) {
                messages.push(message);
            }
        }
        Ok(HeldMessages { connection, channel, messages })
    }

    async fn list(&self, consumer: &str, selection: &DeadSelection) -> Result<Vec<DeadEvent>, BrokerError> {
        let held = self.read(consumer, selection).await?;
        let found = held.messages.iter().map(|message| dead_event(message)).collect();
        held.close().await;
        Ok(found)
    }

    async fn purge(&self, consumer: &str, selection: &DeadSelection) -> Result<Vec<DeadCount>, BrokerError> {
        let held = self.read(consumer, selection).await?;
        let mut counts = Counts::default();
        for message in &held.messages {
            held.remove(message).await?;
            counts.add(message);
        }
        held.close().await;
        Ok(counts.list())
    }

    async fn replay(&self, consumer: &str, selection: &DeadSelection) -> Result<Vec<DeadCount>, BrokerError> {
        let held = self.read(consumer, selection).await?;
        let sender = rpc(held.connection.create_channel()).await?;
        rpc(sender.confirm_select(ConfirmSelectOptions::default())).await?;
        let status = held.connection.status().clone();
        let publisher = AmqpPublisher::new(sender, short(&self.topology.exchange())?, status);
        let mut counts = Counts::default();
        for message in &held.messages {
            let copy = copy_of(message, &self.topology.domain, consumer);
            let verdicts = publisher.publish(std::slice::from_ref(&copy)).await;
            // In their order: one that is not taken ends the replay, and it and the later ones stay.
            if let Some(Err(reason)) = verdicts.first() {
                held.close().await;
                if counts.is_empty() {
                    return Err(BrokerError::Failed(format!("the queue of the consumer takes no message ({reason})")));
                }
                return Ok(counts.list());
            }
            held.remove(message).await?;
            counts.add(message);
        }
        held.close().await;
        Ok(counts.list())
    }
}

/// Messages that were read and are not acknowledged: the broker puts them back, in their places, when the connection ends.
struct HeldMessages {
    connection: Connection,
    channel: Channel,
    messages: Vec<BasicGetMessage>,
}

impl HeldMessages {
    async fn remove(&self, message: &Delivery) -> Result<(), BrokerError> {
        rpc(self.channel.basic_ack(message.delivery_tag, BasicAckOptions::default())).await
    }

    async fn close(&self) {
        drop(rpc(self.connection.close(REPLY_SUCCESS, "OK".into())).await);
    }
}

/// Messages by their type.
#[derive(Default)]
struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn add(&mut self, message: &Delivery) {
        *self.0.entry(type_of(message)).or_default() += 1;
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn list(self) -> Vec<DeadCount> {
        self.0.into_iter().map(|(event_type, count)| DeadCount { event_type, count }).collect()
    }
}

fn text(value: Option<&ShortString>) -> String {
    value.map(|text| text.as_str().to_owned()).unwrap_or_default()
}

fn type_of(message: &Delivery) -> String {
    text(message.properties.kind().as_ref())
}

fn id_of(message: &Delivery) -> Option<Uuid> {
    message.properties.message_id().as_ref()?.as_str().parse().ok()
}

/// What is shown of a message: nothing of its content.
fn dead_event(message: &Delivery) -> DeadEvent {
    let death = message.properties.headers().as_ref().and_then(last_death);
    let reason = death.and_then(|death| match death.inner().get("reason")? {
        AMQPValue::LongString(reason) => Some(reason.to_string()),
        _ => None,
    });
    let seconds = death.and_then(|death| match death.inner().get("time")? {
        AMQPValue::Timestamp(seconds) => i64::try_from(*seconds).ok(),
        _ => None,
    });
    DeadEvent {
        event_id: id_of(message),
        event_type: type_of(message),
        reason: reason.unwrap_or_else(|| "unknown".to_owned()),
        dead_at: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()),
    }
}

/// The entry of the last queue that the message died in: the broker puts it first.
fn last_death(headers: &FieldTable) -> Option<&FieldTable> {
    let AMQPValue::FieldArray(deaths) = headers.inner().get("x-death")? else { return None };
    let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
    Some(last)
}

/// The message as it was published first.
fn copy_of(message: &Delivery, domain: &str, consumer: &str) -> Message {
    let event_type = type_of(message);
    let seconds = message.properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default();
    Message {
        id: id_of(message).unwrap_or_default(),
        correlation_id: text(message.properties.correlation_id().as_ref()).parse().unwrap_or_default(),
        timestamp: Timestamp::from_second(seconds).unwrap_or_default(),
        routing_key: routing_key(&event_type, domain, consumer),
        event_type,
        body: message.data.clone(),
    }
}

fn unavailable(error: impl std::fmt::Display) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

impl EventQueues for AmqpQueues {
    fn list_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadEvent>> {
        Box::pin(async move { self.list(consumer, selection).await.map_err(unavailable) })
    }

    fn purge_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadCount>> {
        Box::pin(async move { self.purge(consumer, selection).await.map_err(unavailable) })
    }

    fn replay_dead<'a>(&'a self, consumer: &'a str, selection: &'a DeadSelection) -> QueueFuture<'a, Vec<DeadCount>> {
        Box::pin(async move { self.replay(consumer, selection).await.map_err(unavailable) })
    }
}
