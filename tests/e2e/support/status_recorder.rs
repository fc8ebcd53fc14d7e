//! Watches our four kinds in a test's namespace from the operator's start to its end: what the tests look at, and what
//! is checked of every status that was ever written, asked for or not.
//!
//! The rules are those of `busbar::domain::conditions`; two more need a memory: a transition time moves with the status
//! and only then, and what was once Ready is not taken back for the same spec because a provider fails.

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
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinSet;

use super::eventually::eventually;
use super::namespace::TestNs;
use super::plane::PATIENCE;

/// The kinds that have a status of ours.
const KINDS: [&str; 4] = ["ProviderConnection", "SyncJob", "BankRoute", "BreakerPolicy"];

/// Why Ready may be taken away although the spec is the same: something it names is missing or unusable.
const MAY_UNREADY: [&str; 8] = [
    "SecretNotFound",
    "SecretKeyMissing",
    "SecretKeyInvalid",
    "SecretForbidden",
    "BreakerPolicyNotFound",
    "PolicyInvalid",
    "ConnectionNotFound",
    "ConnectionNotReady",
];

/// Pause before a watch is opened again.
const REOPEN: Duration = Duration::from_millis(200);

/// One state of one object.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    /// When the watch told of it, on the recorder's clock.
    pub(crate) at: Mono,
    /// The object; its last state if it is gone.
    pub(crate) object: Value,
    /// Deleted.
    pub(crate) gone: bool,
    /// Listed, not watched: states between this and the one before may have passed unseen.
    pub(crate) listed: bool,
}

impl Sight {
    fn of(kind: &'static str, object: &DynamicObject, (gone, listed): (bool, bool), at: Mono) -> Self {
        let mut value = serde_json::to_value(object).expect("an object is JSON");
        if let Some(metadata) = value["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        Self { kind, name: object.name_any(), at, object: value, gone, listed }
    }

    fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }

    fn version(&self) -> &str {
        self.object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }
}

/// Sees and remembers every state of every object of ours in one namespace.
pub(crate) struct StatusRecorder {
    sights: Arc<Mutex<Vec<Sight>>>,
    namespace: String,
    apis: Vec<(&'static str, Api<DynamicObject>)>,
    others_write: AtomicBool,
    _watches: JoinSet<()>,
}

impl StatusRecorder {
    /// Begins to watch; what is there already is seen too.
    pub(crate) fn of(ns: &TestNs) -> Self {
        let sights = Arc::<Mutex<Vec<Sight>>>::default();
        let apis: Vec<_> = KINDS.into_iter().map(|kind| (kind, api(ns, kind))).collect();
        let (clock, mut watches) = (Clock::system(), JoinSet::new());
        for (kind, api) in apis.clone() {
            let sights = Arc::clone(&sights);
            watches.spawn(async move {
                let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
                while let Some(event) = events.next().await {
                    let sight = match event {
                        Ok(Event::Apply(object)) => Sight::of(kind, &object, (false, false), clock.mono()),
                        Ok(Event::InitApply(object)) => Sight::of(kind, &object, (false, true), clock.mono()),
                        Ok(Event::Delete(object)) => Sight::of(kind, &object, (true, false), clock.mono()),
                        Ok(Event::Init | Event::InitDone) => continue,
                        Err(_) => {
                            // An API server that a test has stopped, or a kind that is gone. The watch must be back
                            // before an operator is, whose pauses are longer, or it misses what that one writes.
                            tokio::time::sleep(REOPEN).await;
                            continue;
                        }
                    };
                    sights.lock().unwrap_or_else(PoisonError::into_inner).push(sight);
                }
            });
        }
        Self { sights, namespace: ns.name().to_owned(), apis, others_write: AtomicBool::new(false), _watches: watches }
    }

    /// The newest state of an object; `None` if it is not there.
    pub(crate) fn latest(&self, kind: &str, name: &str) -> Option<Value> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = sights.iter().rfind(|sight| sight.kind == kind && sight.name == name)?;
        (!newest.gone).then(|| newest.object.clone())
    }

    /// All states of an object, oldest first.
    pub(crate) fn history(&self, kind: &str, name: &str) -> Vec<Sight> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        sights.iter().filter(|sight| sight.kind == kind && sight.name == name).cloned().collect()
    }

    /// Waits until the object is as `look` wants it, and returns it; the failure tells its last status.
    #[track_caller]
    pub(crate) fn until<'a>(
        &'a self,
        kind: &'a str,
        name: &'a str,
        within: Duration,
        what: &'a str,
        look: impl Fn(&Value) -> bool + 'a,
    ) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let clock = Clock::system();
            let began = clock.mono();
            loop {
                let latest = self.latest(kind, name);
                if let Some(object) = latest.as_ref().filter(|object| look(object)) {
                    return object.clone();
                }
                if clock.mono().since(began) > within {
                    let status = latest.map_or("it does not exist".into(), |o| format!("{:#}", o["status"]));
                    panic!("{caller}: {kind} {name} not within {within:?}: {what}; its status: {status}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// What was wrong with any status ever seen: one line for each. Waits until all that was written has been seen.
    pub(crate) async fn findings(&self) -> Vec<String> {
        for (kind, api) in &self.apis {
            eventually(PATIENCE, &format!("the recorder has seen every {kind} of {}", self.namespace), async || {
                let listed = api.list(&ListParams::default()).await.ok()?;
                let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
                let seen = |object: &DynamicObject| {
                    let version = object.resource_version().unwrap_or_default();
                    sights.iter().any(|s| s.kind == *kind && s.name == object.name_any() && s.version() == version)
                };
                listed.iter().all(seen).then_some(())
            })
            .await;
        }
        if self.others_write.load(Ordering::Relaxed) {
            return Vec::new();
        }
        check(&self.sights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The test writes statuses itself: those keep to no rule.
    pub(crate) fn others_write(&self) {
        self.others_write.store(true, Ordering::Relaxed);
    }
}

/// Objects of one of our kinds in the namespace of `ns`, as admin.
pub(crate) fn api(ns: &TestNs, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("busbar.dev", "v1alpha1", kind));
    Api::namespaced_with(ns.client(), ns.name(), &resource)
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

fn check(sights: &[Sight]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut before: HashMap<&str, (&Sight, Vec<Condition>)> = HashMap::new();
    for sight in sights {
        let now = conditions(&sight.object);
        let mut tell = |what: String| {
            let mut line = format!("{} {}: {what}; conditions:", sight.kind, sight.name);
            for c in &now {
                let _ = write!(line, " {}={} ({})", c.type_, c.status, c.reason);
            }
            findings.push(line);
        };
        if let Err(what) = check_invariants(&now) {
            tell(what);
        }
        let generation = sight.object["metadata"]["generation"].as_i64().unwrap_or_default();
        let observed = sight.object["status"]["observedGeneration"].as_i64();
        if !now.is_empty() && now.iter().any(|c| Some(c.observed_generation) != observed || observed > Some(generation))
        {
            tell(format!("observedGeneration is {observed:?} of {generation}, and not that of every condition"));
        }
        if let Some((was, old)) = before.get(sight.uid()).filter(|_| !sight.listed) {
            for c in &now {
                let Some(o) = old.iter().find(|o| o.type_ == c.type_) else { continue };
                if o.status == c.status && o.last_transition != c.last_transition {
                    tell(format!("the transition time of {} moved although its status did not", c.type_));
                }
                let lost = c.type_ == "Ready" && o.status == ConditionStatus::True && c.status != ConditionStatus::True;
                let same = was.object["spec"] == sight.object["spec"] && o.observed_generation == c.observed_generation;
                if lost && same && !MAY_UNREADY.contains(&c.reason.as_str()) {
                    tell(format!("Ready was taken away with reason {} although the spec is the same", c.reason));
                }
            }
        }
        before.insert(sight.uid(), (sight, now));
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sight(version: u32, ready: (&str, &str, &str), more: &Value) -> Sight {
        let (status, reason, at) = ready;
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": at});
        let list: Vec<Value> = std::iter::once(ready).chain(more.as_array().cloned().unwrap_or_default()).collect();
        let object = json!({
            "metadata": {"uid": "u", "generation": 1, "resourceVersion": version.to_string()},
            "spec": {},
            "status": {"observedGeneration": 1, "conditions": list},
        });
        Sight { kind: "SyncJob", name: "a".into(), at: Mono::ZERO, object, gone: false, listed: false }
    }

    #[test]
    fn a_true_course_passes_and_each_broken_rule_is_found() {
        let one = ("True", "Verified", "2026-01-01T00:00:01Z");
        assert!(check(&[sight(1, one, &json!([])), sight(2, one, &json!([]))]).is_empty());
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "InvalidSpec", "message": "",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:01Z"}]);
        assert!(check(&[sight(1, one, &stalled)])[0].contains("Stalled exists although Ready"));
        let moved = ("True", "Verified", "2026-01-01T00:00:02Z");
        assert!(check(&[sight(1, one, &json!([])), sight(2, moved, &json!([]))])[0].contains("transition time"));
        let lost = ("False", "AuthenticationFailed", "2026-01-01T00:00:02Z");
        assert!(check(&[sight(1, one, &json!([])), sight(2, lost, &json!([]))])[0].contains("taken away"));
    }
}
