//! The status of a Pod, from the states of its containers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The end of a container's process.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) exit_code: i32,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ContainerState {
    Waiting { reason: &'static str, message: String },
    Running { started: Timestamp },
    Ended(Ended),
}

/// A container, as the status shows it.
#[derive(Clone, Debug)]
pub(super) struct ContainerView {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) state: ContainerState,
    pub(super) last: Option<Ended>,
    pub(super) started: bool,
    pub(super) ready: bool,
    pub(super) restarts: u32,
}

/// A time as in objects: whole seconds.
pub(super) fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl ContainerView {
    fn state(state: &ContainerState) -> Value {
        match state {
            ContainerState::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            ContainerState::Running { started } => json!({"running": {"startedAt": text(*started)}}),
            ContainerState::Ended(ended) => Self::ended(ended),
        }
    }

    fn ended(ended: &Ended) -> Value {
        json!({"terminated": {
            "exitCode": ended.exit_code,
            "reason": if ended.exit_code == 0 { "Completed" } else { "Error" },
            "startedAt": text(ended.started),
            "finishedAt": text(ended.finished),
        }})
    }

    fn status(&self) -> Value {
        json!({
            "name": self.name,
            "image": self.image,
            "imageID": format!("process://{}", self.image),
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": Self::state(&self.state),
            "lastState": self.last.as_ref().map_or(json!({}), Self::ended),
        })
    }
}

/// The phase: `Succeeded` and `Failed` are final, so the caller says whether containers that ended start again.
fn phase(containers: &[ContainerView], restarts: bool) -> &'static str {
    let codes: Vec<_> = containers
        .iter()
        .filter_map(|c| if let ContainerState::Ended(ended) = &c.state { Some(ended.exit_code) } else { None })
        .collect();
    if !restarts && codes.len() == containers.len() {
        return if codes.iter().all(|code| *code == 0) { "Succeeded" } else { "Failed" };
    }
    let begun = |c: &ContainerView| !matches!(c.state, ContainerState::Waiting { .. }) || c.last.is_some();
    if containers.iter().all(begun) { "Running" } else { "Pending" }
}

/// Builds the statuses of one Pod.
pub(super) struct StatusBuilder {
    /// Status and transition of our conditions.
    conditions: BTreeMap<&'static str, (bool, Timestamp)>,
    started: Timestamp,
    ip: String,
}

impl StatusBuilder {
    pub(super) fn new(ip: &str, now: Timestamp) -> Self {
        Self { conditions: BTreeMap::new(), started: now, ip: ip.to_owned() }
    }

    /// The status. `restarts`: whether a container that has ended starts again.
    pub(super) fn status(&mut self, pod: &Pod, containers: &[ContainerView], restarts: bool, now: Timestamp) -> Value {
        let phase = phase(containers, restarts);
        let ready = phase == "Running" && containers.iter().all(|container| container.ready);
        let set = phase != "Pending";
        let own =
            [("PodReadyToStartContainers", set), ("Initialized", true), ("ContainersReady", ready), ("Ready", ready)];
        let mut list: Vec<Value> = Vec::new();
        for (name, value) in own {
            let entry = self.conditions.entry(name).or_insert((value, now));
            if entry.0 != value {
                *entry = (value, now);
            }
            let reason = (name.ends_with("Ready") && !value).then_some(match phase {
                "Succeeded" => "PodCompleted",
                "Failed" => "PodFailed",
                _ => "ContainersNotReady",
            });
            let status = if value { "True" } else { "False" };
            list.push(json!({"type": name, "status": status, "reason": reason, "lastTransitionTime": text(entry.1)}));
        }
        // Those of others, such as PodScheduled and DisruptionTarget.
        let current = json!(pod.status);
        let foreign = current["conditions"].as_array().cloned().unwrap_or_default();
        list.extend(foreign.into_iter().filter(|c| !own.iter().any(|(name, _)| c["type"] == *name)));
        json!({
            "phase": phase,
            "conditions": list,
            "hostIP": "127.0.0.1",
            "hostIPs": [{"ip": "127.0.0.1"}],
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "startTime": text(self.started),
            "containerStatuses": containers.iter().map(ContainerView::status).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: ContainerState) -> ContainerView {
        let (name, image) = ("a".to_owned(), "a".to_owned());
        ContainerView { name, image, state, last: None, started: true, ready: true, restarts: 0 }
    }

    fn ended(exit_code: i32) -> ContainerState {
        ContainerState::Ended(Ended { started: Timestamp::UNIX_EPOCH, finished: Timestamp::UNIX_EPOCH, exit_code })
    }

    #[test]
    fn the_phase_is_that_of_all_containers() {
        let running = || ContainerState::Running { started: Timestamp::UNIX_EPOCH };
        let waiting = || ContainerState::Waiting { reason: "ContainerCreating", message: String::new() };
        for (states, restarts, expected) in [
            (vec![running(), waiting()], true, "Pending"),
            (vec![running(), ended(1)], false, "Running"),
            (vec![ended(0), ended(1)], true, "Running"),
            (vec![ended(0), ended(1)], false, "Failed"),
            (vec![ended(0), ended(0)], false, "Succeeded"),
        ] {
            let views: Vec<_> = states.into_iter().map(view).collect();
            assert_eq!(phase(&views, restarts), expected, "{views:?}");
        }
    }
}
