//! The verdict on how an operator came through a fault.
//!
//! It is the same for all: the status is soon what an operator that knows nothing of the fault makes of the world, nothing
//! was written twice for one change, the process lived, and the reason was said once.

use std::collections::BTreeMap;
use std::panic::Location;
use std::time::Duration;

use busbar::domain::time::Mono;
use busbar::testbed::control_plane::AuditPosition;
use busbar::testbed::faults::Fault;
use serde_json::Value;

use super::eventually;
use super::plane::{PATIENCE, tell};
use super::scene::{QUIET, SOON, Scene, Statuses};

/// Without the band of risk of banks that fail: it goes on rising with each check that fails between the two looks.
fn settled(mut all: Statuses) -> Statuses {
    for object in all.values_mut() {
        if let Some(status) = object["status"].as_object_mut()
            && status.get("health").is_some_and(|health| health == "Unhealthy")
        {
            status.remove("risk");
        }
    }
    all
}

/// Without times, and without what only the past can tell. Who has seen less counts less, and nobody can verify a
/// credential with a bank that fails, or tell by how much it is worse than it was, or that a route once had another bank.
fn timeless(all: Statuses) -> Statuses {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.ends_with("Time") && !["epoch", "opens"].contains(&name.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(all) => all.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut all = settled(all);
    for object in all.values_mut() {
        strip(object);
        let Some(status) = object["status"].as_object_mut() else { continue };
        status.remove("lastFailover");
        if status.get("health").is_some_and(|health| health == "Unhealthy") {
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                // Ready stays as it is told, for another reason.
                let forgets: &[&str] = match condition["type"].as_str() {
                    Some("Authenticated") => &["status", "reason", "message"],
                    Some("Ready") => &["reason", "message"],
                    _ => &[],
                };
                condition
                    .as_object_mut()
                    .into_iter()
                    .for_each(|c| c.retain(|name, _| !forgets.contains(&name.as_str())));
            }
        }
    }
    all
}

/// A fault that has begun.
pub(crate) struct FaultRun {
    pub(super) fault: Option<Fault>,
    pub(super) began: Mono,
    pub(super) before: Statuses,
    pub(super) pid: Option<u32>,
    pub(super) log: usize,
    pub(super) audit: AuditPosition,
    pub(super) ended: Option<Mono>,
}

/// What the verdict may expect of one fault.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Expected<'a> {
    /// Words of the one log line that tells the reason; empty if there is nothing to tell.
    pub(crate) reason: &'a str,
    /// Kinds that have the reason told for each of them, once; for all together if none is named.
    pub(crate) kinds: &'a [&'a str],
    /// Objects (`plural/name`) that changed because of something that happened meanwhile, and how often their status may
    /// have been written for it, from the beginning of the fault on. All others: once for each change that was seen.
    pub(crate) writes: &'a [(&'a str, usize)],
    /// The operator ends by design; somebody starts it again.
    pub(crate) ends: bool,
}

impl FaultRun {
    /// Ends the fault.
    pub(crate) async fn end(&mut self, scene: &Scene) {
        if let Some(fault) = self.fault {
            fault.end(&scene.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not end: {error}"));
        }
        self.ended = Some(scene.clock.mono());
    }

    /// Waits until the fault has lasted so long.
    pub(crate) async fn last(&self, scene: &Scene, time: Duration) {
        scene.clock.sleep_until(self.began + time).await;
    }

    /// What the operator has said since the fault began, line by line.
    pub(crate) fn said(&self, scene: &Scene) -> Vec<Value> {
        let logs = scene.operator.logs();
        logs[self.log.min(logs.len())..].lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How often it has said this.
    pub(crate) fn said_times(&self, scene: &Scene, words: &str) -> usize {
        self.said(scene).iter().filter(|line| line.to_string().contains(words)).count()
    }

    /// What is wrong with how often the reason was told.
    fn reason_told(&self, scene: &Scene, expected: &Expected<'_>) -> Vec<String> {
        let Expected { reason, kinds, .. } = expected;
        if reason.is_empty() {
            return Vec::new();
        }
        let said = self.said(scene);
        let times = |kind: Option<&str>| {
            let of = |line: &&Value| kind.is_none_or(|kind| line["kind"] == kind) && line.to_string().contains(reason);
            said.iter().filter(of).count()
        };
        let each = kinds.iter().map(|kind| (Some(*kind), times(Some(kind)))).collect::<Vec<_>>();
        let each = if each.is_empty() { vec![(None, times(None))] } else { each };
        let wrong = each.into_iter().filter(|(_, times)| *times != 1);
        wrong.map(|(kind, times)| format!("said {times} times: {reason} {}", kind.unwrap_or_default())).collect()
    }

    /// Waits until the world is `as_it_should_be` again, at most [`SOON`] after the end of the fault, and notes what is
    /// to be judged.
    pub(crate) async fn judged(
        self,
        scene: &Scene,
        expected: Expected<'_>,
        as_it_should_be: impl AsyncFn(&Scene) -> bool,
    ) -> Judged {
        let ended = self.ended.expect("the fault was ended");
        let left = || SOON.saturating_sub(scene.clock.mono().since(ended));
        eventually(left(), "all is told as it is, soon after the end of the fault", async || {
            as_it_should_be(scene).await.then_some(())
        })
        .await;
        let took = scene.clock.mono().since(ended);
        scene.quiet(left() + QUIET).await;
        let mut findings = Vec::new();
        for (object, count) in scene.writes(self.audit) {
            let named = expected.writes.iter().find(|(name, _)| *name == object).map(|(_, allowed)| *allowed);
            let allowed = named.unwrap_or_else(|| scene.changes(&object, self.began));
            if count > allowed {
                findings.push(format!("{object} was written {count} times, where {allowed} would do"));
            }
        }
        if !expected.ends && (scene.operator.pid() != self.pid || scene.operator.try_get("/livez").await.is_none()) {
            findings.push("the process did not live through it".to_owned());
        }
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.said(scene) {
            if line["level"] == "WARN" || line["level"] == "ERROR" {
                let what =
                    ["message", "kind", "namespace", "name"].map(|field| line[field].as_str().unwrap_or_default());
                *said.entry(what.join(" ")).or_default() += 1;
            }
        }
        findings.extend(said.iter().filter(|(_, n)| **n > 1).map(|(line, n)| format!("said {n} times: {line}")));
        findings.extend(self.reason_told(scene, &expected));
        let fault = self.fault.map_or_else(|| scene.world.ns.name().to_owned(), |fault| fault.to_string());
        tell(&format!(
            "{fault}: lasted {:.0?}, told as it is {took:.1?} after its end; warnings {said:?}",
            ended.since(self.began)
        ));
        Judged { statuses: scene.statuses().await, before: self.before, findings }
    }
}

/// What a fault has left behind.
pub(crate) struct Judged {
    pub(crate) statuses: Statuses,
    pub(crate) before: Statuses,
    pub(crate) findings: Vec<String>,
}

impl Judged {
    /// Panics unless all is well and a fresh operator finds nothing to mend.
    #[track_caller]
    pub(crate) fn passes(self, scene: &mut Scene) -> impl Future<Output = ()> {
        self.compared(scene, false, Location::caller())
    }

    /// The same, and so does one that finds no status at all: the one above begins from what is to be judged.
    #[track_caller]
    pub(crate) fn passes_from_nothing(self, scene: &mut Scene) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let again = Self { statuses: self.statuses.clone(), before: Statuses::new(), findings: Vec::new() };
            self.compared(scene, false, caller).await;
            again.compared(scene, true, caller).await;
        }
    }

    async fn compared(self, scene: &mut Scene, nothing: bool, caller: &'static Location<'static>) {
        let Self { statuses, mut findings, .. } = self;
        scene.fresh(nothing).await;
        let (statuses, fresh) = if nothing {
            scene.quiet(PATIENCE).await;
            (timeless(statuses), timeless(scene.statuses().await))
        } else {
            (settled(statuses), settled(scene.statuses().await))
        };
        for key in statuses.keys().chain(fresh.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (was, is) = (statuses.get(key), fresh.get(key));
            if was != is {
                findings.push(format!("{key} is told otherwise by a fresh operator:\n  was {was:?}\n  is  {is:?}"));
            }
        }
        if !findings.is_empty() {
            // Beside the lines of what happened, and not only above a long log.
            tell(&format!("{caller} finds:\n{}", findings.join("\n")));
        }
        assert!(findings.is_empty(), "{caller}:\n{}\nlog:\n{}", findings.join("\n"), scene.operator.logs());
    }
}
