//! Upserts and lists documents: inserts new ones, updates changed ones, skips equal ones.

use rusqlite::{Row, params};

use super::codec::{OperationName, get, instant, millis, stored_enum};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::owned_page::OwnedPage;
use super::read::Query;
use super::upsert::count;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::KeyQuality;
use crate::ledger::document::StoredDocument;
use crate::ledger::error::LedgerError;
use crate::ledger::page::PageCounts;
use crate::ledger::record::TransactionFilter;

const LIST: OperationName = OperationName("listing documents");

const UPSERT: &str = "INSERT INTO documents (stream_id, kind, record_key, key_quality, body, content_hash, run_id, \
     created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8) \
     ON CONFLICT (stream_id, record_key) DO UPDATE SET kind = excluded.kind, \
     key_quality = excluded.key_quality, body = excluded.body, content_hash = excluded.content_hash, \
     run_id = excluded.run_id, updated_ms = excluded.updated_ms, revision = documents.revision + 1 \
     WHERE documents.content_hash IS NOT excluded.content_hash RETURNING revision";

pub(super) fn rows(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    if page.documents.is_empty() {
        return Ok(counts);
    }
    let (run, now) = (page.run.to_string(), millis(page.now));
    let mut statement = tx.prepare(UPSERT)?;
    for document in &page.documents {
        let record = &document.record;
        count(
            &mut statement,
            params![
                stream_id,
                record.kind.as_str(),
                record.key,
                record.key_quality.as_str(),
                record.body,
                document.hash,
                run,
                now,
            ],
            &mut counts,
        )?;
    }
    Ok(counts)
}

impl SqliteLedger {
    pub(super) async fn documents(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredDocument>, LedgerError> {
        let query = Query::new(
            "SELECT t.namespace, t.connection, t.stream, t.partition, x.kind, x.record_key, x.key_quality, x.body, \
             x.revision, x.created_ms, x.updated_ms FROM documents x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1",
        )
        .of_streams(filter)
        .tail(" ORDER BY x.id LIMIT ", limit);
        self.read(LIST, move |tx| query.all(tx, stored)).await
    }
}

fn stored(row: &Row<'_>) -> Result<StoredDocument, LedgerError> {
    let revision: i64 = get(row, "revision")?;
    Ok(StoredDocument {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
        record: DocumentRecord {
            kind: stored_enum(&DocumentKind::ALL, DocumentKind::as_str, &get::<String>(row, "kind")?, "kind")?,
            key: get(row, "record_key")?,
            key_quality: stored_enum(
                &KeyQuality::ALL,
                KeyQuality::as_str,
                &get::<String>(row, "key_quality")?,
                "key_quality",
            )?,
            body: get(row, "body")?,
        },
        revision: u32::try_from(revision).map_err(|_| LedgerError::Corrupt { column: "revision" })?,
        created: instant(get(row, "created_ms")?, "created_ms")?,
        updated: instant(get(row, "updated_ms")?, "updated_ms")?,
    })
}
