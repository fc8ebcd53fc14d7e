//! `spec.partitionsFrom`: the job whose records become partitions, and cycles of such references. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::v1alpha1::SyncJob;
use crate::api::v1alpha1::reasons::Reason;
use crate::api::v1alpha1::sync_job::SyncJobSpec;
use crate::domain::key::ObjectKey;
use crate::resolve::job_stream::stream_name;
use crate::resolve::spec_error::SpecError;
use crate::settings::Settings;
use crate::settings::sync_plan::PartitionsFromPlan;

/// What `spec.partitionsFrom` of the job `key` refers to; `None` if it is not set. `find` looks up a job.
///
/// # Errors
/// A job that is not found, which may be created yet; and a cycle, which only a change of a spec ends.
pub fn partitions_from(
    key: &ObjectKey,
    spec: &SyncJobSpec,
    connection: &Settings,
    find: impl Fn(&ObjectKey) -> Option<Arc<SyncJob>>,
) -> Result<Option<PartitionsFromPlan>, SpecError> {
    let Some(from) = &spec.partitions_from else { return Ok(None) };
    let name = &*from.sync_job_ref.name;
    check_cycle(key, name, &find)?;
    let source = find(&key.sibling(name)).ok_or_else(|| not_found(name))?;
    let stream = stream_name(&source.spec).map(ToOwned::to_owned).ok_or_else(|| {
        SpecError::invalid("partitionsFrom.syncJobRef", format_args!("SyncJob {name:?} has no stream of a profile"))
    })?;
    Ok(Some(PartitionsFromPlan {
        job: name.to_owned(),
        connection: source.spec.connection_ref.name.to_string(),
        stream,
        field: from.field.to_string(),
        given: spec.parameters.as_deref().cloned().unwrap_or_default(),
        endpoint: connection.parameters().clone(),
    }))
}

fn not_found(name: &str) -> SpecError {
    let message = format!("SyncJob {name:?} (spec.partitionsFrom.syncJobRef) not found: create it in this namespace");
    SpecError::waiting(Reason::SyncJobNotFound, message)
}

/// Follows the references from `key`: each job waits for the records of the next, so none of a cycle would ever run.
fn check_cycle(
    key: &ObjectKey,
    first: &str,
    find: &impl Fn(&ObjectKey) -> Option<Arc<SyncJob>>,
) -> Result<(), SpecError> {
    let (mut path, mut seen) = (vec![key.name.to_string()], BTreeSet::from([key.name.to_string()]));
    let mut next = Some(first.to_owned());
    while let Some(name) = next {
        path.push(name.clone());
        if !seen.insert(name.clone()) {
            let path = path.join(" → ");
            let message = format!(
                "spec.partitionsFrom.syncJobRef is part of a cycle or leads to one ({path}): each job would wait for \
                 the records of the next; remove partitionsFrom from one of them"
            );
            return Err(SpecError::stalled(Reason::ReferenceCycle, message));
        }
        let job = find(&key.sibling(name.as_str()));
        next = job.and_then(|job| job.spec.partitions_from.as_ref().map(|from| from.sync_job_ref.name.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::profile::{Environment, Profiles};
    use crate::settings::Draft;

    type Jobs = HashMap<&'static str, Arc<SyncJob>>;

    fn job(from: Option<&str>) -> Arc<SyncJob> {
        let from = from.map_or(String::new(), |name| {
            format!(", partitionsFrom: {{syncJobRef: {{name: {name}}}, field: id}}, parameters: {{limit: '5'}}")
        });
        let text = format!("{{connectionRef: {{name: bank}}, interval: 1h, stream: accounts{from}}}");
        Arc::new(SyncJob::new("j", serde_yaml::from_str(&text).unwrap()))
    }

    fn resolved(jobs: &Jobs, name: &'static str) -> Result<Option<PartitionsFromPlan>, SpecError> {
        let draft = Draft::new(Profiles::builtin().unwrap().get("mono").unwrap(), Environment::Sandbox);
        let connection = Settings::resolve(draft).unwrap();
        partitions_from(&ObjectKey::new("team", name), &jobs[name].spec, &connection, |key| {
            jobs.get(&*key.name).cloned()
        })
    }

    #[test]
    fn the_records_of_another_job_are_found_by_its_connection_and_stream() {
        let jobs = Jobs::from([("books", job(Some("accounts"))), ("accounts", job(None)), ("lost", job(Some("gone")))]);
        let from = resolved(&jobs, "books").unwrap().unwrap();
        assert_eq!(
            (from.job.as_str(), from.connection.as_str(), from.stream.as_str()),
            ("accounts", "bank", "accounts")
        );
        assert_eq!((from.field.as_str(), from.given["limit"].as_str()), ("id", "5"));
        assert_eq!(resolved(&jobs, "accounts").unwrap(), None);
        let lost = resolved(&jobs, "lost").unwrap_err();
        assert_eq!((lost.reason, lost.waiting), (Reason::SyncJobNotFound, true), "it may be created yet");
    }

    #[test]
    fn a_cycle_of_any_length_is_stalled_for_each_job_that_leads_to_it() {
        let jobs = Jobs::from([
            ("itself", job(Some("itself"))),
            ("a", job(Some("b"))),
            ("b", job(Some("c"))),
            ("c", job(Some("a"))),
            ("outside", job(Some("a"))),
        ]);
        for name in ["itself", "a", "b", "c", "outside"] {
            let error = resolved(&jobs, name).unwrap_err();
            assert_eq!((error.reason, error.waiting), (Reason::ReferenceCycle, false), "{name}");
        }
        assert!(resolved(&jobs, "b").unwrap_err().message.contains("b → c → a → b"));
    }
}
