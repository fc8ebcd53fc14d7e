//! The Kubernetes Job of a run (`execution: Job`). Pure.
//!
//! Its Pod runs `busbar sync` under the ID of the run. Kubernetes starts another Pod only where the first one died: an exit
//! code of `busbar sync` ends the Job, because the operator retries a failed run by its own backoff. The second Pod has the
//! same identity, so it takes the lease back at once and goes on with the run.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::maps::ResourceList;
use crate::api::{RESYNC_ID_ANNOTATION, RUN_ID_ANNOTATION, SYNC_JOB_LABEL, TRIGGER_ANNOTATION};
use crate::cluster::resource::WatchedResource as _;
use crate::settings::sync_plan::{ResyncPlan, SyncPlan};
use crate::work::pool::RunRequest;

/// Name of the container.
const CONTAINER: &str = "sync";
/// Where the Secret with the password of the ledger is mounted.
const LEDGER_FOLDER: &str = "/etc/busbar/ledger";
/// The file with the password there.
const PASSWORD: &str = "password";
/// Where the encryption keys are mounted.
const KEYS_FOLDER: &str = "/etc/busbar/keys";
/// Pods that may die of themselves before the Job fails.
const BACKOFF_LIMIT: i32 = 3;
/// How long a Job that has ended is kept, for its log.
const TTL_SECONDS: i32 = 3600;
/// What a Pod may take beside its run: to be scheduled, to pull the image, to start.
const START_ALLOWANCE: Duration = Duration::from_mins(10);
/// How long a Pod may take to end at a page boundary.
const GRACE_SECONDS: i64 = 60;
/// Longest name of a Job: its Pods have it as a label.
const MAX_NAME: usize = 63;

/// What the operator starts Jobs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// The image (`--job-image`).
    pub image: String,
    /// ServiceAccount of the Pods, in the namespace of the `SyncJob`.
    pub service_account: String,
    /// URL of the ledger, without a password.
    pub ledger: String,
    /// Secret with the password of the ledger, in the namespace of the `SyncJob`.
    pub ledger_secret: Option<String>,
    /// Secret with the encryption keys, in the namespace of the `SyncJob`.
    pub key_secret: Option<String>,
    /// Further flags, which the operator was started with.
    pub flags: Vec<String>,
}

/// The Job of the run that `request` asks for, as `plan` describes it.
pub fn job(object: &SyncJob, plan: &SyncPlan, request: RunRequest, options: &JobOptions) -> Job {
    let key = object.key();
    let name = name(&key.name, request);
    let labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "busbar".to_owned()),
        ("app.kubernetes.io/component".to_owned(), CONTAINER.to_owned()),
        (SYNC_JOB_LABEL.to_owned(), key.name.to_string()),
    ]);
    let mut annotations = BTreeMap::from([
        (RUN_ID_ANNOTATION.to_owned(), request.run.to_string()),
        (TRIGGER_ANNOTATION.to_owned(), request.trigger.as_str().to_owned()),
    ]);
    annotations.extend(plan.resync.iter().map(|resync| (RESYNC_ID_ANNOTATION.to_owned(), resync.id.clone())));
    let owner = OwnerReference {
        api_version: "busbar.dev/v1alpha1".to_owned(),
        kind: "SyncJob".to_owned(),
        name: key.name.to_string(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        // Would need the right to update the finalizers of the SyncJob.
        block_owner_deletion: None,
    };
    let deadline = (plan.run_timeout + START_ALLOWANCE).as_secs();
    let spec = JobSpec {
        backoff_limit: Some(BACKOFF_LIMIT),
        completions: Some(1),
        parallelism: Some(1),
        ttl_seconds_after_finished: Some(TTL_SECONDS),
        active_deadline_seconds: Some(i64::try_from(deadline).unwrap_or(i64::MAX)),
        pod_failure_policy: Some(failure_policy()),
        // Never two Pods of one run, even while the first is ending.
        pod_replacement_policy: Some("Failed".to_owned()),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels.clone()),
                annotations: Some(annotations.clone()),
                ..ObjectMeta::default()
            }),
            spec: Some(pod(object, &name, args(object, plan, request, &name, options), options)),
        },
        ..JobSpec::default()
    };
    Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(key.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// The name of the Job of a run: the same for the same run, also if two replicas create it.
fn name(job: &str, request: RunRequest) -> String {
    // All bits of the ID, folded: the first ones of a UUIDv7 are the time, and equal for a minute.
    let (high, low) = request.run.0.as_u64_pair();
    let folded = high ^ low;
    let end = format!("-{:08x}", (folded >> 32) ^ (folded & 0xffff_ffff));
    let start: String = job.chars().take(MAX_NAME - end.len()).collect();
    format!("{}{end}", start.trim_end_matches(['-', '.']))
}

/// An exit code of `busbar sync` ends the Job; a Pod that was evicted does not count.
fn failure_policy() -> PodFailurePolicy {
    let ended = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(CONTAINER.to_owned()),
            operator: "In".to_owned(),
            values: (1..=6).collect(),
        }),
        ..PodFailurePolicyRule::default()
    };
    let evicted = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
        ..PodFailurePolicyRule::default()
    };
    PodFailurePolicy { rules: vec![ended, evicted] }
}

/// The arguments of `busbar`.
fn args(object: &SyncJob, plan: &SyncPlan, request: RunRequest, name: &str, options: &JobOptions) -> Vec<String> {
    let mut args = vec![
        "sync".to_owned(),
        object.key().to_string(),
        format!("--identity={name}"),
        format!("--run-id={}", request.run),
        format!("--trigger={}", request.trigger.as_str()),
        format!("--ledger={}", options.ledger),
    ];
    args.extend(request.slot.map(|slot| format!("--slot={slot}")));
    if let Some(ResyncPlan { id, from, to, partitions }) = &plan.resync {
        args.push(format!("--resync={id}"));
        args.push(format!("--resync-from={from}"));
        args.push(format!("--resync-to={to}"));
        args.extend(partitions.iter().map(|name| format!("--resync-partition={name}")));
    }
    if options.ledger_secret.is_some() {
        args.push(format!("--ledger-password-file={LEDGER_FOLDER}/{PASSWORD}"));
    }
    if options.key_secret.is_some() {
        args.push(format!("--key-secret={KEYS_FOLDER}"));
    }
    args.extend(options.flags.iter().cloned());
    args
}

fn pod(object: &SyncJob, name: &str, args: Vec<String>, options: &JobOptions) -> PodSpec {
    let mut volumes =
        vec![Volume { name: "tmp".to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }];
    let mut mounts = vec![mount("tmp", "/tmp", false)];
    if let Some(secret) = &options.ledger_secret {
        volumes.push(secret_volume("ledger", secret));
        mounts.push(mount("ledger", LEDGER_FOLDER, true));
    }
    if let Some(secret) = &options.key_secret {
        volumes.push(secret_volume("keys", secret));
        mounts.push(mount("keys", KEYS_FOLDER, true));
    }
    let container = Container {
        name: CONTAINER.to_owned(),
        image: Some(options.image.clone()),
        args: Some(args),
        resources: resources(object),
        volume_mounts: Some(mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(options.service_account.clone()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        hostname: Some(name.to_owned()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(65_532),
            run_as_group: Some(65_532),
            fs_group: Some(65_532),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn secret_volume(name: &str, secret: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// `jobTemplate.resources`. Kubernetes fills in the requests from the limits where they are unset.
fn resources(object: &SyncJob) -> Option<ResourceRequirements> {
    let given = object.spec.job_template.as_ref()?.resources.as_ref()?;
    let quantities = |list: &Option<ResourceList>| list.as_ref().map(|list| list.0.clone());
    Some(ResourceRequirements {
        limits: quantities(&given.limits),
        requests: quantities(&given.requests),
        ..ResourceRequirements::default()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use uuid::Uuid;

    use super::*;
    use crate::controllers::syncjob::tests::{job as sync_job, t};
    use crate::ledger::{RunId, RunTrigger};
    use crate::sync::tests::plan;

    fn options() -> JobOptions {
        JobOptions {
            image: "registry.test/busbar:1".into(),
            service_account: "busbar-sync".into(),
            ledger: "postgres://busbar@db/ledger".into(),
            ledger_secret: Some("busbar-ledger".into()),
            key_secret: Some("busbar-keys".into()),
            flags: vec!["--allow-provider-addresses=10.0.0.0/8".into()],
        }
    }

    fn request(trigger: RunTrigger) -> RunRequest {
        let run = RunId(Uuid::from_u128(0x0123_4567_89ab_4def_8000_0000_0000_0001));
        RunRequest { run, trigger, slot: Some(t(60)) }
    }

    #[test]
    fn a_job_belongs_to_its_object_and_runs_one_run_under_its_name() {
        let built = job(&sync_job(), &plan(10), request(RunTrigger::Schedule), &options());
        let (meta, spec) = (&built.metadata, built.spec.as_ref().unwrap());
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("j-08880889"), Some("ns")));
        let owner = &meta.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("SyncJob", "u", Some(true)));
        let pod = spec.template.spec.as_ref().unwrap();
        let args = pod.containers[0].args.as_ref().unwrap();
        for arg in ["ns/j", "--identity=j-08880889", "--trigger=Schedule", "--slot=2026-03-01T12:01:00Z"] {
            assert!(args.iter().any(|given| given == arg), "{arg} {args:?}");
        }
        assert!(!args.iter().any(|arg| arg.starts_with("--resync")), "{args:?}");
        assert_eq!((spec.backoff_limit, spec.active_deadline_seconds), (Some(3), Some(3600 + 600)));
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn the_job_of_a_resync_carries_its_range() {
        let resync = ResyncPlan { id: "may".into(), from: t(0), to: t(60), partitions: vec!["a".into(), "b".into()] };
        let plan = SyncPlan { resync: Some(resync), ..plan(10) };
        let built = job(&sync_job(), &plan, request(RunTrigger::Resync), &options());
        let annotations = built.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.get(RESYNC_ID_ANNOTATION).map(String::as_str), Some("may"));
        let args = built.spec.unwrap().template.spec.unwrap().containers[0].args.clone().unwrap();
        for arg in ["--resync=may", "--resync-from=2026-03-01T12:00:00Z", "--resync-partition=b", "--trigger=Resync"] {
            assert!(args.iter().any(|given| given == arg), "{arg} {args:?}");
        }
    }

    #[test]
    fn the_longest_name_still_fits_a_label() {
        for length in [1, 52, 53, 54, 55, 80] {
            let name = name(&format!("{}a", "x-".repeat(length / 2)), request(RunTrigger::Retry));
            assert!(name.len() <= 63 && name.ends_with("-08880889") && !name.contains("--"), "{name}");
        }
    }

    #[test]
    fn two_ids_of_one_minute_are_two_names() {
        let of = |id| name("j", RunRequest { run: RunId(Uuid::from_u128(id)), ..request(RunTrigger::Manual) });
        let first = 0x0199_0000_0000_7000_8000_0000_0000_0001;
        assert_eq!(of(first), of(first));
        for other in [first + 1, first + (1 << 60), first + (1 << 80)] {
            assert_ne!(of(first), of(other), "{other:x}");
        }
    }

    #[test]
    fn resources_are_those_of_the_template() {
        let mut object = sync_job();
        assert_eq!(resources(&object), None);
        object.spec.job_template = serde_json::from_value(serde_json::json!({
            "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m"}},
        }))
        .unwrap();
        let built = resources(&object).unwrap();
        assert_eq!(built.limits.unwrap()["memory"], Quantity("256Mi".into()));
        assert_eq!(built.requests.unwrap()["cpu"], Quantity("100m".into()));
    }
}
