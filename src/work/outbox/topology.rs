//! The topology: exchanges, queues and bindings, and whether the broker has them as they must be.
//!
//! A consumer has one queue and one dead-letter queue. Its limits are arguments of the queue, so that a broker without any
//! policy keeps to them; a policy can only tighten them, because the lower of two limits counts. A full queue refuses
//! (`reject-publish`): the events stay in the ledger, instead of pushing the oldest ones out (docs/adr/0032).

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use tokio::sync::watch;

use super::broker::{Argument, Declaration, Mismatch};

/// The type of consumers' queues.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum QueueType {
    /// Replicated within a cluster.
    #[default]
    Quorum,
    /// On one node.
    Classic,
}

impl QueueType {
    /// The value of `x-queue-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// Names and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyOptions {
    /// What all names begin with.
    pub domain: String,
    /// How long a message may stay unread before it is moved to the dead-letter queue.
    pub message_ttl: Duration,
    /// Messages of a queue, at most.
    pub max_length: u32,
    /// The type of consumers' queues.
    pub queue_type: QueueType,
}

impl TopologyOptions {
    /// The topic exchange that events are published to.
    pub fn exchange(&self) -> String {
        format!("{}_events", self.domain)
    }

    /// The exchange of dead letters. One of its own: a consumer's pattern would match them on the other one, and they would
    /// go round in circles.
    pub fn dead_exchange(&self) -> String {
        format!("{}_events_dlx", self.domain)
    }

    /// The queue of a consumer.
    pub fn queue(&self, consumer: &str) -> String {
        format!("{}_notification_{consumer}", self.domain)
    }

    /// The dead-letter queue of a consumer.
    pub fn dead_queue(&self, consumer: &str) -> String {
        format!("{}_DLQ", self.queue(consumer))
    }

    /// The routing key of a consumer's dead letters.
    pub fn dead_key(&self, consumer: &str) -> String {
        format!("{}.dlq.{consumer}", self.domain)
    }

    /// What must exist for these consumers, in an order in which it can be declared.
    pub fn declarations<'a>(&self, consumers: impl Iterator<Item = &'a str>) -> Vec<Declaration> {
        let mut all = vec![
            Declaration::Exchange { name: self.exchange(), is_topic: true },
            Declaration::Exchange { name: self.dead_exchange(), is_topic: false },
        ];
        for consumer in consumers {
            all.extend(self.of_consumer(consumer));
        }
        all
    }

    fn of_consumer(&self, consumer: &str) -> [Declaration; 4] {
        let (queue, dead_queue, dead_key) = (self.queue(consumer), self.dead_queue(consumer), self.dead_key(consumer));
        let text = |value: &str| Argument::Text(value.to_owned());
        let ttl = i64::try_from(self.message_ttl.as_millis()).unwrap_or(i64::MAX);
        let arguments = vec![
            ("x-queue-type", text(self.queue_type.as_str())),
            ("x-message-ttl", Argument::Number(ttl)),
            ("x-max-length", Argument::Number(self.max_length.into())),
            ("x-overflow", text("reject-publish")),
            ("x-dead-letter-exchange", Argument::Text(self.dead_exchange())),
            ("x-dead-letter-routing-key", Argument::Text(dead_key.clone())),
        ];
        // Classic: looking at a message counts as a delivery, which a quorum queue limits. The ledger has the events anyway.
        let dead_arguments =
            vec![("x-queue-type", text("classic")), ("x-max-length", Argument::Number(self.max_length.into()))];
        let (exchange, dead_exchange) = (self.exchange(), self.dead_exchange());
        let pattern = format!("{}.*.{consumer}", self.domain);
        [
            Declaration::Queue { name: dead_queue.clone(), arguments: dead_arguments },
            Declaration::Binding { queue: dead_queue, exchange: dead_exchange, key: dead_key },
            Declaration::Queue { name: queue.clone(), arguments },
            Declaration::Binding { queue, exchange, key: pattern },
        ]
    }
}

/// Whether the broker's topology is the declared one, as the last declaration found it. Clones share it.
#[derive(Clone)]
pub struct TopologyStatus {
    mismatches: Arc<watch::Sender<Vec<Mismatch>>>,
    gauge: IntGauge,
}

impl TopologyStatus {
    /// No mismatch, shown in `gauge`.
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self { mismatches: Arc::new(watch::Sender::new(Vec::new())), gauge }
    }

    /// What the last declaration found; whether that differs from the one before.
    pub(super) fn set(&self, mismatches: Vec<Mismatch>) -> bool {
        self.gauge.set(i64::try_from(mismatches.len()).unwrap_or(i64::MAX));
        self.mismatches.send_if_modified(|current| {
            let is_new = *current != mismatches;
            *current = mismatches;
            is_new
        })
    }

    /// What `/readyz` and events say of it; `None` without a mismatch. A mismatch ends nothing: events are published on.
    pub fn warning(&self) -> Option<String> {
        let mismatches = self.mismatches.borrow();
        let first = mismatches.first()?;
        let more = match mismatches.len() {
            1 => String::new(),
            n => format!(" ({} more)", n - 1),
        };
        Some(format!(
            "event topology differs from the broker's: {}: {}{more}; publishing continues; delete what differs, or set the \
             flags to it (TopologyMismatch)",
            first.subject, first.cause
        ))
    }

    /// Says when what the declarations find has changed.
    pub fn subscribe(&self) -> watch::Receiver<Vec<Mismatch>> {
        self.mismatches.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> TopologyOptions {
        TopologyOptions {
            domain: "bank".to_owned(),
            message_ttl: Duration::from_hours(24),
            max_length: 100_000,
            queue_type: QueueType::Quorum,
        }
    }

    #[test]
    fn a_consumer_has_a_queue_and_a_dead_letter_queue() {
        let declared = options().declarations(["ops"].into_iter());
        let names: Vec<String> = declared
            .iter()
            .map(|declaration| match declaration {
                Declaration::Exchange { name, is_topic } => format!("exchange {name} {is_topic}"),
                Declaration::Queue { name, .. } => format!("queue {name}"),
                Declaration::Binding { queue, exchange, key } => format!("{exchange} {key} -> {queue}"),
            })
            .collect();
        assert_eq!(
            names,
            [
                "exchange bank_events true",
                "exchange bank_events_dlx false",
                "queue bank_notification_ops_DLQ",
                "bank_events_dlx bank.dlq.ops -> bank_notification_ops_DLQ",
                "queue bank_notification_ops",
                "bank_events bank.*.ops -> bank_notification_ops",
            ]
        );
    }

    #[test]
    fn a_full_queue_refuses_and_an_unread_message_is_a_dead_letter() {
        let declared = options().declarations(["ops"].into_iter());
        let Some(Declaration::Queue { arguments, .. }) = declared.get(4) else { panic!("{declared:?}") };
        let text = |value: &str| Argument::Text(value.to_owned());
        let of = |name: &str| arguments.iter().find(|(each, _)| *each == name).map(|(_, value)| value.clone());
        assert_eq!(of("x-overflow"), Some(text("reject-publish")));
        assert_eq!(of("x-message-ttl"), Some(Argument::Number(86_400_000)));
        assert_eq!(of("x-max-length"), Some(Argument::Number(100_000)));
        assert_eq!(of("x-dead-letter-exchange"), Some(text("bank_events_dlx")));
        assert_eq!(of("x-dead-letter-routing-key"), Some(text("bank.dlq.ops")));
    }

    #[test]
    fn a_mismatch_is_named_until_it_is_gone() {
        let gauge = IntGauge::new("mismatches", "help").unwrap();
        let status = TopologyStatus::new(gauge.clone());
        assert_eq!(status.warning(), None);
        let mismatch = |subject: &str| Mismatch { subject: subject.to_owned(), cause: "other arguments".to_owned() };
        assert!(status.set(vec![mismatch("queue a"), mismatch("queue b")]));
        assert!(!status.set(vec![mismatch("queue a"), mismatch("queue b")]), "known");
        let warning = status.warning().unwrap();
        assert!(warning.contains("queue a: other arguments (1 more); publishing continues"), "{warning}");
        assert_eq!(gauge.get(), 2);
        assert!(status.set(Vec::new()));
        assert_eq!((status.warning(), gauge.get()), (None, 0));
    }
}
