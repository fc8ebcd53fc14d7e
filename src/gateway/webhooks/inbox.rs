//! Stores webhooks: a bounded queue, and one task that stores what is in it in one transaction.
//!
//! The answer waits for the transaction: 202 means that the webhook is stored. Ten thousand at once are some dozen
//! transactions, and one row for each connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::gateway::webhooks::rule::WebhookRules;
use crate::ledger::Ledger;
use crate::ledger::delivery::{NewWebhook, WebhookOutcome};

/// Webhooks that wait to be stored; about a hundred bytes each.
const QUEUE: usize = 16_384;
/// Webhooks per transaction.
const BATCH: usize = 512;
/// How long an answer waits.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A webhook to store, and who waits for it.
struct Waiting {
    webhook: NewWebhook,
    done: oneshot::Sender<Option<WebhookOutcome>>,
}

/// Accepts webhooks.
pub struct WebhookInbox {
    /// How they are verified.
    pub rules: Arc<dyn WebhookRules>,
    sender: mpsc::Sender<Waiting>,
}

/// The task that stores them.
pub struct WebhookWriter {
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    receiver: mpsc::Receiver<Waiting>,
    /// Notified when webhooks were stored, for the task that acts on them.
    stored: Arc<Notify>,
}

/// An inbox in `ledger`, and its task.
pub fn webhook_inbox(
    ledger: Arc<dyn Ledger>,
    clock: Clock,
    rules: Arc<dyn WebhookRules>,
    stored: Arc<Notify>,
) -> (WebhookInbox, WebhookWriter) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (WebhookInbox { rules, sender }, WebhookWriter { ledger, clock, receiver, stored })
}

impl WebhookInbox {
    /// Stores a webhook; `None` if it is not stored: the queue is full, or the ledger failed. The provider retries.
    pub async fn store(&self, webhook: NewWebhook) -> Option<WebhookOutcome> {
        let (done, outcome) = oneshot::channel();
        self.sender.try_send(Waiting { webhook, done }).ok()?;
        tokio::time::timeout(TIMEOUT, outcome).await.ok()?.ok()?
    }
}

impl WebhookWriter {
    /// Stores webhooks until `stop`, then those that wait.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.write(&mut batch).await;
                }
                () = stop.cancelled() => break,
            }
        }
        self.receiver.close();
        while self.receiver.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch).await;
        }
    }

    async fn write(&self, batch: &mut Vec<Waiting>) {
        let webhooks: Vec<NewWebhook> = batch.iter().map(|waiting| waiting.webhook.clone()).collect();
        let stored = self.ledger.accept_webhooks(&webhooks, self.clock.now().wall).await;
        let outcomes: Vec<Option<WebhookOutcome>> = match stored {
            Ok(outcomes) => outcomes.into_iter().map(Some).collect(),
            Err(error) => {
                tracing::warn!(%error, webhooks = webhooks.len(), "webhooks not stored; responding 503, the provider retries");
                vec![None; webhooks.len()]
            }
        };
        if outcomes.iter().any(Option::is_some) {
            self.stored.notify_one();
        }
        for (waiting, outcome) in batch.drain(..).zip(outcomes) {
            // A client that is gone needs no answer.
            let _ = waiting.done.send(outcome);
        }
    }
}
