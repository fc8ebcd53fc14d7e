//! Watches the Kubernetes Jobs that runs are (`execution: Job`).
//!
//! Only the Jobs with our label are listed and watched. What is kept of each is small: which run of which `SyncJob` it is,
//! and whether it goes on.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::{RESYNC_ID_ANNOTATION, RUN_ID_ANNOTATION, SYNC_JOB_LABEL, TRIGGER_ANNOTATION};
use crate::cluster::client::Clients;
use crate::cluster::resource::ObjectChange;
use crate::cluster::{ApiError, call};
use crate::domain::key::{Kind, ObjectKey};
use crate::notify::KeyQueue;

/// Pause after a failed watch.
const RETRY: Duration = Duration::from_secs(2);

/// How far a Job is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// It has not ended.
    Active,
    /// Its run was recorded by its Pod, whatever the result.
    Complete,
    /// No Pod of it ended well: the run failed, or it was never recorded.
    Failed,
}

/// A Job, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunJob {
    /// Name of the Job.
    pub name: String,
    /// UID of the `SyncJob` that owns it.
    pub owner: String,
    /// The run.
    pub run: Uuid,
    /// What triggered it, as the annotation says.
    pub trigger: String,
    /// The ID of the resync that it serves.
    pub resync: Option<String>,
    /// When it was created.
    pub created: Timestamp,
    /// How far it is.
    pub phase: JobPhase,
    /// Whether it is being deleted: its Pod stops at a page boundary.
    pub deleting: bool,
}

impl RunJob {
    /// The namespace and name of its `SyncJob`, and what is kept of it; `None` for a Job that is not ours.
    fn of(job: &Job) -> Option<(ObjectKey, Self)> {
        let name = job.labels().get(SYNC_JOB_LABEL)?;
        let run = job.annotations().get(RUN_ID_ANNOTATION)?.parse().ok()?;
        let status = job.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let is =
            |type_: &str| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
        let phase = match (is("Complete") || is("SuccessCriteriaMet"), is("Failed")) {
            (true, _) => JobPhase::Complete,
            (false, true) => JobPhase::Failed,
            (false, false) => JobPhase::Active,
        };
        let owner = job.owner_references().iter().find(|owner| owner.kind == "SyncJob");
        let kept = Self {
            name: job.name_any(),
            owner: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
            run,
            trigger: job.annotations().get(TRIGGER_ANNOTATION).cloned().unwrap_or_default(),
            resync: job.annotations().get(RESYNC_ID_ANNOTATION).cloned(),
            created: job.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            phase,
            deleting: job.metadata.deletion_timestamp.is_some(),
        };
        Some((ObjectKey::new(job.namespace().unwrap_or_default(), name.as_str()), kept))
    }
}

type ByJob = HashMap<ObjectKey, BTreeMap<String, RunJob>>;

/// The Jobs of all `SyncJob` objects. Clones share them.
#[derive(Clone)]
pub struct RunJobs {
    calls: Client,
    watch: Client,
    jobs: Arc<Mutex<ByJob>>,
    /// How many watches have not listed yet.
    unlisted: Arc<AtomicUsize>,
}

impl RunJobs {
    /// Jobs that are not watched yet, by so many watches.
    pub fn new(clients: &Clients, watches: usize) -> Self {
        let (calls, watch) = (clients.calls.clone(), clients.watch.clone());
        Self { calls, watch, jobs: Arc::default(), unlisted: Arc::new(AtomicUsize::new(watches)) }
    }

    /// The Jobs of the `SyncJob` at `key` with this UID, oldest first.
    pub fn of(&self, key: &ObjectKey, uid: &str) -> Vec<RunJob> {
        let mut found: Vec<RunJob> = self
            .lock()
            .get(key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|job| job.owner == uid)
            .cloned()
            .collect();
        found.sort_by_key(|job| job.created);
        found
    }

    /// Whether every watch has listed: before that a Job may exist that is not known.
    pub fn is_ready(&self) -> bool {
        self.unlisted.load(Ordering::Acquire) == 0
    }

    /// Creates a Job. One that exists is a success: its name is that of its run.
    ///
    /// # Errors
    /// If the API server rejects it or does not respond.
    pub async fn create(&self, key: &ObjectKey, job: &Job) -> Result<(), ApiError> {
        let api: Api<Job> = Api::namespaced(self.calls.clone(), &key.namespace);
        match call(api.create(&PostParams::default(), job)).await {
            Ok(created) => {
                self.put(&created);
                Ok(())
            }
            Err(error) if error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a Job and its Pods; they get their grace period to end at a page boundary.
    ///
    /// # Errors
    /// If the API server rejects it or does not respond.
    pub async fn delete(&self, key: &ObjectKey, name: &str) -> Result<(), ApiError> {
        let api: Api<Job> = Api::namespaced(self.calls.clone(), &key.namespace);
        let how = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
        match call(api.delete(name, &how)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Watches the Jobs of a namespace (`None`: of all) until `stop`; the `SyncJob` of each that changes is added to
    /// `changes`.
    pub async fn run(self, namespace: Option<String>, changes: Arc<KeyQueue<ObjectChange>>, stop: CancellationToken) {
        let api: Api<Job> = match &namespace {
            Some(namespace) => Api::namespaced(self.watch.clone(), namespace),
            None => Api::all(self.watch.clone()),
        };
        let mut events = watcher(api, watcher::Config::default().labels(SYNC_JOB_LABEL)).boxed();
        let (mut failing, mut listed, mut listing) = (false, false, Vec::new());
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    if !matches!(event, Event::Init) && std::mem::take(&mut failing) {
                        tracing::info!("watch of Jobs re-established");
                    }
                    let is_list = matches!(event, Event::InitDone);
                    for key in self.take_in(event, namespace.as_deref(), &mut listing) {
                        changes.add(&ObjectChange::Changed(Kind::SyncJob, key));
                    }
                    if is_list && !std::mem::replace(&mut listed, true) {
                        self.unlisted.fetch_sub(1, Ordering::Release);
                    }
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "watch of Jobs failed; retrying; grant the rights in config/rbac/jobs.yaml");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }

    /// Takes in one event of the watch; returns the `SyncJob` objects that it concerns. `listing` are the Jobs of a list
    /// that has not ended.
    fn take_in(&self, event: Event<Job>, namespace: Option<&str>, listing: &mut Vec<Job>) -> Vec<ObjectKey> {
        match event {
            Event::Init => {
                listing.clear();
                Vec::new()
            }
            Event::InitApply(job) => {
                listing.push(job);
                Vec::new()
            }
            Event::InitDone => {
                let mut concerned = self.clear(namespace);
                concerned.extend(listing.drain(..).filter_map(|job| self.put(&job)));
                concerned
            }
            Event::Apply(job) => self.put(&job).into_iter().collect(),
            Event::Delete(job) => {
                RunJob::of(&job).map(|(key, kept)| self.remove(key, &kept.name)).into_iter().collect()
            }
        }
    }

    fn put(&self, job: &Job) -> Option<ObjectKey> {
        let (key, kept) = RunJob::of(job)?;
        self.lock().entry(key.clone()).or_default().insert(kept.name.clone(), kept);
        Some(key)
    }

    fn remove(&self, key: ObjectKey, name: &str) -> ObjectKey {
        let mut jobs = self.lock();
        if let Some(of_job) = jobs.get_mut(&key) {
            of_job.remove(name);
            if of_job.is_empty() {
                jobs.remove(&key);
            }
        }
        key
    }

    /// Forgets what is known of a namespace; returns what that concerns.
    fn clear(&self, namespace: Option<&str>) -> Vec<ObjectKey> {
        let mut jobs = self.lock();
        let known: Vec<ObjectKey> =
            jobs.keys().filter(|key| namespace.is_none_or(|namespace| *key.namespace == *namespace)).cloned().collect();
        for key in &known {
            jobs.remove(key);
        }
        known
    }

    fn lock(&self) -> MutexGuard<'_, ByJob> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RunJobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunJobs").field("jobs", &self.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn job(name: &str, conditions: &serde_json::Value) -> Job {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "team",
                "labels": {SYNC_JOB_LABEL: "books"},
                "annotations": {RUN_ID_ANNOTATION: "5b4e1f0a-0000-4000-8000-000000000001", TRIGGER_ANNOTATION: "Retry"},
                "ownerReferences": [{"apiVersion": "busbar.dev/v1alpha1", "kind": "SyncJob", "name": "books", "uid": "u1"}],
            },
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    #[test]
    fn the_end_of_a_job_is_told_by_its_conditions() {
        let phase = |conditions| RunJob::of(&job("a", &conditions)).unwrap().1.phase;
        assert_eq!(phase(json!([])), JobPhase::Active);
        assert_eq!(phase(json!([{"type": "Suspended", "status": "True"}])), JobPhase::Active);
        assert_eq!(phase(json!([{"type": "Complete", "status": "True"}])), JobPhase::Complete);
        assert_eq!(
            phase(json!([{"type": "Complete", "status": "False"}, {"type": "Failed", "status": "True"}])),
            JobPhase::Failed
        );
    }

    #[test]
    fn jobs_without_our_label_or_a_run_are_not_ours() {
        let mut other = job("a", &json!([]));
        other.metadata.annotations = None;
        assert!(RunJob::of(&other).is_none());
        let mut other = job("a", &json!([]));
        other.metadata.labels = None;
        assert!(RunJob::of(&other).is_none());
    }
}
