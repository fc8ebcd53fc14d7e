//! Lists documents.

use rusqlite::Row;

use super::codec::{OperationName, get, instant, stored_enum};
use super::database::SqliteLedger;
use super::read::Query;
use crate::domain::cursor::stream_name;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::KeyQuality;
use crate::ledger::document::StoredDocument;
use crate::ledger::error::LedgerError;
use crate::ledger::record::TransactionFilter;

const LIST: OperationName = OperationName("listing documents");

/// Selects documents with their streams, as [`stored`] reads them.
pub(super) const SELECT: &str = "SELECT t.namespace, t.connection, t.stream, t.partition, x.kind, x.record_key, x.key_quality, x.body, x.revision, \
     x.created_ms, x.updated_ms FROM documents x JOIN streams t ON t.id = x.stream_id WHERE x.deleted_ms IS NULL";

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
