//! The inbox of webhooks.

use futures::FutureExt as _;
use jiff::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::query;

use crate::domain::key::ObjectKey;
use crate::ledger::delivery::webhook::KEPT_MS;
use crate::ledger::delivery::{ClosedWebhook, NewWebhook, OpenWebhook, WebhookOutcome, Webhooks};
use crate::ledger::error::{LedgerError, LedgerFuture};
use crate::ledger::lease::Lease;
use crate::ledger::postgres::codec::{count, get, millis, timestamp, to_i64};
use crate::ledger::postgres::database::PostgresLedger;
use crate::ledger::postgres::failure::OperationName;
use crate::ledger::postgres::lease::assert_held;
use crate::ledger::postgres::outbox;
use crate::ledger::postgres::transaction::{Transaction, read_tx, write_tx};

const ACCEPT: OperationName = OperationName("accepting webhooks");
const OPEN: OperationName = OperationName("reading webhooks");
const CLOSE: OperationName = OperationName("closing webhooks");
const PRUNE: OperationName = OperationName("pruning webhooks");

impl Webhooks for PostgresLedger {
    fn accept_webhooks<'a>(
        &'a self,
        webhooks: &'a [NewWebhook],
        now: Timestamp,
    ) -> LedgerFuture<'a, Vec<WebhookOutcome>> {
        async move { write_tx!(self, ACCEPT, |tx| accept_all(tx, webhooks, now).await) }.boxed()
    }

    fn open_webhooks(&self, limit: u32) -> LedgerFuture<'_, Vec<OpenWebhook>> {
        async move { read_tx!(self, OPEN, |tx| open(tx, limit).await) }.boxed()
    }

    fn close_webhooks<'a>(&'a self, lease: &'a Lease, closed: &'a [ClosedWebhook]) -> LedgerFuture<'a, ()> {
        async move {
            write_tx!(self, CLOSE, |tx| {
                assert_held(tx, lease).await?;
                close_all(tx, closed).await
            })
        }
        .boxed()
    }

    fn prune_webhooks<'a>(&'a self, lease: &'a Lease, limit: u32, now: Timestamp) -> LedgerFuture<'a, u64> {
        async move {
            write_tx!(self, PRUNE, |tx| {
                assert_held(tx, lease).await?;
                prune(tx, limit, now).await
            })
        }
        .boxed()
    }
}

/// The places of webhooks in an order that is the same everywhere: two transactions then never wait for each other's rows.
fn in_lock_order(webhooks: &[NewWebhook]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..webhooks.len()).collect();
    places.sort_by_key(|place| {
        let webhook = &webhooks[*place];
        (&*webhook.connection.namespace, &*webhook.connection.name)
    });
    places
}

async fn accept_all(
    tx: &mut Transaction,
    webhooks: &[NewWebhook],
    now: Timestamp,
) -> Result<Vec<WebhookOutcome>, LedgerError> {
    let mut outcomes = vec![WebhookOutcome::Repeated; webhooks.len()];
    for place in in_lock_order(webhooks) {
        outcomes[place] = accept(tx, &webhooks[place], now).await?;
    }
    Ok(outcomes)
}

async fn accept(tx: &mut Transaction, webhook: &NewWebhook, now: Timestamp) -> Result<WebhookOutcome, LedgerError> {
    let connection = &webhook.connection;
    // First the row, whose lock keeps the connection's webhooks in an order.
    let statement = query(
        "INSERT INTO webhook_inbox AS i (namespace, connection, accepted, handled, first_ms, last_ms, correlation_id)
         VALUES ($1, $2, 0, 0, $3, $3, $4)
         ON CONFLICT (namespace, connection) DO UPDATE SET accepted = i.accepted",
    )
    .bind(&*connection.namespace)
    .bind(&*connection.name)
    .bind(millis(now))
    .bind(webhook.correlation_id.to_string());
    tx.execute(statement).await?;
    if let Some(mark) = &webhook.replay {
        let statement = query(
            "INSERT INTO webhook_digests (namespace, connection, digest, expires_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (namespace, connection, digest) DO NOTHING",
        )
        .bind(&*connection.namespace)
        .bind(&*connection.name)
        .bind(mark.digest.to_vec())
        .bind(millis(mark.expires));
        if tx.execute(statement).await? == 0 {
            return Ok(WebhookOutcome::Repeated);
        }
    }
    let statement = query(
        "UPDATE webhook_inbox SET
             first_ms = CASE WHEN handled < accepted THEN first_ms ELSE $3 END,
             correlation_id = CASE WHEN handled < accepted THEN correlation_id ELSE $4 END,
             accepted = accepted + 1, last_ms = $3
         WHERE namespace = $1 AND connection = $2 RETURNING accepted - handled",
    )
    .bind(&*connection.namespace)
    .bind(&*connection.name)
    .bind(millis(now))
    .bind(webhook.correlation_id.to_string());
    let unhandled: i64 = tx.scalar(statement).await?;
    Ok(if unhandled > 1 { WebhookOutcome::Coalesced } else { WebhookOutcome::Accepted })
}

async fn open(tx: &mut Transaction, limit: u32) -> Result<Vec<OpenWebhook>, LedgerError> {
    let statement = query(
        "SELECT namespace, connection, accepted, accepted - handled AS unhandled, first_ms, last_ms, correlation_id
         FROM webhook_inbox WHERE handled < accepted ORDER BY first_ms, namespace, connection LIMIT $1",
    );
    let decode = |row: &PgRow| -> Result<OpenWebhook, LedgerError> {
        let (namespace, name): (String, String) = (get(row, "namespace")?, get(row, "connection")?);
        Ok(OpenWebhook {
            connection: ObjectKey::new(namespace, name),
            through: count(row, "accepted")?,
            unhandled: count(row, "unhandled")?,
            first: timestamp(row, "first_ms")?,
            last: timestamp(row, "last_ms")?,
            correlation_id: outbox::uuid(row, "correlation_id")?,
        })
    };
    tx.fetch_all(statement.bind(i64::from(limit))).await?.iter().map(decode).collect()
}

async fn close_all(tx: &mut Transaction, closed: &[ClosedWebhook]) -> Result<(), LedgerError> {
    let mut closed: Vec<&ClosedWebhook> = closed.iter().collect();
    closed.sort_by_key(|closed| (&*closed.connection.namespace, &*closed.connection.name));
    for closed in closed {
        // Those that came meanwhile wait since the last one at the latest.
        let statement = query(
            "UPDATE webhook_inbox SET handled = LEAST(accepted, $3), first_ms = last_ms
             WHERE namespace = $1 AND connection = $2 AND handled < $3",
        )
        .bind(&*closed.connection.namespace)
        .bind(&*closed.connection.name)
        .bind(to_i64(closed.through));
        tx.execute(statement).await?;
    }
    Ok(())
}

async fn prune(tx: &mut Transaction, limit: u32, now: Timestamp) -> Result<u64, LedgerError> {
    let marks = query(
        "DELETE FROM webhook_digests d USING (
             SELECT namespace, connection, digest FROM webhook_digests WHERE expires_ms <= $1
             ORDER BY expires_ms LIMIT $2
         ) AS old WHERE d.namespace = old.namespace AND d.connection = old.connection AND d.digest = old.digest",
    );
    let marks = tx.execute(marks.bind(millis(now)).bind(i64::from(limit))).await?;
    // Locked, so that a webhook that comes meanwhile is not deleted with the row.
    let rows = query(
        "DELETE FROM webhook_inbox i USING (
             SELECT namespace, connection FROM webhook_inbox WHERE handled >= accepted AND last_ms <= $1
             ORDER BY namespace, connection LIMIT $2 FOR UPDATE SKIP LOCKED
         ) AS old WHERE i.namespace = old.namespace AND i.connection = old.connection",
    );
    let left = to_i64(u64::from(limit).saturating_sub(marks));
    Ok(marks + tx.execute(rows.bind(millis(now) - KEPT_MS).bind(left)).await?)
}
