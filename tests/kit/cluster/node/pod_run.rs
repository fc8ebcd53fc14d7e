//! Runs one Pod from its binding to its end.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use busbar::domain::time::Mono;
use busbar::testbed::control_plane::process::Signal;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::agent::{ContainerChange, ContainerEvent, REQUEST, Shared};
use super::container::{Runtime, StartError};
use super::control::{Restarts, StartedContainer};
use super::probe::{self, Outcome, Prober, Target};
use super::process::ContainerProcess;
use super::status::{ContainerState, ContainerView, Ended, StatusBuilder};
use super::volumes::Volumes;

/// Interval at which a Pod's processes are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Interval at which volumes are brought up to date; a kubelet takes up to a minute.
const VOLUME_REFRESH: Duration = Duration::from_secs(5);

/// Pause before a container or a volume that could not be prepared is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The back-off of restarts, as a kubelet's: the first restart is at once.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LONGEST_BACKOFF: Duration = Duration::from_mins(5);

/// The newest state of a Pod.
#[derive(Clone)]
pub(super) enum Observed {
    Present(Box<Pod>),
    /// Deleted, also by force.
    Gone,
}

/// One container.
struct ContainerRun {
    spec: Container,
    view: ContainerView,
    process: Option<ContainerProcess>,
    next_start: Mono,
    /// It starts again when the test says so, and not before.
    held: bool,
    startup: Option<Prober>,
    liveness: Option<Prober>,
    readiness: Option<Prober>,
}

impl ContainerRun {
    fn new(spec: Container) -> Self {
        let state = ContainerState::Waiting { reason: "ContainerCreating", message: String::new() };
        let view = ContainerView {
            name: spec.name.clone(),
            image: spec.image.clone().unwrap_or_default(),
            state,
            last: None,
            started: false,
            ready: false,
            restarts: 0,
        };
        let (next_start, startup, liveness, readiness) = (Mono::ZERO, None, None, None);
        Self { spec, view, process: None, next_start, held: false, startup, liveness, readiness }
    }

    fn wait(&mut self, error: StartError, until: Mono) {
        self.view.state = ContainerState::Waiting { reason: error.reason, message: error.message };
        self.next_start = until;
    }

    /// Sends the probes that are due; whether the container must be killed.
    fn probe(&mut self, pod: &Pod, ip: &str, now: Mono) -> bool {
        let Some(process) = &self.process else { return false };
        let target = Target { pod, container: &self.spec, process, ip };
        if !self.view.started {
            match self.startup.as_mut().map(|probe| probe.poll(now, &target)) {
                None | Some(Some(Outcome::Success)) => self.view.started = true,
                Some(outcome) => return outcome == Some(Outcome::Failure),
            }
        }
        match self.readiness.as_mut().map(|probe| probe.poll(now, &target)) {
            None => self.view.ready = true,
            Some(Some(outcome)) => self.view.ready = outcome == Outcome::Success,
            Some(None) => {}
        }
        self.liveness.as_mut().and_then(|probe| probe.poll(now, &target)) == Some(Outcome::Failure)
    }
}

/// A Pod and its containers.
pub(super) struct PodRun {
    shared: Arc<Shared>,
    runtime: Runtime,
    pod: Pod,
    volumes: Volumes,
    next_volumes: Mono,
    volumes_ready: bool,
    containers: Vec<ContainerRun>,
    statuses: StatusBuilder,
    published: Option<Value>,
}

impl PodRun {
    pub(super) fn new(shared: Arc<Shared>, runtime: Runtime, pod: Pod) -> Self {
        let containers = pod.spec.iter().flat_map(|spec| spec.containers.clone()).map(ContainerRun::new).collect();
        let directory = runtime.directory.join("volumes");
        let volumes =
            Volumes::new(runtime.client.clone(), runtime.place.clone(), directory, shared.claims.clone(), &pod);
        let statuses = StatusBuilder::new(&runtime.place.ip, shared.clock.now().wall);
        let (next_volumes, volumes_ready, published) = (Mono::ZERO, false, None);
        Self { shared, runtime, pod, volumes, next_volumes, volumes_ready, containers, statuses, published }
    }

    /// Runs the Pod until it is deleted, or until the agent ends.
    pub(super) async fn run(mut self, mut pods: watch::Receiver<Observed>) {
        loop {
            match pods.borrow_and_update().clone() {
                Observed::Present(pod) => self.pod = *pod,
                Observed::Gone => return self.kill(),
            }
            if self.pod.metadata.deletion_timestamp.is_some() {
                // A forced deletion: the API server removes the object itself. A kubelet would give two seconds; here it
                // is the loss of a node, of which the processes notice nothing.
                if self.grace().is_zero() {
                    return self.kill();
                }
                return self.terminate(&mut pods).await;
            }
            self.step().await;
            self.publish().await;
            tokio::select! {
                changed = pods.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    fn policy(&self) -> &str {
        self.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always")
    }

    fn restarts(&self, exit_code: i32) -> bool {
        match self.policy() {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            _ => true,
        }
    }

    /// The time that containers have between SIGTERM and SIGKILL.
    fn grace(&self) -> Duration {
        let declared = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let seconds = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(declared);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    async fn step(&mut self) {
        let now = self.shared.clock.now();
        if now.mono >= self.next_volumes {
            let updated = self.prepare().await;
            self.next_volumes = now.mono + if updated.is_ok() { VOLUME_REFRESH } else { RETRY };
            self.volumes_ready |= updated.is_ok();
            if let Err(message) = updated {
                // A container that runs goes on with the files that it has.
                for container in self.containers.iter_mut().filter(|container| container.process.is_none()) {
                    let error = StartError { reason: "ContainerCreating", message: message.clone() };
                    container.wait(error, self.next_volumes);
                }
            }
        }
        for index in 0..self.containers.len() {
            self.step_container(index).await;
        }
    }

    async fn prepare(&mut self) -> Result<(), String> {
        if self.pod.spec.as_ref().is_some_and(|spec| spec.init_containers.iter().flatten().next().is_some()) {
            return Err("init containers not supported by the node agent".to_owned());
        }
        let update = self.volumes.update(&self.pod, self.shared.clock.now().wall);
        tokio::time::timeout(REQUEST, update).await.unwrap_or_else(|_| Err("timed out".to_owned()))
    }

    async fn step_container(&mut self, index: usize) {
        let (now, grace) = (self.shared.clock.now(), self.grace());
        let container = &mut self.containers[index];
        if let Some(status) = container.process.as_ref().and_then(ContainerProcess::exited) {
            self.ended(index, status);
            return;
        }
        if container.process.is_some() {
            if container.probe(&self.pod, &self.runtime.place.ip, now.mono) {
                // The next look finds its exit status.
                if let Some(process) = &container.process {
                    process.stop(grace).await;
                }
            }
            return;
        }
        let finished = matches!(&container.view.state, ContainerState::Ended(_));
        let uid = self.pod.uid().unwrap_or_default();
        if container.held && self.shared.control.take_released(&uid) {
            container.held = false;
        }
        if finished || container.held || !self.volumes_ready || now.mono < container.next_start {
            return;
        }
        let limit = self.shared.memory_limit();
        match self.runtime.start(&self.pod, &container.spec, &self.volumes, limit).await {
            Ok(process) => {
                self.shared.control.started(StartedContainer {
                    namespace: self.pod.namespace().unwrap_or_default(),
                    pod: self.pod.name_any(),
                    uid,
                    ip: self.runtime.place.ip.clone(),
                    process: process.clone(),
                });
                let started = self.shared.clock.now();
                let prober = |probe: Option<&_>| probe.map(|probe| Prober::new(probe, started.mono));
                container.startup = prober(container.spec.startup_probe.as_ref());
                // A test that pauses a process decides when it goes on.
                let liveness = container.spec.liveness_probe.as_ref();
                container.liveness = prober(liveness.filter(|_| self.shared.control.restarts == Restarts::ByPolicy));
                container.readiness = prober(container.spec.readiness_probe.as_ref());
                container.view.state = ContainerState::Running { started: started.wall };
                container.view.restarts += u32::from(container.view.last.is_some());
                container.process = Some(process);
                self.report(index, ContainerChange::Started);
            }
            Err(error) => container.wait(error, now.mono + RETRY),
        }
    }

    /// Records the end of a container's process, and when it starts again.
    fn ended(&mut self, index: usize, status: ExitStatus) {
        let now = self.shared.clock.now();
        let exit_code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
        let again = self.pod.metadata.deletion_timestamp.is_none() && self.restarts(exit_code);
        let container = &mut self.containers[index];
        let started = match &container.view.state {
            ContainerState::Running { started } => *started,
            _ => now.wall,
        };
        let ended = Ended { started, finished: now.wall, exit_code };
        (container.view.started, container.view.ready, container.process) = (false, false, None);
        if again && self.shared.control.restarts == Restarts::ByTest {
            container.held = true;
            let message = "back-off until the test ends it".to_owned();
            container.wait(StartError { reason: "CrashLoopBackOff", message }, now.mono);
            container.view.last = Some(ended);
        } else if again {
            let doubled = container.view.restarts.checked_sub(1).map(|n| FIRST_BACKOFF * 2_u32.pow(n.min(5)));
            let pause = doubled.unwrap_or_default().min(LONGEST_BACKOFF);
            let message = format!("back-off {}s restarting failed container", pause.as_secs());
            container.wait(StartError { reason: "CrashLoopBackOff", message }, now.mono + pause);
            container.view.last = Some(ended);
        } else {
            container.view.state = ContainerState::Ended(ended);
        }
        self.report(index, ContainerChange::Ended(exit_code));
    }

    fn report(&self, index: usize, change: ContainerChange) {
        let container = &self.containers[index];
        self.shared.running.set(&self.pod, &container.spec, container.process.as_ref().map(ContainerProcess::pid));
        self.shared.report(ContainerEvent {
            namespace: self.pod.namespace().unwrap_or_default(),
            pod: self.pod.name_any(),
            uid: self.pod.uid().unwrap_or_default(),
            container: container.spec.name.clone(),
            at: self.shared.clock.now().wall,
            change,
        });
    }

    /// Writes the status if it changed.
    async fn publish(&mut self) {
        let views: Vec<_> = self.containers.iter().map(|container| container.view.clone()).collect();
        let restarts = views.iter().any(|view| match &view.state {
            ContainerState::Ended(ended) => {
                self.restarts(ended.exit_code) && self.pod.metadata.deletion_timestamp.is_none()
            }
            _ => true,
        });
        let status = self.statuses.status(&self.pod, &views, restarts, self.shared.clock.now().wall);
        if self.published.as_ref() == Some(&status) {
            return;
        }
        // The UID, so that a new Pod of the same name does not get the status of the old.
        let patch = json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        let (api, name, patch) = (self.api(), self.pod.name_any(), Patch::Merge(patch));
        let parameters = PatchParams::default();
        let written = tokio::time::timeout(REQUEST, api.patch_status(&name, &parameters, &patch)).await;
        // After a failure the next look tries again.
        self.published = matches!(written, Ok(Ok(_))).then_some(status);
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.runtime.client.clone(), &self.pod.namespace().unwrap_or_default())
    }

    /// Kills all processes at once.
    fn kill(&mut self) {
        for index in 0..self.containers.len() {
            if let Some(process) = self.containers[index].process.take() {
                process.kill();
                if let Some(status) = process.exited() {
                    self.ended(index, status);
                }
            }
        }
    }

    /// Ends a Pod that is being deleted: hooks, SIGTERM, after the grace period SIGKILL, and the removal of the object.
    async fn terminate(&mut self, pods: &mut watch::Receiver<Observed>) {
        let forced = async {
            while !matches!(*pods.borrow_and_update(), Observed::Gone) {
                if pods.changed().await.is_err() {
                    return;
                }
            }
        };
        for index in 0..self.containers.len() {
            if self.containers[index].process.is_some() {
                self.report(index, ContainerChange::Stopping);
            }
        }
        let ended = {
            let grace = self.grace();
            let work = async {
                self.pre_stop().await;
                for process in self.containers.iter().filter_map(|container| container.process.as_ref()) {
                    // It may have ended by itself.
                    drop(process.try_signal(Signal::Term));
                }
                while self.containers.iter().any(|container| container.process.is_some()) {
                    for index in 0..self.containers.len() {
                        if let Some(status) = self.containers[index].process.as_ref().and_then(ContainerProcess::exited)
                        {
                            self.ended(index, status);
                        }
                    }
                    tokio::time::sleep(TICK / 2).await;
                }
            };
            tokio::select! {
                result = tokio::time::timeout(grace, work) => result.is_ok(),
                () = forced => false,
            }
        };
        if !ended {
            self.kill();
        }
        self.publish().await;
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        // Gone already after a forced deletion.
        drop(self.api().delete(&self.pod.name_any(), &parameters).await);
    }

    async fn pre_stop(&self) {
        for container in &self.containers {
            let hook = container.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
            let (Some(hook), Some(process)) = (hook, &container.process) else { continue };
            let target = Target { pod: &self.pod, container: &container.spec, process, ip: &self.runtime.place.ip };
            // The outcome of a hook changes nothing.
            if let Some(action) = &hook.exec {
                probe::run(action, &target).await;
            } else if let Some(action) = &hook.http_get {
                probe::http_get(action, &target).await;
            } else if let Some(sleep) = &hook.sleep {
                tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            }
        }
    }
}

impl Drop for PodRun {
    /// A node that ends takes its processes with it, also those that a test still refers to.
    fn drop(&mut self) {
        for process in self.containers.iter().filter_map(|container| container.process.as_ref()) {
            process.kill();
        }
    }
}
