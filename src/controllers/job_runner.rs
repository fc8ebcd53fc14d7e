//! What runs `SyncJob`s as Kubernetes Jobs.

use crate::cluster::run_jobs::RunJobs;
use crate::controllers::syncjob::kubernetes_job::JobOptions;

/// Starts Jobs and watches them.
#[derive(Clone, Debug)]
pub struct JobRunner {
    /// The Jobs.
    pub jobs: RunJobs,
    /// What they are started with.
    pub options: JobOptions,
}
