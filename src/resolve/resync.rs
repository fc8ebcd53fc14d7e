//! `spec.resync` as a range to fetch again. Pure.

use jiff::Timestamp;

use crate::api::v1alpha1::sync_job::{Resync, SyncJobSpec};
use crate::resolve::fields::instant;
use crate::resolve::spec_error::SpecError;
use crate::settings::sync_plan::ResyncPlan;

/// The resync that the spec asks for, if any.
pub fn resync(spec: &SyncJobSpec) -> Result<Option<ResyncPlan>, SpecError> {
    let Some(resync) = &spec.resync else { return Ok(None) };
    let Resync { id, from_time, to_time, partitions, reason: _ } = resync;
    let (from, to): (Timestamp, Timestamp) =
        (instant("resync.fromTime", from_time)?, instant("resync.toTime", to_time)?);
    if from >= to {
        // The schema says so too, and an object may be older than its rule.
        return Err(SpecError::invalid("resync.toTime", "must be after spec.resync.fromTime"));
    }
    let partitions: Vec<String> = partitions.iter().flatten().map(ToString::to_string).collect();
    check_partitions(spec, &partitions)?;
    Ok(Some(ResyncPlan { id: id.to_string(), from, to, partitions }))
}

/// Every named partition must exist: a misspelt one would be a resync that reads nothing and succeeds.
fn check_partitions(spec: &SyncJobSpec, named: &[String]) -> Result<(), SpecError> {
    if spec.partitions_from.is_some() {
        // Known only when a run starts.
        return Ok(());
    }
    let listed = spec.partitions.as_deref().unwrap_or_default();
    // By its index: a name may be the number of an account.
    match named.iter().position(|name| listed.iter().all(|partition| *partition.name != **name)) {
        Some(index) => {
            let field = format!("resync.partitions[{index}]");
            Err(SpecError::invalid(&field, "is not one of spec.partitions: correct the name, or remove it"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(fields: &str) -> Result<Option<ResyncPlan>, String> {
        let text = format!("{{connectionRef: {{name: bank}}, interval: 1h, stream: transactions, {fields}}}");
        let spec: SyncJobSpec = serde_yaml::from_str(&text).unwrap();
        resync(&spec).map_err(|error| error.message)
    }

    #[test]
    fn a_range_with_any_offset_is_resolved_with_its_partitions() {
        assert_eq!(resolved("suspend: false"), Ok(None));
        let fields = "partitions: [{name: a}, {name: b}], resync: {id: may, fromTime: '2029-05-01T02:00:00+02:00', \
                      toTime: '2029-06-01T00:00:00Z', partitions: [b], reason: late refunds}";
        let plan = resolved(fields).unwrap().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!((plan.from, plan.to), (at("2029-05-01T00:00:00Z"), at("2029-06-01T00:00:00Z")));
        assert_eq!((plan.id.as_str(), plan.partitions), ("may", vec!["b".to_owned()]));
    }

    #[test]
    fn an_empty_range_and_an_unknown_partition_are_refused_by_field() {
        let equal = "resync: {id: a, fromTime: '2029-05-01T02:00:00+02:00', toTime: '2029-05-01T00:00:00Z'}";
        assert!(resolved(equal).unwrap_err().contains("spec.resync.toTime"), "the same instant");
        let swapped = "resync: {id: a, fromTime: '2029-05-02T00:00:00Z', toTime: '2029-05-01T00:00:00Z'}";
        assert!(resolved(swapped).unwrap_err().contains("spec.resync.toTime"));
        let range = "fromTime: '2029-05-01T00:00:00Z', toTime: '2029-05-02T00:00:00Z'";
        for listed in ["", "partitions: [{name: acc-1}], "] {
            let unknown = resolved(&format!("{listed}resync: {{id: a, {range}, partitions: [acc-2]}}")).unwrap_err();
            assert!(unknown.contains("spec.resync.partitions[0]") && !unknown.contains("acc-2"), "{unknown}");
        }
        let later = format!(
            "partitionsFrom: {{syncJobRef: {{name: x}}, field: id}}, resync: {{id: a, {range}, partitions: [n]}}"
        );
        assert!(resolved(&later).is_ok(), "partitions that are not known yet");
    }
}
