//! What a page of a dry run would write: its transaction is made and rolled back, so that the counts are those of a run.

use super::Walk;
use super::parsed_page::ParsedPage;
use crate::domain::cursor::CursorState;
use crate::domain::row_batch::RowBatch;
use crate::ledger::{CommitScope, PageCommit};
use crate::sync::events::record_of;
use crate::sync::report::RunError;

impl Walk<'_> {
    /// Adds a page of a dry run to the preview, if one is wanted.
    pub(super) async fn preview(&self, state: &CursorState, parsed: &ParsedPage) -> Result<(), RunError> {
        let Some(sink) = self.cx.preview else { return Ok(()) };
        let page = PageCommit {
            cursor: &self.cursor_key,
            lease: self.cx.lease,
            run: self.cx.run,
            state,
            rows: &parsed.rows,
            documents: &parsed.documents,
            records: &parsed.records,
            removed: &parsed.removed,
            pending: parsed.pending.as_ref(),
            scope: CommitScope::Page,
            dead_letters: &[],
            raw: None,
            events: None,
            replayed: None,
            fetched: 0,
            conflicting: 0,
            pages: 0,
            now: self.cx.clock.now().wall,
        };
        let counts = self.cx.ledger.preview_page(page).await.map_err(|error| RunError::from(&error))?;
        let room = sink.room();
        let mut batches = RowBatch::of_records(parsed.records.get(..room).unwrap_or(&parsed.records));
        batches.push(RowBatch::of_transactions(parsed.rows.get(..room).unwrap_or(&parsed.rows)));
        batches.push(RowBatch::of_documents(parsed.documents.get(..room).unwrap_or(&parsed.documents)));
        sink.add(counts, batches.iter().flat_map(RowBatch::rows).map(record_of));
        Ok(())
    }
}
