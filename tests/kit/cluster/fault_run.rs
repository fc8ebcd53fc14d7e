//! How an operator came through a fault.
//!
//! The checks are the same for all faults: soon after its end the statuses are what an operator that knows nothing of it
//! would write, no change was written twice, the process survived, and the reason was logged once.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::time::Duration;

use busbar::domain::time::Mono;
use busbar::testbed::control_plane::AuditPosition;
use busbar::testbed::faults::Fault;
use serde_json::Value;

use super::control_planes::report;
use super::failover_env::{FailoverEnv, RECOVERY_DEADLINE, SETTLE_TIME, Statuses};
use crate::kit::wait::{PATIENCE, within};

/// Without the risk band of unhealthy banks: it rises with each failed check between the two looks.
fn without_rising_risk(mut all: Statuses) -> Statuses {
    for object in all.values_mut() {
        if let Some(status) = object["status"].as_object_mut()
            && status.get("health").is_some_and(|health| health == "Unhealthy")
        {
            status.remove("risk");
        }
    }
    all
}

/// Without times, and without what only a past status shows: an operator that has seen less counts less, and cannot verify
/// a credential with a bank that fails, nor know by how much it is worse than before, nor that a route had another bank.
fn without_history(all: Statuses) -> Statuses {
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
    let mut all = without_rising_risk(all);
    for object in all.values_mut() {
        strip(object);
        let Some(status) = object["status"].as_object_mut() else { continue };
        for kept in ["lastFailover", "failovers"] {
            status.remove(kept);
        }
        // Without its status, a bank that fails now has never been seen healthy, and the route has left none.
        if let Some(mark) = status.get_mut("passedCheck").and_then(Value::as_object_mut) {
            mark.remove("passed");
        }
        for candidate in status.get_mut("candidates").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(fields) = candidate.as_object_mut() else { continue };
            fields.remove("failedOver");
            if fields.get("state").is_some_and(|state| state == "Excluded") {
                fields.remove("reason");
            }
        }
        if status.get("health").is_some_and(|health| health == "Unhealthy") {
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                // Ready has the same status, with another reason.
                let ignored: &[&str] = match condition["type"].as_str() {
                    Some("Authenticated") => &["status", "reason", "message"],
                    Some("Ready") => &["reason", "message"],
                    _ => &[],
                };
                condition
                    .as_object_mut()
                    .into_iter()
                    .for_each(|c| c.retain(|name, _| !ignored.contains(&name.as_str())));
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

/// What the checks expect of one fault.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Expected<'a> {
    /// Part of the one log line that names the reason; empty if there is nothing to log.
    pub(crate) reason: &'a str,
    /// Kinds for each of which the reason is logged once; once in all if none is named.
    pub(crate) kinds: &'a [&'a str],
    /// Objects (`plural/name`) that changed because of something that happened meanwhile, and how often their status may
    /// have been written for it, from the beginning of the fault on. All others: once for each recorded change.
    pub(crate) writes: &'a [(&'a str, usize)],
    /// The operator exits by design, and is started again.
    pub(crate) exits: bool,
}

impl FaultRun {
    /// Ends the fault.
    pub(crate) async fn end(&mut self, env: &FailoverEnv) {
        if let Some(fault) = self.fault {
            fault.end(&env.fault_env).await.unwrap_or_else(|error| panic!("{fault} does not end: {error}"));
        }
        self.ended = Some(env.clock.mono());
    }

    /// Waits until the fault has lasted so long.
    pub(crate) async fn last_for(&self, env: &FailoverEnv, time: Duration) {
        env.clock.sleep_until(self.began + time).await;
    }

    /// What the operator has logged since the fault began, line by line.
    pub(crate) fn log_lines(&self, env: &FailoverEnv) -> Vec<Value> {
        let logs = env.operator.logs();
        logs[self.log.min(logs.len())..].lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many of these lines contain `text`.
    pub(crate) fn log_count(&self, env: &FailoverEnv, text: &str) -> usize {
        self.log_lines(env).iter().filter(|line| line.to_string().contains(text)).count()
    }

    /// What is wrong with how often the reason was logged.
    fn reason_findings(&self, env: &FailoverEnv, expected: &Expected<'_>) -> Vec<String> {
        let Expected { reason, kinds, .. } = expected;
        if reason.is_empty() {
            return Vec::new();
        }
        let lines = self.log_lines(env);
        let count = |kind: Option<&str>| {
            let of = |line: &&Value| kind.is_none_or(|kind| line["kind"] == kind) && line.to_string().contains(reason);
            lines.iter().filter(of).count()
        };
        let each = kinds.iter().map(|kind| (Some(*kind), count(Some(kind)))).collect::<Vec<_>>();
        let each = if each.is_empty() { vec![(None, count(None))] } else { each };
        let wrong = each.into_iter().filter(|(_, count)| *count != 1);
        wrong.map(|(kind, count)| format!("logged {count} times: {reason} {}", kind.unwrap_or_default())).collect()
    }

    /// Waits until the statuses have `recovered`, at most [`RECOVERY_DEADLINE`] after the end of the fault, and collects
    /// what is to be checked.
    pub(crate) async fn outcome(
        self,
        env: &FailoverEnv,
        expected: Expected<'_>,
        recovered: impl AsyncFn(&FailoverEnv) -> bool,
    ) -> FaultOutcome {
        let ended = self.ended.expect("the fault was ended");
        let left = || RECOVERY_DEADLINE.saturating_sub(env.clock.mono().since(ended));
        within(left(), "the statuses have recovered", async || recovered(env).await).await;
        let took = env.clock.mono().since(ended);
        env.until_quiet(left() + SETTLE_TIME).await;
        let mut findings = Vec::new();
        if env.status_writes(AuditPosition::default()).is_empty() {
            findings.push("the audit log has no status write at all, not even the first ones".to_owned());
        }
        for (object, count) in env.status_writes(self.audit) {
            let named = expected.writes.iter().find(|(name, _)| *name == object).map(|(_, allowed)| *allowed);
            let allowed = named.unwrap_or_else(|| env.transitions(&object, self.began));
            if count > allowed {
                findings.push(format!("{object} was written {count} times instead of {allowed}"));
            }
        }
        if !expected.exits && (env.operator.pid() != self.pid || env.operator.try_get("/livez").await.is_none()) {
            findings.push("the process did not survive".to_owned());
        }
        let mut warnings: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.log_lines(env) {
            if line["level"] == "WARN" || line["level"] == "ERROR" {
                let what =
                    ["message", "kind", "namespace", "name"].map(|field| line[field].as_str().unwrap_or_default());
                *warnings.entry(what.join(" ")).or_default() += 1;
            }
        }
        let repeated = warnings.iter().filter(|(_, count)| **count > 1);
        findings.extend(repeated.map(|(line, count)| format!("logged {count} times: {line}")));
        findings.extend(self.reason_findings(env, &expected));
        let fault = self.fault.map_or_else(|| env.ns.name().to_owned(), |fault| fault.to_string());
        report(&format!(
            "{fault}: lasted {:.0?}, recovered {took:.1?} after its end; warnings {warnings:?}",
            ended.since(self.began)
        ));
        FaultOutcome { statuses: env.statuses().await, before: self.before, findings }
    }
}

/// What a fault has left behind.
pub(crate) struct FaultOutcome {
    pub(crate) statuses: Statuses,
    pub(crate) before: Statuses,
    pub(crate) findings: Vec<String>,
}

impl FaultOutcome {
    /// Panics unless all checks pass and a new process of the operator changes no status.
    #[track_caller]
    pub(crate) fn assert_recovered(self, env: &mut FailoverEnv) -> impl Future<Output = ()> {
        self.compare(env, false, Location::caller())
    }

    /// The same, and a new process that finds no status at all writes the same ones.
    #[track_caller]
    pub(crate) fn assert_recovered_from_nothing(self, env: &mut FailoverEnv) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let again = Self { statuses: self.statuses.clone(), before: Statuses::new(), findings: Vec::new() };
            self.compare(env, false, caller).await;
            again.compare(env, true, caller).await;
        }
    }

    async fn compare(self, env: &mut FailoverEnv, erase: bool, caller: &'static Location<'static>) {
        let Self { statuses, mut findings, .. } = self;
        env.replace_operator(erase).await;
        let (statuses, fresh) = if erase {
            env.until_quiet(PATIENCE).await;
            (without_history(statuses), without_history(env.statuses().await))
        } else {
            (without_rising_risk(statuses), without_rising_risk(env.statuses().await))
        };
        for key in statuses.keys().chain(fresh.keys()).collect::<BTreeSet<_>>() {
            let (was, is) = (statuses.get(key), fresh.get(key));
            if was != is {
                findings.push(format!("{key} was changed by a new process:\n  was {was:?}\n  is  {is:?}"));
            }
        }
        if !findings.is_empty() {
            // Next to the lines of what happened, and not only above a long log.
            report(&format!("{caller} finds:\n{}", findings.join("\n")));
        }
        assert!(findings.is_empty(), "{caller}:\n{}\nlog:\n{}", findings.join("\n"), env.operator.logs());
    }
}
