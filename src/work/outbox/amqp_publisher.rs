//! A channel that publishes.
//!
//! Each batch of messages has the channel to itself and is over before the next one begins. That is what makes returns
//! certain: the broker returns an unroutable message and then confirms it, and `lapin` hands the returned message to
//! whichever confirmation comes next, so it is matched by its ID among those of its batch.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use uuid::Uuid;

use super::amqp_refusal::{PRECONDITION_FAILED, refusal};
use super::broker::{Message, Publisher, Verdict};
use crate::ledger::delivery::PublishFailure;

/// How long a batch may go without a confirmation. The relay's lease lasts longer.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest message: brokers refuse larger ones by ending the channel, with everything that is on it.
const MAX_MESSAGE: usize = 8 << 20;
/// Persistent.
const DELIVERY_MODE: u8 = 2;

/// A channel that publishes to one exchange.
pub(super) struct AmqpPublisher {
    channel: Channel,
    exchange: ShortString,
    status: lapin::ConnectionStatus,
}

impl AmqpPublisher {
    /// A publisher on `channel`, which confirms.
    pub(super) fn new(channel: Channel, exchange: ShortString, status: lapin::ConnectionStatus) -> Self {
        Self { channel, exchange, status }
    }

    /// Sends one message and waits for its confirmation: what the broker says of it, and the ID of a message that it has
    /// returned, which may be another one of the batch.
    async fn send(&self, message: &Message) -> (Verdict, Option<Uuid>) {
        let Ok(key) = ShortString::try_new(message.routing_key.as_str()) else {
            return (Err(PublishFailure::TooLarge), None);
        };
        if message.body.len() > MAX_MESSAGE {
            return (Err(PublishFailure::TooLarge), None);
        }
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent =
            self.channel.basic_publish(self.exchange.clone(), key, options, &message.body, properties(message)).await;
        let confirmation = match sent {
            Ok(confirmation) => confirmation,
            Err(error) => return (Err(unconfirmed(&error)), None),
        };
        match confirmation.await {
            Ok(Confirmation::Ack(returned)) => (Ok(()), returned.as_deref().and_then(id_of)),
            Ok(Confirmation::Nack(returned)) => (Err(PublishFailure::Nacked), returned.as_deref().and_then(id_of)),
            Ok(Confirmation::NotRequested) => (Err(PublishFailure::ConnectionLost), None),
            Err(error) => (Err(unconfirmed(&error)), None),
        }
    }
}

/// Why a message is not confirmed. A broker ends the channel because of one message that is too large for it, without saying
/// which: all that are not confirmed back off, each for itself, so that the others are soon sent without that one.
fn unconfirmed(error: &lapin::Error) -> PublishFailure {
    match refusal(error) {
        Some((PRECONDITION_FAILED, cause)) => {
            tracing::debug!(cause, "channel ended by the broker because of a message; publishing again with backoff");
            PublishFailure::TooLarge
        }
        _ => PublishFailure::ConnectionLost,
    }
}

/// Completes the verdicts of a batch with what was returned. The message that comes with a confirmation may be another one of
/// the batch: while some are not confirmed, one that is confirmed may have been returned as well without that being known.
fn settle(messages: &[Message], verdicts: &mut [Verdict], returned: &HashSet<Uuid>) {
    let is_open = |verdict: &Verdict| matches!(verdict, Err(reason) if *reason != PublishFailure::Nacked);
    let is_doubtful = !returned.is_empty() && verdicts.iter().any(is_open);
    for (message, verdict) in messages.iter().zip(verdicts) {
        if verdict.is_ok() && (is_doubtful || returned.contains(&message.id)) {
            *verdict = Err(PublishFailure::Returned);
        }
    }
}

/// The ID of a message that the broker has returned.
fn id_of(returned: &Delivery) -> Option<Uuid> {
    returned.properties.message_id().as_ref()?.as_str().parse().ok()
}

fn properties(message: &Message) -> BasicProperties {
    let text = |value: String| ShortString::try_new(value).unwrap_or_default();
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(DELIVERY_MODE)
        .with_message_id(text(message.id.to_string()))
        .with_correlation_id(text(message.correlation_id.to_string()))
        .with_type(text(message.event_type.clone()))
        .with_timestamp(u64::try_from(message.timestamp.as_second()).unwrap_or_default())
        .with_app_id("busbar".into())
}

impl Publisher for AmqpPublisher {
    fn publish<'a>(&'a self, messages: &'a [Message]) -> BoxFuture<'a, Vec<Verdict>> {
        Box::pin(async move {
            let mut verdicts: Vec<Verdict> = vec![Err(PublishFailure::TimedOut); messages.len()];
            let mut returned: HashSet<Uuid> = HashSet::new();
            // All in this task: on one channel the order of sending is that of the broker's numbers.
            let sends = messages.iter().enumerate().map(|(n, message)| async move { (n, self.send(message).await) });
            let mut sends: FuturesUnordered<_> = sends.collect();
            loop {
                match tokio::time::timeout(CONFIRM_TIMEOUT, sends.next()).await {
                    Ok(Some((n, (verdict, unroutable)))) => {
                        verdicts[n] = verdict;
                        returned.extend(unroutable);
                    }
                    // The broker is short of memory or disk, and goes on where it was.
                    Err(_) if self.status.blocked() && self.status.connected() => {}
                    Ok(None) | Err(_) => break,
                }
            }
            drop(sends);
            settle(messages, &mut verdicts, &returned);
            verdicts
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lapin::ErrorKind;
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    fn message(n: u128) -> Message {
        Message {
            id: Uuid::from_u128(n),
            event_type: "fetch.failed".to_owned(),
            correlation_id: Uuid::nil(),
            timestamp: Timestamp::UNIX_EPOCH,
            routing_key: "bank.fetch_failed.ops".to_owned(),
            body: Vec::new(),
        }
    }

    #[test]
    fn a_return_that_may_be_anothers_confirms_nothing_of_a_batch_that_broke_off() {
        let messages = [message(1), message(2), message(3)];
        let settled = |mut verdicts: [Verdict; 3], returned: &[u128]| {
            settle(&messages, &mut verdicts, &returned.iter().copied().map(Uuid::from_u128).collect());
            verdicts
        };
        let (nacked, lost) = (Err(PublishFailure::Nacked), Err(PublishFailure::ConnectionLost));
        let back = Err(PublishFailure::Returned);
        assert_eq!(settled([Ok(()), Ok(()), nacked], &[2]), [Ok(()), back, nacked], "all are answered");
        assert_eq!(settled([Ok(()), Ok(()), lost], &[]), [Ok(()), Ok(()), lost], "none came back");
        assert_eq!(settled([Ok(()), Ok(()), lost], &[3]), [back, back, lost], "the first two may have come back too");
    }

    #[test]
    fn a_channel_that_ends_because_of_a_message_is_no_lost_connection() {
        let refused = |code: AMQPSoftError| {
            lapin::Error::from(ErrorKind::ProtocolError(AMQPError::new(code.into(), "refused".into())))
        };
        assert_eq!(unconfirmed(&refused(AMQPSoftError::PRECONDITIONFAILED)), PublishFailure::TooLarge);
        assert_eq!(unconfirmed(&refused(AMQPSoftError::NOTFOUND)), PublishFailure::ConnectionLost);
        assert_eq!(unconfirmed(&std::io::Error::other("reset").into()), PublishFailure::ConnectionLost);
    }
}
