//! The body of a page's response, made ready to be stored with the page: outside of its transaction, on a thread for such
//! work if it is large.

use std::sync::Arc;

use uuid::Uuid;

use super::Walk;
use crate::domain::cursor::{SyncWindow, job_name};
use crate::domain::event::PageEvents;
use crate::domain::run_reason::RunReason;
use crate::ledger::raw::RawPayload;
use crate::provider::call::Response;
use crate::provider::memory::FREE_BYTES;
use crate::sync::events::page_events;
use crate::sync::raw::{self, RawBody};
use crate::sync::record::AccountInfo;
use crate::sync::report::RunError;

impl Walk<'_> {
    /// The payload to store for a page; `None` if the job stores none.
    pub(super) async fn raw_payload(
        &self,
        response: &Response,
        window: &SyncWindow,
        account: &AccountInfo,
    ) -> Result<Option<RawPayload>, RunError> {
        let keys = self.cx.account_tokens.keys();
        if self.plan.dry_run || raw::mode(self.plan.raw, keys).is_none() {
            return Ok(None);
        }
        let (memory, bytes) = (&response.memory, response.body.len());
        let for_copy = memory.another();
        if bytes > FREE_BYTES {
            for_copy.grow_to(bytes).await.map_err(|_| RunReason::MemoryExhausted)?;
        }
        let (job, retention, keys) = (self.plan.job.clone(), self.plan.raw, keys.clone());
        let (operation, account) = (self.plan.stream_name.clone(), account.clone());
        let (page_no, window) = (window.page_no, self.window_key(window));
        let (status, body, now) = (response.status.as_u16(), response.body.clone(), self.cx.clock.now().wall);
        let make = move || {
            // Random: an ID that is derived from the body would say which of some bodies it is.
            let id = Uuid::new_v4();
            let raw = RawBody {
                job: &job,
                operation: &operation,
                window: &window,
                page_no,
                id,
                status,
                account: &account,
                body: &body,
                now,
            };
            raw::payload(&raw, retention, &keys)
        };
        let payload = memory.run(bytes, make).await.map_err(|_| RunReason::InternalError)??;
        Ok(payload.map(|payload| RawPayload { body: for_copy.attach(payload.body), ..payload }))
    }

    /// The kind and the bounds of a window, as a text.
    fn window_key(&self, window: &SyncWindow) -> String {
        let kind = if job_name(&self.cursor_key.job) == self.cursor_key.job { "incremental" } else { "resync" };
        format!("{kind}/{}/{}", window.from, window.to)
    }

    /// What makes the events of a page that was read from `raw`; `None` if the job wants none.
    pub(super) fn page_events(&self, raw: Option<&RawPayload>) -> Option<Arc<dyn PageEvents>> {
        page_events(self.plan, &self.cursor_key.stream, self.cx.run, raw.map(|raw| raw.id))
    }
}
