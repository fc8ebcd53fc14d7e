//! The inbox of webhooks.

use futures::FutureExt as _;
use jiff::Timestamp;
use rusqlite::params;

use crate::domain::key::ObjectKey;
use crate::ledger::delivery::webhook::KEPT_MS;
use crate::ledger::delivery::{ClosedWebhook, NewWebhook, OpenWebhook, WebhookOutcome, Webhooks};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::sqlite::codec::{OperationName, count, get, instant, millis, to_i64};
use crate::ledger::sqlite::connection::Transaction;
use crate::ledger::sqlite::database::SqliteLedger;
use crate::ledger::sqlite::lease::assert_held;
use crate::ledger::sqlite::outbox;

const ACCEPT: OperationName = OperationName("accepting webhooks");
const OPEN: OperationName = OperationName("reading webhooks");
const CLOSE: OperationName = OperationName("closing webhooks");
const PRUNE: OperationName = OperationName("pruning webhooks");

impl Webhooks for SqliteLedger {
    fn accept_webhooks<'a>(
        &'a self,
        webhooks: &'a [NewWebhook],
        now: Timestamp,
    ) -> LedgerFuture<'a, Vec<WebhookOutcome>> {
        let webhooks = webhooks.to_vec();
        self.write(ACCEPT, move |tx| accept_all(tx, &webhooks, now)).boxed()
    }

    fn open_webhooks(&self, limit: u32) -> LedgerFuture<'_, Vec<OpenWebhook>> {
        self.read_in_order(OPEN, move |tx| open(tx, limit)).boxed()
    }

    fn close_webhooks<'a>(&'a self, lease: &'a Lease, closed: &'a [ClosedWebhook]) -> LedgerFuture<'a, ()> {
        let (lease, closed) = (lease.clone(), closed.to_vec());
        self.write(CLOSE, move |tx| {
            assert_held(tx, &lease)?;
            closed.iter().try_for_each(|closed| close(tx, closed))
        })
        .boxed()
    }

    fn prune_webhooks<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64> {
        let lease = lease.clone();
        self.write(PRUNE, move |tx| {
            assert_held(tx, &lease)?;
            prune(tx, limit, now)
        })
        .boxed()
    }
}

fn accept_all(
    tx: &Transaction<'_>,
    webhooks: &[NewWebhook],
    now: Timestamp,
) -> Result<Vec<WebhookOutcome>, LedgerError> {
    webhooks.iter().map(|webhook| accept(tx, webhook, now)).collect()
}

fn accept(tx: &Transaction<'_>, webhook: &NewWebhook, now: Timestamp) -> Result<WebhookOutcome, LedgerError> {
    let connection = &webhook.connection;
    if let Some(mark) = &webhook.replay {
        let is_new = tx.execute(
            "INSERT INTO webhook_digests (namespace, connection, digest, expires_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (namespace, connection, digest) DO NOTHING",
            params![&*connection.namespace, &*connection.name, mark.digest.as_slice(), millis(mark.expires)],
        )?;
        if is_new == 0 {
            return Ok(WebhookOutcome::Repeated);
        }
    }
    tx.execute(
        "INSERT INTO webhook_inbox (namespace, connection, accepted, handled, first_ms, last_ms, correlation_id)
         VALUES (?1, ?2, 1, 0, ?3, ?3, ?4)
         ON CONFLICT (namespace, connection) DO UPDATE SET
             first_ms = CASE WHEN handled < accepted THEN first_ms ELSE excluded.first_ms END,
             correlation_id = CASE WHEN handled < accepted THEN correlation_id ELSE excluded.correlation_id END,
             accepted = accepted + 1, last_ms = excluded.last_ms",
        params![&*connection.namespace, &*connection.name, millis(now), webhook.correlation_id.to_string()],
    )?;
    let unhandled: i64 = tx.scalar(
        "SELECT accepted - handled FROM webhook_inbox WHERE namespace = ?1 AND connection = ?2",
        params![&*connection.namespace, &*connection.name],
    )?;
    Ok(if unhandled > 1 { WebhookOutcome::Coalesced } else { WebhookOutcome::Accepted })
}

fn open(tx: &Transaction<'_>, limit: u32) -> Result<Vec<OpenWebhook>, LedgerError> {
    tx.query_all(
        "SELECT namespace, connection, accepted, accepted - handled AS unhandled, first_ms, last_ms, correlation_id
         FROM webhook_inbox WHERE handled < accepted ORDER BY first_ms, namespace, connection LIMIT ?1",
        [limit],
        |row| {
            let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
            Ok(OpenWebhook {
                connection: ObjectKey::new(namespace, name),
                through: count(row, "accepted")?,
                unhandled: count(row, "unhandled")?,
                first: instant(get(row, "first_ms")?, "webhook_inbox.first_ms")?,
                last: instant(get(row, "last_ms")?, "webhook_inbox.last_ms")?,
                correlation_id: outbox::uuid(row, "correlation_id", "webhook_inbox.correlation_id")?,
            })
        },
    )
}

fn close(tx: &Transaction<'_>, closed: &ClosedWebhook) -> Result<(), LedgerError> {
    // Those that came meanwhile wait since the last one at the latest.
    tx.execute(
        "UPDATE webhook_inbox SET handled = min(accepted, ?3), first_ms = last_ms
         WHERE namespace = ?1 AND connection = ?2 AND handled < ?3",
        params![&*closed.connection.namespace, &*closed.connection.name, to_i64(closed.through)],
    )
    .map(drop)
}

fn prune(tx: &Transaction<'_>, limit: u32, now: Timestamp) -> Result<u64, LedgerError> {
    let marks = tx.execute(
        "DELETE FROM webhook_digests WHERE (namespace, connection, digest) IN (
             SELECT namespace, connection, digest FROM webhook_digests WHERE expires_ms <= ?1
             ORDER BY expires_ms LIMIT ?2)",
        params![millis(now), limit],
    )?;
    let rows = tx.execute(
        "DELETE FROM webhook_inbox WHERE (namespace, connection) IN (
             SELECT namespace, connection FROM webhook_inbox WHERE handled >= accepted AND last_ms <= ?1 LIMIT ?2)",
        params![millis(now) - KEPT_MS, to_i64(u64::from(limit).saturating_sub(marks))],
    )?;
    Ok(marks + rows)
}
