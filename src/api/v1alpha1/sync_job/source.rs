//! What a `SyncJob` asks for, part by part.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::common::LocalRef;
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::rule;
use crate::api::v1alpha1::text::{EntryName, Word};

/// A part that is fetched apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// Name of the part, unique in the list, and the key of its cursor; required. At most 63 characters. Example: `name: acc-1`.
    pub name: EntryName,
    /// Values for this part, laid over the job's; at most 16, each at most 256 characters. Unset: the job's.
    /// Example: `parameters: {accountId: acc-1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rule::word_keys())]
    pub parameters: Option<Parameters>,
}

/// Partitions out of another job's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionsFrom {
    /// The job whose records are taken; required. Example: `syncJobRef: {name: accounts}`.
    pub sync_job_ref: LocalRef,
    /// The field of each record that becomes the partition's name and parameter; required. Example: `field: id`.
    pub field: Word,
}
