//! The partitions of a run: those that the job lists, and one for each record of another job.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::context::RunContext;
use super::report::RunError;
use crate::domain::run_reason::RunReason;
use crate::ledger::Ledger;
use crate::profile::Stream;
use crate::settings::sync_plan::{Partition, PartitionsFromPlan, SyncPlan};

/// Most partitions of a job.
pub const MAX_PARTITIONS: usize = 10_000;
/// Partitions that a run walks always in the same order. More may not fit into one run: then each run starts at another
/// one, so that none is always the last.
const MAX_ORDERED: usize = 256;

/// The plan with the partitions of this run: those that the records of another job name are added, and of a resync only
/// its own are left.
pub(super) async fn of_run<'p>(plan: &'p SyncPlan, cx: &RunContext<'_>) -> Result<Cow<'p, SyncPlan>, RunError> {
    let chosen = plan.resync.iter().flat_map(|resync| &resync.partitions).collect::<BTreeSet<_>>();
    if plan.partitions_from.is_none() && chosen.is_empty() {
        return Ok(Cow::Borrowed(plan));
    }
    let mut own = plan.clone();
    if let Some(source) = &plan.partitions_from {
        own.partitions.extend(stored(plan, source, cx.ledger).await?);
    }
    if !chosen.is_empty() {
        own.partitions.retain(|partition| chosen.contains(&partition.name));
    }
    let count = own.partitions.len();
    if count > MAX_PARTITIONS {
        let detail = format!("more than {MAX_PARTITIONS} partitions: split the job");
        return Err(RunError::from(RunReason::ParameterInvalid).with_detail(detail));
    }
    if count > MAX_ORDERED {
        let first = usize::try_from(cx.run.0.as_u128() % count as u128).unwrap_or_default();
        own.partitions.rotate_left(first);
    }
    Ok(Cow::Owned(own))
}

/// What a run without partitions says, if it has none.
pub(super) fn note(plan: &SyncPlan) -> Option<String> {
    let source = plan.partitions_from.as_ref().filter(|_| plan.partitions.is_empty())?;
    Some(format!("no partitions: SyncJob {:?} has stored no record with the field {:?}", source.job, source.field))
}

/// The partitions that the records of another job name, without those that the job lists itself: by their name, or under
/// another one with the same parameters. Read twice, their records would be stored twice.
pub(crate) async fn stored(
    plan: &SyncPlan,
    source: &PartitionsFromPlan,
    ledger: &dyn Ledger,
) -> Result<Vec<Partition>, RunError> {
    let (job, limit) = (plan.job.sibling(source.job.as_str()), u32::try_from(MAX_PARTITIONS + 1).unwrap_or(u32::MAX));
    let values = ledger.partition_values(&job, &source.field, limit).await;
    let mut values = values.map_err(|error| RunError::from(&error))?;
    values.retain(|value| !plan.partitions.iter().any(|listed| listed.name == *value));
    let parameter = parameter(&plan.stream, source);
    let listed: BTreeSet<String> = plan.partitions.iter().filter_map(|partition| plan.source(partition)).collect();
    let mut named: Vec<Partition> =
        values.into_iter().map(|value| partition(&plan.stream, source, &parameter, value)).collect();
    named.retain(|partition| plan.source(partition).is_none_or(|source| !listed.contains(&source)));
    Ok(named)
}

/// The parameter that a value is for: that of the field's name, else the account's, else the only one that is required
/// and not set.
fn parameter(stream: &Stream, source: &PartitionsFromPlan) -> String {
    let is_open = |name: &str| !source.given.contains_key(name);
    if stream.parameters.contains_key(&source.field) {
        return source.field.clone();
    }
    let account = stream.account.as_ref().and_then(|account| account.parameter.as_ref());
    if let Some(parameter) = account.filter(|parameter| is_open(parameter)) {
        return parameter.clone();
    }
    let open: Vec<&str> = stream.required_parameters().into_iter().filter(|name| is_open(name)).collect();
    match open.as_slice() {
        [only] => (*only).to_owned(),
        _ => source.field.clone(),
    }
}

/// The partition of a value. One that the parameter does not allow fails when it is walked, by itself: see [`check`].
fn partition(stream: &Stream, source: &PartitionsFromPlan, parameter: &str, value: String) -> Partition {
    let given: BTreeMap<String, String> =
        source.given.clone().into_iter().chain([(parameter.to_owned(), value.clone())]).collect();
    let parameters = stream.effective_values(&given, &source.endpoint).unwrap_or_else(|_| {
        let mut unchecked = source.endpoint.clone();
        unchecked.extend(given);
        unchecked
    });
    Partition { name: value, parameters }
}

/// Checks the parameters of a partition that may come from a record.
pub(super) fn check(plan: &SyncPlan, partition: &Partition) -> Result<(), RunError> {
    if plan.partitions_from.is_none() {
        return Ok(());
    }
    let is_own = |name: &&String| plan.stream.parameters.contains_key(*name);
    let own = partition.parameters.iter().filter(|(name, _)| is_own(name));
    let own: BTreeMap<String, String> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    match plan.stream.effective_values(&own, &BTreeMap::new()) {
        Ok(_) => Ok(()),
        Err(error) => Err(RunError::from(RunReason::ParameterInvalid).with_detail(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::tests::{plan, stream};

    fn source(field: &str, given: &[(&str, &str)]) -> PartitionsFromPlan {
        PartitionsFromPlan {
            job: "accounts".into(),
            connection: "bank-a".into(),
            stream: "accounts".into(),
            field: field.into(),
            given: given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            endpoint: BTreeMap::new(),
        }
    }

    #[test]
    fn a_value_is_for_the_parameter_of_the_fields_name_or_for_the_account() {
        let stream = stream(10);
        assert_eq!(parameter(&stream, &source("accountId", &[])), "accountId");
        assert_eq!(parameter(&stream, &source("id", &[])), "accountId");
        let without = Stream { account: None, ..stream.clone() };
        assert_eq!(parameter(&without, &source("id", &[])), "accountId", "the only one that is required");
        assert_eq!(parameter(&without, &source("id", &[("accountId", "a")])), "id");
    }

    #[test]
    fn a_value_that_is_not_allowed_fails_its_partition_alone() {
        let plan = SyncPlan { partitions_from: Some(source("id", &[])), ..plan(10) };
        let of = |value: &str| partition(&plan.stream, &source("id", &[]), "accountId", value.to_owned());
        let good = of("acc-1");
        assert_eq!(good.parameters.get("accountId").map(String::as_str), Some("acc-1"));
        assert_eq!(check(&plan, &good), Ok(()));
        let long = "x".repeat(500);
        let error = check(&plan, &of(&long)).unwrap_err();
        assert_eq!(error.reason, RunReason::ParameterInvalid);
        assert!(!error.detail.unwrap().contains(&long), "the value is not shown");
    }

    #[test]
    fn a_job_without_records_is_said_to_have_no_partitions() {
        let mut plan = plan(10);
        assert_eq!(note(&plan), None);
        (plan.partitions, plan.partitions_from) = (Vec::new(), Some(source("id", &[])));
        assert_eq!(
            note(&plan).as_deref(),
            Some("no partitions: SyncJob \"accounts\" has stored no record with the field \"id\"")
        );
    }
}
