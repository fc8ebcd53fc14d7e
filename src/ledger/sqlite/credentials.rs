//! Kept credentials: one row per connection, replaced only by who knows its version.

use std::time::Duration;

use futures::FutureExt as _;
use jiff::Timestamp;

use super::SqliteLedger;
use super::codec::{Step, get, millis};
use crate::domain::key::ObjectKey;
use crate::ledger::credentials::{CredentialStore, KeptCredential};
use crate::ledger::{Lease, LedgerError, Reply};

const LOAD: Step = Step("reading a kept credential");
const KEEP: Step = Step("keeping a credential");

impl SqliteLedger {
    async fn credential_load(&self, connection: &ObjectKey) -> Result<Option<KeptCredential>, LedgerError> {
        let mut conn = self.reader(LOAD).await?;
        let row =
            sqlx::query("SELECT version, secret, sealed FROM credentials WHERE namespace = ?1 AND connection = ?2")
                .bind(&*connection.namespace)
                .bind(&*connection.name)
                .fetch_optional(&mut *conn)
                .await
                .map_err(|e| LOAD.failed(e))?;
        row.map(|row| {
            Ok(KeptCredential {
                version: get(&row, "version")?,
                secret: get(&row, "secret")?,
                sealed: get(&row, "sealed")?,
            })
        })
        .transpose()
    }

    async fn credential_keep(
        &self,
        connection: &ObjectKey,
        kept: &KeptCredential,
        now: Timestamp,
    ) -> Result<Option<i64>, LedgerError> {
        let next = kept.version.saturating_add(1);
        // One statement for both: an INSERT that may only happen for version 0, an UPDATE that may only replace its own.
        let done = sqlx::query(
            "INSERT INTO credentials (namespace, connection, version, secret, sealed, updated_ms)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE ?3 = 1 OR EXISTS (SELECT 1 FROM credentials WHERE namespace = ?1 AND connection = ?2)
             ON CONFLICT (namespace, connection) DO UPDATE SET
                 version = excluded.version, secret = excluded.secret, sealed = excluded.sealed,
                 updated_ms = excluded.updated_ms
             WHERE credentials.version = excluded.version - 1",
        )
        .bind(&*connection.namespace)
        .bind(&*connection.name)
        .bind(next)
        .bind(&kept.secret)
        .bind(&kept.sealed)
        .bind(millis(now))
        .execute(&self.writer)
        .await
        .map_err(|e| KEEP.failed(e))?;
        Ok((done.rows_affected() == 1).then_some(next))
    }
}

impl CredentialStore for SqliteLedger {
    fn lock_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        holder: &'a str,
        ttl: Duration,
        now: Timestamp,
    ) -> Reply<'a, Option<Lease>> {
        async move {
            let name = format!("credential/{connection}");
            Ok(self.lease_acquire(&name, holder, ttl, now, None).await?.ok())
        }
        .boxed()
    }

    fn unlock_credential<'a>(&'a self, lock: &'a Lease) -> Reply<'a, ()> {
        self.lease_release(lock).boxed()
    }

    fn load_credential<'a>(&'a self, connection: &'a ObjectKey) -> Reply<'a, Option<KeptCredential>> {
        self.credential_load(connection).boxed()
    }

    fn keep_credential<'a>(
        &'a self,
        connection: &'a ObjectKey,
        kept: &'a KeptCredential,
        now: Timestamp,
    ) -> Reply<'a, Option<i64>> {
        self.credential_keep(connection, kept, now).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_credential_is_replaced_only_by_who_knows_what_it_replaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let (bank, other) = (ObjectKey::new("ns", "bank"), ObjectKey::new("ns", "other"));
        let kept = |version, text: &str| KeptCredential {
            version,
            secret: "bank@7".to_owned(),
            sealed: text.as_bytes().to_vec(),
        };
        assert!(ledger.load_credential(&bank).await.unwrap().is_none());
        assert_eq!(ledger.keep_credential(&bank, &kept(3, "x"), Timestamp::UNIX_EPOCH).await.unwrap(), None);
        assert_eq!(ledger.keep_credential(&bank, &kept(0, "a"), Timestamp::UNIX_EPOCH).await.unwrap(), Some(1));
        assert_eq!(ledger.keep_credential(&bank, &kept(0, "x"), Timestamp::UNIX_EPOCH).await.unwrap(), None);
        assert_eq!(ledger.keep_credential(&bank, &kept(1, "b"), Timestamp::UNIX_EPOCH).await.unwrap(), Some(2));
        assert_eq!(ledger.keep_credential(&bank, &kept(1, "x"), Timestamp::UNIX_EPOCH).await.unwrap(), None);
        assert_eq!(ledger.keep_credential(&other, &kept(0, "c"), Timestamp::UNIX_EPOCH).await.unwrap(), Some(1));
        drop(ledger);
        let ledger = SqliteLedger::open(&path).await.unwrap();
        assert!(ledger.load_credential(&bank).await.unwrap().unwrap() == kept(2, "b"));
    }
}
