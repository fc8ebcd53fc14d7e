//! The one notification mechanism of the process: queues of keys.
//!
//! A producer adds the key of what changed to a queue and goes on; the owner of the queue takes the key and reads the
//! current state. A key carries no content, so any number of additions are one entry until it is taken: memory is bounded
//! by the number of keys, however slow a consumer is, and nothing is lost. No code of a consumer runs in a producer.
//!
//! [`KeyQueue`] has one consumer. [`Topic`] copies each key to the queue of every subscriber. A signal without a key is a
//! [`tokio::sync::Notify`]. Why: `docs/adr/0006-one-notification-mechanism.md`.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use tokio::sync::Notify;

/// A FIFO queue of keys, each queued at most once, with one consumer.
#[derive(Debug)]
pub struct KeyQueue<K> {
    queued: Mutex<QueuedKeys<K>>,
    /// Notified when a key was added that was not queued.
    added: Notify,
}

#[derive(Debug)]
struct QueuedKeys<K> {
    order: VecDeque<K>,
    members: HashSet<K>,
}

impl<K> Default for KeyQueue<K> {
    fn default() -> Self {
        let queued = QueuedKeys { order: VecDeque::new(), members: HashSet::new() };
        Self { queued: Mutex::new(queued), added: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash> KeyQueue<K> {
    /// Queues `key`; no effect if it is queued already.
    pub fn add(&self, key: &K) {
        {
            let mut queued = self.lock();
            if !queued.members.insert(key.clone()) {
                return;
            }
            queued.order.push_back(key.clone());
        }
        self.added.notify_one();
    }

    /// Takes the oldest key; `None` if the queue is empty.
    pub fn try_take(&self) -> Option<K> {
        let mut queued = self.lock();
        let key = queued.order.pop_front()?;
        queued.members.remove(&key);
        Some(key)
    }

    /// Waits for a key and takes it. Dropping the future loses nothing.
    pub async fn take(&self) -> K {
        // A consumer of a long queue must not keep its thread from other tasks.
        tokio::task::coop::consume_budget().await;
        loop {
            if let Some(key) = self.try_take() {
                return key;
            }
            self.wait().await;
        }
    }

    /// Waits until the queue may hold a key, for a consumer that then takes all of them.
    pub async fn wait(&self) {
        self.added.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, QueuedKeys<K>> {
        // A panic elsewhere leaves at worst a key that is a member and not in order: it would be queued twice.
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies keys to the queues of all subscribers.
#[derive(Debug)]
pub struct Topic<K> {
    /// Weak: a queue that its subscriber dropped receives nothing.
    subscribers: RwLock<Vec<Weak<KeyQueue<K>>>>,
}

impl<K> Default for Topic<K> {
    fn default() -> Self {
        Self { subscribers: RwLock::default() }
    }
}

impl<K: Clone + Eq + Hash> Topic<K> {
    /// A queue that receives every key published from now on. A subscriber that also needs what happened before
    /// subscribes first and lists then: what changes in between is in both.
    pub fn subscribe(&self) -> Arc<KeyQueue<K>> {
        let queue = Arc::<KeyQueue<K>>::default();
        let mut subscribers = self.subscribers.write().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&queue));
        queue
    }

    /// Adds `key` to the queue of each subscriber.
    pub fn publish(&self, key: &K) {
        for subscriber in &*self.subscribers.read().unwrap_or_else(PoisonError::into_inner) {
            if let Some(queue) = subscriber.upgrade() {
                queue.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_queued_key_is_queued_once_and_keys_keep_their_order() {
        let queue = KeyQueue::default();
        for key in ["a", "b", "a", "c", "b"] {
            queue.add(&key);
        }
        let taken: Vec<_> = std::iter::from_fn(|| queue.try_take()).collect();
        assert_eq!(taken, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_key_that_was_taken_can_be_queued_again() {
        let queue = KeyQueue::default();
        queue.add(&"a");
        assert_eq!(queue.take().await, "a");
        queue.add(&"a");
        assert_eq!(queue.take().await, "a");
        assert!(queue.take().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_added_key_wakes_a_waiting_consumer() {
        let queue = Arc::new(KeyQueue::default());
        let consumer = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { queue.take().await }
        });
        tokio::task::yield_now().await;
        queue.add(&"late");
        assert_eq!(consumer.await.unwrap(), "late");
    }

    #[tokio::test]
    async fn a_dropped_take_loses_no_key() {
        let queue = KeyQueue::default();
        let mut first = Box::pin(queue.take());
        assert!(first.as_mut().now_or_never().is_none());
        queue.add(&"a");
        drop(first);
        assert_eq!(queue.take().now_or_never(), Some("a"));
        queue.add(&"b");
        assert!(queue.wait().now_or_never().is_some());
    }

    #[test]
    fn a_topic_copies_each_key_to_every_subscriber() {
        let topic = Topic::default();
        topic.publish(&"before");
        let (one, other) = (topic.subscribe(), topic.subscribe());
        topic.publish(&"a");
        topic.publish(&"a");
        for queue in [&one, &other] {
            assert_eq!((queue.try_take(), queue.try_take()), (Some("a"), None));
        }
    }

    #[test]
    fn a_dropped_subscription_is_removed() {
        let topic = Topic::<&str>::default();
        drop(topic.subscribe());
        let _kept = topic.subscribe();
        assert_eq!(topic.subscribers.read().unwrap().len(), 1);
    }
}
