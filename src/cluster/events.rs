//! Kubernetes events: what happened, what Busbar does next, what the user can do.
//!
//! Published on transitions and user-visible acts only, after the status that tells the same was written. An event that
//! cannot be published is counted and forgotten: it is a courtesy, the status is the truth.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Resource, ResourceExt as _};

use crate::api::v1alpha1::reasons::EventReason;
use crate::cluster::CALL_TIMEOUT;

/// One event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Why.
    pub reason: EventReason,
    /// Whether someone should look.
    pub warning: bool,
    /// What happened; what Busbar does next and when; what the user can do. No ids, no provider text.
    pub message: String,
}

impl Note {
    /// News that needs nobody.
    pub fn normal(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: false, message: message.into() }
    }

    /// News that someone should look at.
    pub fn warning(reason: EventReason, message: impl Into<String>) -> Self {
        Self { reason, warning: true, message: message.into() }
    }
}

/// Most texts whose events are counted as a series. Beyond it everything is forgotten, and a repetition is an event of
/// its own again.
const TEXTS: usize = 512;

/// Publishes events under this operator's name.
#[derive(Clone)]
pub struct Events {
    client: Client,
    reporter: Reporter,
    /// A recorder for each text: kube's takes events of one object and reason for repetitions, whatever they say, and
    /// keeps the words of the first. A second fail-over would be told with the banks of the first.
    recorders: Arc<Mutex<HashMap<String, Recorder>>>,
}

impl Events {
    /// A publisher that signs as `busbar`, instance `identity`.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: "busbar.dev/operator".into(), instance: Some(identity.to_owned()) };
        Self { client, reporter, recorders: Arc::default() }
    }

    fn recorder(&self, text: &str) -> Recorder {
        let mut recorders = self.recorders.lock().unwrap_or_else(PoisonError::into_inner);
        if recorders.len() >= TEXTS && !recorders.contains_key(text) {
            recorders.clear();
        }
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        recorders.entry(text.to_owned()).or_insert_with(new).clone()
    }

    /// Publishes `note` about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, note: &Note) {
        let event = Event {
            type_: if note.warning { EventType::Warning } else { EventType::Normal },
            reason: note.reason.as_str().to_owned(),
            note: Some(note.message.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let about = object.object_ref(&());
        match tokio::time::timeout(CALL_TIMEOUT, self.recorder(&note.message).publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(name = %object.name_any(), reason = note.reason.as_str(), %error, "an event was not published");
            }
            Err(_) => tracing::debug!(name = %object.name_any(), reason = note.reason.as_str(), "an event timed out"),
        }
    }
}
