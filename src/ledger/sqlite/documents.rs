//! Upserts and lists documents: inserts new ones, updates changed ones, skips equal ones.

use rusqlite::{Row, params};

use super::codec::{OperationName, get, instant, millis, stored_enum};
use super::connection::Transaction;
use super::database::SqliteLedger;
use super::owned_page::OwnedPage;
use super::read::Query;
use super::upsert::count;
use crate::domain::cursor::stream_name;
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
     WHERE documents.content_hash IS NOT excluded.content_hash AND documents.content_hash IS NOT ?9 \
     RETURNING revision";

/// A document without an ID keeps its row when the version that derives its key changes.
const ADOPT_KEY: &str = "UPDATE OR IGNORE documents SET record_key = ?3 WHERE stream_id = ?1 AND record_key = ?2";

pub(super) fn rows(tx: &Transaction<'_>, stream_id: i64, page: &OwnedPage) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    if page.documents.is_empty() {
        return Ok(counts);
    }
    let (run, now) = (page.run.to_string(), millis(page.now));
    for document in &page.documents {
        if let Some(former) = &document.former_key {
            tx.execute(ADOPT_KEY, params![stream_id, former, document.record.key])?;
        }
    }
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
                document.former_hash,
            ],
            &mut counts,
        )?;
    }
    Ok(counts)
}

/// Selects documents with their streams, as [`stored`] reads them.
pub(super) const SELECT: &str = "SELECT t.namespace, t.connection, t.stream, t.partition, x.kind, x.record_key, x.key_quality, x.body, x.revision, \
     x.created_ms, x.updated_ms FROM documents x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1";

impl SqliteLedger {
    pub(super) async fn documents(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredDocument>, LedgerError> {
        let query = Query::new(SELECT).of_streams(filter).tail(" ORDER BY x.id LIMIT ", limit);
        self.read(LIST, move |tx| query.all(tx, stored)).await
    }
}

pub(super) fn stored(row: &Row<'_>) -> Result<StoredDocument, LedgerError> {
    let revision: i64 = get(row, "revision")?;
    Ok(StoredDocument {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: stream_name(&get::<String>(row, "stream")?).to_owned(),
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
