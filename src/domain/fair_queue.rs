//! A queue of waiting work that is served in turn: one namespace after the other, in each namespace one connection after
//! the other, and the work of one connection first in, first out. However much one of them has queued, the others wait
//! for at most one item of each of its kind.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::domain::key::ObjectKey;

/// Waiting items by the connection that they belong to.
#[derive(Debug)]
pub struct FairQueue<T> {
    namespaces: Rotation<Rotation<VecDeque<T>>>,
    len: usize,
}

/// Queues by name, in the order in which they have their turn.
#[derive(Debug)]
struct Rotation<Q> {
    order: VecDeque<Arc<str>>,
    queues: HashMap<Arc<str>, Q>,
}

impl<Q> Default for Rotation<Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<Q: Default> Rotation<Q> {
    /// The queue of `name`; a new one has the last turn.
    fn entry(&mut self, name: &Arc<str>) -> &mut Q {
        if !self.queues.contains_key(name) {
            self.order.push_back(Arc::clone(name));
        }
        self.queues.entry(Arc::clone(name)).or_default()
    }

    /// The queue at `index` had its turn: it gets the last one, or is removed if `empty`.
    fn rotate(&mut self, index: usize, empty: bool) {
        let Some(name) = self.order.remove(index) else { return };
        if empty {
            self.queues.remove(&name);
        } else {
            self.order.push_back(name);
        }
    }
}

impl<Q> Rotation<Q> {
    /// Removes the queues that `keep` rejects.
    fn retain(&mut self, mut keep: impl FnMut(&mut Q) -> bool) {
        self.queues.retain(|_, queue| keep(queue));
        self.order.retain(|name| self.queues.contains_key(name));
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { namespaces: Rotation::default(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Adds an item of `connection`.
    pub fn push(&mut self, connection: &ObjectKey, item: T) {
        self.namespaces.entry(&connection.namespace).entry(&connection.name).push_back(item);
        self.len += 1;
    }

    /// Removes and returns the next item that `admits` accepts; of each connection it is asked for the first one. The
    /// others keep their turns.
    pub fn pop(&mut self, mut admits: impl FnMut(&ObjectKey, &T) -> bool) -> Option<(ObjectKey, T)> {
        for at in 0..self.namespaces.order.len() {
            let namespace = Arc::clone(self.namespaces.order.get(at)?);
            let connections = self.namespaces.queues.get_mut(&namespace)?;
            let key = |name: &Arc<str>| ObjectKey::new(Arc::clone(&namespace), Arc::clone(name));
            let first = |name: &Arc<str>| connections.queues.get(name).and_then(VecDeque::front);
            let place =
                connections.order.iter().position(|name| first(name).is_some_and(|item| admits(&key(name), item)));
            let Some(place) = place else { continue };
            let connection = key(connections.order.get(place)?);
            let items = connections.queues.get_mut(&connection.name)?;
            let item = items.pop_front()?;
            let empty = items.is_empty();
            connections.rotate(place, empty);
            let empty = connections.order.is_empty();
            self.namespaces.rotate(at, empty);
            self.len -= 1;
            return Some((connection, item));
        }
        None
    }

    /// Removes the items that `keep` rejects.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut len = 0;
        self.namespaces.retain(|connections| {
            connections.retain(|items| {
                items.retain(&mut keep);
                len += items.len();
                !items.is_empty()
            });
            !connections.order.is_empty()
        });
        self.len = len;
    }

    /// The number of namespaces for which something waits.
    pub fn namespaces(&self) -> usize {
        self.namespaces.order.len()
    }

    /// The number of waiting items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(items: &[(&str, &str, u32)]) -> FairQueue<u32> {
        let mut queue = FairQueue::default();
        for (namespace, name, item) in items {
            queue.push(&ObjectKey::new(*namespace, *name), *item);
        }
        queue
    }

    fn drain(queue: &mut FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop(|_, _| true)).map(|(_, item)| item).collect()
    }

    #[test]
    fn connections_have_their_turns_and_one_connection_is_first_in_first_out() {
        let mut queue = queue(&[("a", "x", 1), ("a", "x", 2), ("a", "x", 3), ("a", "y", 4), ("a", "z", 5)]);
        assert_eq!(drain(&mut queue), [1, 4, 5, 2, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_namespace_with_many_connections_has_one_turn() {
        let mut queue = queue(&[("a", "x", 1), ("a", "y", 2), ("a", "z", 3), ("b", "x", 4), ("b", "x", 5)]);
        assert_eq!(drain(&mut queue), [1, 4, 2, 5, 3]);
    }

    #[test]
    fn a_refused_connection_keeps_its_turn_and_delays_no_other() {
        let mut queue = queue(&[("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]);
        let next = queue.pop(|key, _| &*key.name != "x");
        assert_eq!(next, Some((ObjectKey::new("a", "y"), 2)));
        assert_eq!(queue.pop(|_, _| false), None);
        assert_eq!(queue.len(), 2);
        assert_eq!(drain(&mut queue), [3, 1]);
    }

    #[test]
    fn removed_items_leave_no_turn_behind() {
        let mut queue = queue(&[("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "x", 4)]);
        queue.retain(|item| *item == 4);
        assert_eq!((queue.len(), queue.namespaces.order.len()), (1, 1));
        assert_eq!(drain(&mut queue), [4]);
    }

    #[test]
    fn a_connection_that_comes_back_waits_for_one_item_of_each_other() {
        let mut queue = queue(&[("a", "x", 1), ("a", "x", 2), ("a", "y", 3)]);
        assert_eq!(queue.pop(|_, _| true).unwrap().1, 1);
        queue.push(&ObjectKey::new("a", "z"), 9);
        assert_eq!(drain(&mut queue), [3, 2, 9]);
    }
}
