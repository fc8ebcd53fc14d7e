//! Change notifications of connections, and who receives them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::key::ObjectKey;

/// A change of a connection that other components may act on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectionChange {
    /// New or changed settings are in force.
    Applied(ObjectKey),
    /// The connection was removed.
    Removed(ObjectKey),
    /// Circuit, health, verification or the state of the credentials changed.
    StatusChanged(ObjectKey),
}

type Listener = Arc<dyn Fn(&ConnectionChange) + Send + Sync>;

/// The listeners for changes of any connection.
#[derive(Default)]
pub(crate) struct ChangeListeners {
    all: RwLock<Vec<Listener>>,
}

impl ChangeListeners {
    pub(crate) fn add(&self, listener: impl Fn(&ConnectionChange) + Send + Sync + 'static) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(listener));
    }

    /// Calls every listener. The list is copied first: a listener may add another one.
    pub(crate) fn notify(&self, change: &ConnectionChange) {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in all {
            listener(change);
        }
    }
}
