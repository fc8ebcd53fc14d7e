//! Upserts and lists documents: inserts new ones, updates changed ones, skips equal ones.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::codec::{OperationName, get, instant, millis, stored_enum};
use super::database::SqliteLedger;
use super::read::restrict;
use super::upsert::{ROWS_PER_STATEMENT, execute};
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::KeyQuality;
use crate::ledger::document::StoredDocument;
use crate::ledger::error::LedgerError;
use crate::ledger::page::{PageCommit, PageCounts};
use crate::ledger::record::TransactionFilter;

const WRITE: OperationName = OperationName("writing documents");
const LIST: OperationName = OperationName("listing documents");

pub(super) async fn rows(
    conn: &mut SqliteConnection,
    stream_id: i64,
    page: &PageCommit<'_>,
) -> Result<PageCounts, LedgerError> {
    let mut counts = PageCounts::default();
    let (run, now) = (page.run.to_string(), millis(page.now));
    for chunk in page.documents.chunks(ROWS_PER_STATEMENT) {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "INSERT INTO documents (stream_id, kind, record_key, key_quality, body, content_hash, run_id, created_ms, \
             updated_ms) ",
        );
        sql.push_values(chunk, |mut row, record: &DocumentRecord| {
            row.push_bind(stream_id)
                .push_bind(record.kind.as_str())
                .push_bind(&record.key)
                .push_bind(record.key_quality.as_str())
                .push_bind(&record.body)
                .push_bind(record.content_hash().to_vec())
                .push_bind(&run)
                .push_bind(now)
                .push_bind(now);
        });
        sql.push(
            " ON CONFLICT (stream_id, record_key) DO UPDATE SET kind = excluded.kind, \
             key_quality = excluded.key_quality, body = excluded.body, content_hash = excluded.content_hash, \
             run_id = excluded.run_id, updated_ms = excluded.updated_ms, revision = documents.revision + 1 \
             WHERE documents.content_hash IS NOT excluded.content_hash RETURNING revision",
        );
        counts += execute(conn, sql, chunk.len(), WRITE).await?;
    }
    Ok(counts)
}

impl SqliteLedger {
    pub(super) async fn documents(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredDocument>, LedgerError> {
        let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new(
            "SELECT t.namespace, t.connection, t.stream, t.partition, x.kind, x.record_key, x.key_quality, x.body, \
             x.revision, x.created_ms, x.updated_ms FROM documents x JOIN streams t ON t.id = x.stream_id WHERE 1 = 1",
        );
        restrict(&mut sql, filter);
        sql.push(" ORDER BY x.id LIMIT ").push_bind(limit);
        let rows = sql.build().fetch_all(&self.readers).await.map_err(|e| LIST.failed(e))?;
        rows.iter().map(stored).collect()
    }
}

fn stored(row: &SqliteRow) -> Result<StoredDocument, LedgerError> {
    let revision: i64 = get(row, "revision")?;
    Ok(StoredDocument {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: get(row, "stream")?,
        partition: get(row, "partition")?,
        record: DocumentRecord {
            kind: stored_enum(&DocumentKind::ALL, DocumentKind::as_str, get(row, "kind")?, "kind")?,
            key: get(row, "record_key")?,
            key_quality: stored_enum(&KeyQuality::ALL, KeyQuality::as_str, get(row, "key_quality")?, "key_quality")?,
            body: get(row, "body")?,
        },
        revision: u32::try_from(revision).map_err(|_| LedgerError::Corrupt { column: "revision" })?,
        created: instant(get(row, "created_ms")?, "created_ms")?,
        updated: instant(get(row, "updated_ms")?, "updated_ms")?,
    })
}
