//! stub
use std::sync::Arc;
use jiff::Timestamp;
use crate::domain::key::ObjectKey;
use crate::ledger::{RunId, RunTrigger};
use crate::provider::live::Live;
use crate::sync::plan::SyncPlan;
/// x
pub struct Active { /// x
 pub id: RunId, /// x
 pub trigger: RunTrigger, /// x
 pub started: Timestamp }
/// x
pub struct SyncPool {}
impl SyncPool {
    /// x
    pub fn new(_: Arc<dyn crate::ledger::Ledger>, _: crate::work::poke::Pokes, _: crate::clock::Clock, _: &crate::metrics::Metrics, _: &str, _: usize) -> Result<Self, crate::metrics::MetricsError> { Ok(Self{}) }
    /// x
    pub async fn run(&self, s: tokio_util::sync::CancellationToken) { s.cancelled().await }
    /// x
    pub fn active(&self, _: &ObjectKey) -> Option<Active> { None }
    /// x
    pub fn start(&self, _: SyncPlan, _: Arc<Live>, _: RunId, _: RunTrigger, _: Option<Timestamp>) {}
    /// x
    pub fn cancel(&self, _: &ObjectKey) {}
}
