//! Who may hold one more of a limited number of permits: limits for all, for each namespace and for each connection, and
//! fair shares of the namespaces and connections while all permits are held.
//!
//! A connection that does not answer holds its permits for a long time. Where its fair share is reserved for everybody
//! else ([`WhenFull::FairShares`]), it delays its own work only: the total may be exceeded by those shares.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::key::ObjectKey;

/// What a full semaphore does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Nothing is admitted: the total is a hard limit.
    Refuse,
    /// A connection is admitted that holds nothing, or less than its fair share, or whose namespace does.
    FairShares,
}

/// Limits of concurrent work.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FairLimits {
    /// Of all connections; at least 1.
    pub total: usize,
    /// Of one namespace; at least 1.
    pub per_namespace: usize,
    /// Of one connection; at least 1.
    pub per_connection: usize,
    /// What happens at the total.
    pub when_full: WhenFull,
}

/// The permits that are held, by namespace and connection.
#[derive(Debug)]
pub struct FairShares {
    limits: FairLimits,
    total: usize,
    namespaces: HashMap<Arc<str>, NamespaceShare>,
}

#[derive(Debug, Default)]
struct NamespaceShare {
    total: usize,
    connections: HashMap<Arc<str>, usize>,
}

impl FairShares {
    /// Nothing is held yet.
    pub fn new(limits: FairLimits) -> Self {
        Self { limits, total: 0, namespaces: HashMap::new() }
    }

    /// Whether `connection` may hold one more.
    pub fn admits(&self, connection: &ObjectKey) -> bool {
        let namespace = self.namespaces.get(&connection.namespace);
        let held = namespace.and_then(|shares| shares.connections.get(&connection.name)).copied().unwrap_or(0);
        let by_namespace = namespace.map_or(0, |shares| shares.total);
        if held >= self.limits.per_connection.max(1) || by_namespace >= self.limits.per_namespace.max(1) {
            return false;
        }
        let total = self.limits.total.max(1);
        if self.total < total {
            return true;
        }
        if self.limits.when_full == WhenFull::Refuse {
            return false;
        }
        let namespaces = self.namespaces.len() + usize::from(namespace.is_none());
        let of_namespace = (total / namespaces.max(1)).max(1);
        let connections = namespace.map_or(0, |shares| shares.connections.len()) + usize::from(held == 0);
        let of_connection = (of_namespace / connections.max(1)).max(1);
        held < of_connection || by_namespace < of_namespace
    }

    /// The permits that `connection` holds.
    pub fn held(&self, connection: &ObjectKey) -> usize {
        let namespace = self.namespaces.get(&connection.namespace);
        namespace.and_then(|shares| shares.connections.get(&connection.name)).copied().unwrap_or(0)
    }

    /// `connection` holds one more.
    pub fn add(&mut self, connection: &ObjectKey) {
        self.total += 1;
        let namespace = self.namespaces.entry(Arc::clone(&connection.namespace)).or_default();
        namespace.total += 1;
        *namespace.connections.entry(Arc::clone(&connection.name)).or_default() += 1;
    }

    /// `connection` holds one less.
    pub fn remove(&mut self, connection: &ObjectKey) {
        let Some(namespace) = self.namespaces.get_mut(&connection.namespace) else { return };
        let Some(held) = namespace.connections.get_mut(&connection.name) else { return };
        *held -= 1;
        if *held == 0 {
            namespace.connections.remove(&connection.name);
        }
        namespace.total -= 1;
        if namespace.total == 0 {
            self.namespaces.remove(&connection.namespace);
        }
        self.total -= 1;
    }

    /// The number of permits that are held.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The number of connections that hold a permit.
    pub fn connections(&self) -> usize {
        self.namespaces.values().map(|shares| shares.connections.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(total: usize, per_connection: usize, when_full: WhenFull) -> FairShares {
        FairShares::new(FairLimits { total, per_namespace: usize::MAX, per_connection, when_full })
    }

    /// Takes as many as are admitted, at most `most`; returns how many.
    fn take(shares: &mut FairShares, namespace: &str, name: &str, most: usize) -> usize {
        let key = ObjectKey::new(namespace, name);
        let mut taken = 0;
        while taken < most && shares.admits(&key) {
            shares.add(&key);
            taken += 1;
        }
        taken
    }

    #[test]
    fn one_connection_alone_has_its_limit_and_a_hard_total_is_never_exceeded() {
        let mut hard = shares(8, 6, WhenFull::Refuse);
        assert_eq!((take(&mut hard, "a", "x", 99), take(&mut hard, "a", "y", 99)), (6, 2));
        assert_eq!(take(&mut hard, "b", "z", 99), 0);
        hard.remove(&ObjectKey::new("a", "x"));
        assert_eq!(take(&mut hard, "b", "z", 99), 1);
    }

    #[test]
    fn a_namespace_has_a_limit_of_its_own() {
        let limits = FairLimits { total: 8, per_namespace: 3, per_connection: 2, when_full: WhenFull::Refuse };
        let mut shares = FairShares::new(limits);
        assert_eq!((take(&mut shares, "a", "x", 99), take(&mut shares, "a", "y", 99)), (2, 1));
        assert_eq!(take(&mut shares, "b", "x", 99), 2);
    }

    #[test]
    fn a_connection_has_its_share_beside_many_that_hold_all() {
        let mut soft = shares(64, 8, WhenFull::FairShares);
        for n in 0..8 {
            assert_eq!(take(&mut soft, "a", &format!("hung-{n}"), 99), 8);
        }
        assert_eq!(take(&mut soft, "a", "hung-0", 99), 0);
        assert_eq!(take(&mut soft, "a", "good", 99), 7, "a ninth of 64");
        assert_eq!(take(&mut soft, "b", "good", 99), 8, "half of 64 is its namespace's");
    }

    #[test]
    fn the_total_is_exceeded_by_fair_shares_only() {
        let mut soft = shares(16, 8, WhenFull::FairShares);
        for n in 0..1_000 {
            take(&mut soft, "a", &format!("hung-{n}"), 99);
        }
        // One of each connection, and the larger shares of the first ones.
        assert!(soft.total() <= 16 * 2 + 1_000, "{}", soft.total());
        assert_eq!(take(&mut soft, "b", "good", 99), 8);
    }

    #[test]
    fn what_is_given_back_leaves_nothing_behind() {
        let mut all = shares(4, 2, WhenFull::FairShares);
        let key = ObjectKey::new("a", "x");
        assert_eq!(take(&mut all, "a", "x", 99), 2);
        assert_eq!((all.total(), all.connections()), (2, 1));
        all.remove(&key);
        all.remove(&key);
        all.remove(&key);
        assert_eq!((all.total(), all.namespaces.len()), (0, 0));
    }
}
