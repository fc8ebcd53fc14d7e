//! Lists documents.

use sqlx::postgres::PgRow;

use super::codec::{get, small, stored_enum, timestamp};
use super::database::PostgresLedger;
use super::failure::OperationName;
use super::select::Select;
use super::transaction::read_tx;
use crate::domain::cursor::stream_name;
use crate::domain::document::{DocumentKind, DocumentRecord};
use crate::domain::record::KeyQuality;
use crate::ledger::document::StoredDocument;
use crate::ledger::error::LedgerError;
use crate::ledger::record::TransactionFilter;

const LIST: OperationName = OperationName("listing documents");

/// Selects documents with their streams, as [`stored`] reads them.
pub(super) const SELECT: &str = "SELECT t.namespace, t.connection, t.stream, t.partition, x.kind, x.record_key, \
     x.key_quality, x.body, x.revision, x.created_ms, x.updated_ms \
     FROM documents x JOIN streams t ON t.id = x.stream_id WHERE TRUE";

impl PostgresLedger {
    pub(super) async fn documents(
        &self,
        filter: &TransactionFilter,
        limit: u32,
    ) -> Result<Vec<StoredDocument>, LedgerError> {
        let select = Select::new(SELECT).of_streams(filter).number(" ORDER BY x.id LIMIT ", limit);
        let rows = read_tx!(self, LIST, |tx| tx.fetch_all(select.statement()).await)?;
        rows.iter().map(stored).collect()
    }
}

pub(super) fn stored(row: &PgRow) -> Result<StoredDocument, LedgerError> {
    let (kind, quality): (String, String) = (get(row, "kind")?, get(row, "key_quality")?);
    Ok(StoredDocument {
        namespace: get(row, "namespace")?,
        connection: get(row, "connection")?,
        stream: stream_name(&get::<String>(row, "stream")?).to_owned(),
        partition: get(row, "partition")?,
        record: DocumentRecord {
            kind: stored_enum(&DocumentKind::ALL, DocumentKind::as_str, &kind, "documents.kind")?,
            key: get(row, "record_key")?,
            key_quality: stored_enum(&KeyQuality::ALL, KeyQuality::as_str, &quality, "documents.key_quality")?,
            body: get(row, "body")?,
        },
        revision: small(row, "revision")?,
        created: timestamp(row, "created_ms")?,
        updated: timestamp(row, "updated_ms")?,
    })
}
