//! Records every status of our four kinds in a test's namespace, from the operator's start to its end: what the tests look
//! at, and what is checked of every status that was ever written.
//!
//! The rules are those of `busbar::domain::conditions`; two more compare states: a transition time changes with the status
//! and only then, and a condition Ready that was once true stays so for the same spec when a provider fails.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busbar::clock::Clock;
use busbar::domain::conditions::{Condition, ConditionStatus, check_invariants};
use busbar::domain::time::Mono;
use futures::StreamExt as _;
use kube::api::{DynamicObject, ListParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinSet;

use super::namespace::{TestNs, object_api};
use crate::kit::wait::eventually;

/// The kinds that have a status of ours.
const KINDS: [&str; 4] = ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"];

/// Why Ready may become false although the spec is the same: something it names is missing or unusable, or the
/// ledger; or an older job began to read the same.
const UNREADY_REASONS: [&str; 10] = [
    "SecretNotFound",
    "SecretKeyMissing",
    "SecretKeyInvalid",
    "SecretForbidden",
    "BreakerPolicyNotFound",
    "PolicyInvalid",
    "ConnectionNotFound",
    "ConnectionNotReady",
    "LedgerUnavailable",
    "DuplicateSource",
];

/// Pause before a watch is opened again.
const REOPEN: Duration = Duration::from_millis(200);

/// One state of one object.
#[derive(Clone, Debug)]
pub(crate) struct ObjectState {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// When the watch reported it, on the recorder's clock.
    pub(crate) at: Mono,
    /// The object; its last state if it is deleted.
    pub(crate) object: Value,
    pub(crate) deleted: bool,
    /// From a list and not from the watch: states between this and the one before may be missing.
    pub(crate) listed: bool,
}

impl ObjectState {
    fn of(kind: &'static str, object: &DynamicObject, (deleted, listed): (bool, bool), at: Mono) -> Self {
        let mut value = serde_json::to_value(object).expect("an object is JSON");
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        Self { kind, name: object.name_any(), at, object: value, deleted, listed }
    }

    fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    fn version(&self) -> &str {
        self.object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }
}

/// Records every state of every object of ours in one namespace.
pub(crate) struct StatusRecorder {
    states: Arc<Mutex<Vec<ObjectState>>>,
    namespace: String,
    apis: Vec<(&'static str, Api<DynamicObject>)>,
    foreign_writes: AtomicBool,
    _watches: JoinSet<()>,
}

impl StatusRecorder {
    /// Starts to record; existing objects are recorded too.
    pub(crate) fn of(ns: &TestNs) -> Self {
        let states = Arc::<Mutex<Vec<ObjectState>>>::default();
        let apis: Vec<_> = KINDS.into_iter().map(|kind| (kind, object_api(ns, kind))).collect();
        let (clock, mut watches) = (Clock::system(), JoinSet::new());
        for (kind, api) in apis.clone() {
            let states = Arc::clone(&states);
            watches.spawn(async move {
                let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
                while let Some(event) = events.next().await {
                    let state = match event {
                        Ok(Event::Apply(object)) => ObjectState::of(kind, &object, (false, false), clock.mono()),
                        Ok(Event::InitApply(object)) => ObjectState::of(kind, &object, (false, true), clock.mono()),
                        Ok(Event::Delete(object)) => ObjectState::of(kind, &object, (true, false), clock.mono()),
                        Ok(Event::Init | Event::InitDone) => continue,
                        Err(_) => {
                            // An API server that a test has stopped, or a kind that was deleted. The watch must be back
                            // before an operator is, whose pauses are longer, or it misses what that one writes.
                            tokio::time::sleep(REOPEN).await;
                            continue;
                        }
                    };
                    states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
                }
            });
        }
        Self {
            states,
            namespace: ns.name().to_owned(),
            apis,
            foreign_writes: AtomicBool::new(false),
            _watches: watches,
        }
    }

    /// The newest state of an object; `None` if it is not there.
    pub(crate) fn latest(&self, kind: &str, name: &str) -> Option<Value> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = states.iter().rfind(|state| state.kind == kind && state.name == name)?;
        (!newest.deleted).then(|| newest.object.clone())
    }

    /// All states of an object, oldest first.
    pub(crate) fn history(&self, kind: &str, name: &str) -> Vec<ObjectState> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().filter(|state| state.kind == kind && state.name == name).cloned().collect()
    }

    /// Waits until the object is as `look` wants it, and returns it; a failure shows its last status.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        what: &'a str,
        look: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        eventually(format!("{kind} {name}: {what}"), async move || {
            let object = self.latest(kind, name).ok_or_else(|| "it does not exist".to_owned())?;
            if look(&object) { Ok(object) } else { Err(format!("{:#}", object["status"])) }
        })
    }

    /// What was wrong with any recorded status: one line for each. Waits until everything that was written is recorded.
    pub(crate) async fn findings(&self) -> Vec<String> {
        for (kind, api) in &self.apis {
            eventually(format!("every {kind} of {} is recorded", self.namespace), async || {
                let listed = api.list(&ListParams::default()).await.ok()?;
                let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                let recorded = |object: &DynamicObject| {
                    let version = object.resource_version().unwrap_or_default();
                    states.iter().any(|s| s.kind == *kind && s.name == object.name_any() && s.version() == version)
                };
                listed.iter().all(recorded).then_some(())
            })
            .await;
        }
        if self.foreign_writes.load(Ordering::Relaxed) {
            return Vec::new();
        }
        check(&self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The test writes statuses itself: the rules do not apply to those.
    pub(crate) fn allow_foreign_writes(&self) {
        self.foreign_writes.store(true, Ordering::Relaxed);
    }
}

fn conditions(object: &Value) -> Vec<Condition> {
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| Condition {
            type_: text(c, "type"),
            status: ConditionStatus::parse(&text(c, "status")),
            reason: text(c, "reason"),
            message: text(c, "message"),
            observed_generation: c["observedGeneration"].as_i64().unwrap_or(-1),
            last_transition: text(c, "lastTransitionTime").parse().unwrap_or_default(),
        })
        .collect()
}

fn check(states: &[ObjectState]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut before: HashMap<&str, (&ObjectState, Vec<Condition>)> = HashMap::new();
    for state in states {
        let now = conditions(&state.object);
        let mut report = |what: String| {
            let mut line = format!("{} {}: {what}; conditions:", state.kind, state.name);
            for c in &now {
                let _ = write!(line, " {}={} ({})", c.type_, c.status, c.reason);
            }
            findings.push(line);
        };
        if let Err(what) = check_invariants(&now) {
            report(what);
        }
        let generation = state.object["metadata"]["generation"].as_i64().unwrap_or_default();
        let observed = state.object["status"]["observedGeneration"].as_i64();
        if !now.is_empty() && now.iter().any(|c| Some(c.observed_generation) != observed || observed > Some(generation))
        {
            report(format!("observedGeneration is {observed:?} of {generation}, and not that of every condition"));
        }
        if let Some((was, old)) = before.get(state.uid()).filter(|_| !state.listed) {
            for c in &now {
                let Some(o) = old.iter().find(|o| o.type_ == c.type_) else { continue };
                if o.status == c.status && o.last_transition != c.last_transition {
                    report(format!("the transition time of {} changed although its status did not", c.type_));
                }
                let lost = c.type_ == "Ready" && o.status == ConditionStatus::True && c.status != ConditionStatus::True;
                let same = was.object["spec"] == state.object["spec"] && o.observed_generation == c.observed_generation;
                if lost && same && !UNREADY_REASONS.contains(&c.reason.as_str()) {
                    report(format!("Ready became false with reason {} although the spec is the same", c.reason));
                }
            }
        }
        before.insert(state.uid(), (state, now));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(version: u32, ready: (&str, &str, &str), more: &Value) -> ObjectState {
        let (status, reason, at) = ready;
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": at});
        let list: Vec<Value> = std::iter::once(ready).chain(more.as_array().cloned().unwrap_or_default()).collect();
        let object = json!({
            "metadata": {"uid": "u", "generation": 1, "resourceVersion": version.to_string()},
            "spec": {},
            "status": {"observedGeneration": 1, "conditions": list},
        });
        ObjectState { kind: "SyncJob", name: "a".into(), at: Mono::ZERO, object, deleted: false, listed: false }
    }

    #[test]
    fn each_broken_rule_of_a_status_is_found() {
        let one = ("True", "Verified", "2026-01-01T00:00:01Z");
        assert!(check(&[state(1, one, &json!([])), state(2, one, &json!([]))]).is_empty());
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "InvalidSpec", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:01Z"}]);
        assert!(check(&[state(1, one, &stalled)])[0].contains("Stalled exists although Ready"));
        let moved = ("True", "Verified", "2026-01-01T00:00:02Z");
        assert!(check(&[state(1, one, &json!([])), state(2, moved, &json!([]))])[0].contains("transition time"));
        let lost = ("False", "AuthenticationFailed", "2026-01-01T00:00:02Z");
        assert!(check(&[state(1, one, &json!([])), state(2, lost, &json!([]))])[0].contains("became false"));
    }
}
