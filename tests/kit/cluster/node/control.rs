//! What a test does to the containers of a node: it finds their processes, and says when a container starts again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::process::ContainerProcess;

/// Who starts a container again that has ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Restarts {
    /// The node, as the Pod's `restartPolicy` says, with a kubelet's back-off.
    ByPolicy,
    /// The test: the back-off of a container lasts until [`super::agent::NodeAgent::restart`], and no liveness probe ends one.
    /// A test that kills or pauses an operator decides when it comes back.
    ByTest,
}

/// A container that was started.
#[derive(Clone)]
pub(crate) struct StartedContainer {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The UID of the Pod.
    pub(crate) uid: String,
    /// The address of the Pod.
    pub(crate) ip: String,
    pub(crate) process: ContainerProcess,
}

/// The containers of a node, for tests.
pub(super) struct Control {
    pub(super) restarts: Restarts,
    started: Mutex<Vec<StartedContainer>>,
    /// The UIDs of the Pods whose container is to be started again.
    released: Mutex<HashSet<String>>,
}

impl Control {
    pub(super) fn new(restarts: Restarts) -> Self {
        Self { restarts, started: Mutex::default(), released: Mutex::default() }
    }

    pub(super) fn started(&self, container: StartedContainer) {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(container);
    }

    /// The container of this Pod's name that was started last.
    pub(super) fn newest(&self, namespace: &str, pod: &str) -> Option<StartedContainer> {
        let all = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|container| container.namespace == namespace && container.pod == pod).cloned()
    }

    pub(super) fn release(&self, uid: &str) {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
    }

    /// Whether the Pod's container is to be started again; the answer is given once.
    pub(super) fn take_released(&self, uid: &str) -> bool {
        self.released.lock().unwrap_or_else(PoisonError::into_inner).remove(uid)
    }
}
