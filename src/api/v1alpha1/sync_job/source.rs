//! Partitions of a `SyncJob`.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::LocalRef;
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{EntryName, Word};

/// A partition, fetched separately with its own cursor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Name of the partition, unique in the list, and key of its cursor; required, at most 63 characters.
    /// Example: `name: acc-1`.
    pub name: EntryName,
    /// Parameters of the partition, which override those of the job; at most 16, each at most 256 characters. Unset:
    /// those of the job.
    /// Example: `parameters: {accountId: acc-1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
}

/// Partitions from the records of another `SyncJob`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionsFrom {
    /// `SyncJob` whose records are read; required. Example: `syncJobRef: {name: accounts}`.
    pub sync_job_ref: LocalRef,
    /// Field of each record that becomes name and parameter of the partition; required. Example: `field: id`.
    pub field: Word,
}
