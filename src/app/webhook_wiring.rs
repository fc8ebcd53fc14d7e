//! Wires the webhooks: what accepts them on every replica, and what acts on them on the leader.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::app::base_deps::BaseDeps;
use crate::app::error::AppError;
use crate::app::process_webhooks::ProcessWebhooks;
use crate::controllers::Ctx;
use crate::work::webhooks::{WebhookDeps, WebhookJobs, WebhookWorker};

/// What the gateway accepts webhooks with.
pub(super) struct AcceptedWebhooks {
    /// How they are verified.
    pub(super) rules: Arc<ProcessWebhooks>,
    /// Notified when one was stored.
    pub(super) stored: Arc<Notify>,
}

/// The webhooks of this process.
pub(super) struct Webhooks {
    /// For the gateway.
    pub(super) accepting: AcceptedWebhooks,
    /// The task of the leader.
    pub(super) worker: WebhookWorker,
}

/// Builds it.
///
/// # Errors
/// If a metric is registered already.
pub(super) fn webhooks(base: &BaseDeps<'_>, ctx: &Arc<Ctx>, identity: &str) -> Result<Webhooks, AppError> {
    let (rules, stored) = (Arc::new(ProcessWebhooks::new(Arc::clone(ctx))), Arc::new(Notify::new()));
    let deps = WebhookDeps {
        clock: base.clock,
        jobs: Arc::clone(&rules) as Arc<dyn WebhookJobs>,
        ledger: Arc::clone(&base.ledger),
        stored: Arc::clone(&stored),
        tasks: base.tasks.effects.clone(),
    };
    let worker = WebhookWorker::new(deps, identity, base.metrics)?;
    Ok(Webhooks { accepting: AcceptedWebhooks { rules, stored }, worker })
}
