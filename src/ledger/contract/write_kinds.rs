//! Which writes there are, and what guards each of them.

use super::delivery_writes::DeliveryWrite;
use super::guard::Guard;

/// One write.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    AcquireLease,
    ShortenLease,
    RenewLease,
    ReleaseLease,
    CommitPage,
    CommitPages,
    StagePage,
    MergeWindow,
    StartRun,
    SkipRun,
    FinishRun,
    CorrectHistory,
    AdoptSource,
    DeleteJob,
    ReplaceIdentities,
    RecordProbes,
    PruneProbes,
    Ping,
    InsertCredential,
    ReplaceCredential,
    AppendAudit,
    AppendAuditBatch,
    PruneAudit,
    TakeUsage,
    AddQuota,
    PruneQuota,
    AddDeadRequest,
    RepeatDeadRequest,
    CorrectDeadRequests,
    SettleDeadRequest,
    ReplayDeadRequest,
    DiscardDeadRequest,
    PurgeDeadRequests,
    DeleteOrphanedDeadRequests,
    PruneDeadRequests,
    CommitDecisions,
    CheckpointDecisions,
    PutScores,
    RegisterPayout,
    Delivery(DeliveryWrite),
}

impl Write {
    /// All writes.
    pub(crate) const ALL: [Self; 52] = [
        Self::AcquireLease,
        Self::ShortenLease,
        Self::RenewLease,
        Self::ReleaseLease,
        Self::CommitPage,
        Self::CommitPages,
        Self::StagePage,
        Self::MergeWindow,
        Self::StartRun,
        Self::SkipRun,
        Self::FinishRun,
        Self::CorrectHistory,
        Self::AdoptSource,
        Self::DeleteJob,
        Self::ReplaceIdentities,
        Self::RecordProbes,
        Self::PruneProbes,
        Self::Ping,
        Self::InsertCredential,
        Self::ReplaceCredential,
        Self::AppendAudit,
        Self::AppendAuditBatch,
        Self::PruneAudit,
        Self::TakeUsage,
        Self::AddQuota,
        Self::PruneQuota,
        Self::AddDeadRequest,
        Self::RepeatDeadRequest,
        Self::CorrectDeadRequests,
        Self::SettleDeadRequest,
        Self::ReplayDeadRequest,
        Self::DiscardDeadRequest,
        Self::PurgeDeadRequests,
        Self::DeleteOrphanedDeadRequests,
        Self::PruneDeadRequests,
        Self::CommitDecisions,
        Self::CheckpointDecisions,
        Self::PutScores,
        Self::RegisterPayout,
        Self::Delivery(DeliveryWrite::CreateConsumer),
        Self::Delivery(DeliveryWrite::RotateKey),
        Self::Delivery(DeliveryWrite::RemoveConsumer),
        Self::Delivery(DeliveryWrite::FillHistory),
        Self::Delivery(DeliveryWrite::RecordPublishes),
        Self::Delivery(DeliveryWrite::ConfirmDelivery),
        Self::Delivery(DeliveryWrite::Requeue),
        Self::Delivery(DeliveryWrite::PruneDeliveries),
        Self::Delivery(DeliveryWrite::AcceptWebhooks),
        Self::Delivery(DeliveryWrite::CloseWebhooks),
        Self::Delivery(DeliveryWrite::PruneWebhooks),
        Self::Delivery(DeliveryWrite::ChargeBuckets),
        Self::Delivery(DeliveryWrite::PruneBuckets),
    ];

    /// What keeps the write of a process that was replaced from undoing the work of the one that replaced it. Without a
    /// wildcard: a new write has to be decided.
    pub(crate) fn guard(self) -> Guard {
        match self {
            Self::CommitPage
            | Self::CommitPages
            | Self::StagePage
            | Self::MergeWindow
            | Self::StartRun
            | Self::AdoptSource
            | Self::DeleteJob
            | Self::ReplaceIdentities
            | Self::PruneProbes
            | Self::PruneAudit
            | Self::PruneQuota
            | Self::SettleDeadRequest
            | Self::DeleteOrphanedDeadRequests
            | Self::PruneDeadRequests
            | Self::CheckpointDecisions => Guard::Lease,
            Self::AcquireLease
            | Self::ShortenLease
            | Self::RenewLease
            | Self::ReleaseLease
            | Self::SkipRun
            | Self::FinishRun
            | Self::CorrectHistory
            | Self::InsertCredential
            | Self::ReplaceCredential
            | Self::AddDeadRequest
            | Self::RepeatDeadRequest
            | Self::CorrectDeadRequests
            | Self::AppendAuditBatch
            | Self::ReplayDeadRequest
            | Self::DiscardDeadRequest
            | Self::PurgeDeadRequests
            | Self::CommitDecisions
            | Self::PutScores
            | Self::RegisterPayout => Guard::State,
            Self::Delivery(write) => write.guard(),
            Self::RecordProbes | Self::Ping | Self::AppendAudit | Self::TakeUsage | Self::AddQuota => Guard::Addition,
        }
    }

    /// Whether its caller gets an answer although it failed: what is read is corrected in memory.
    pub(crate) fn is_optional(self) -> bool {
        self == Self::CorrectHistory
    }
}
