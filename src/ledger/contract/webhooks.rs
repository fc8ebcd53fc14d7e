//! The inbox of webhooks.

use uuid::Uuid;

use super::OpenLedger;
use super::fixtures::{at, take_named};
use crate::domain::key::ObjectKey;
use crate::ledger::delivery::{ClosedWebhook, NewWebhook, OpenWebhook, ReplayMark, WebhookOutcome};
use crate::ledger::error::LedgerError;

fn bank(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn webhook(connection: &str, n: u128) -> NewWebhook {
    NewWebhook { connection: bank(connection), correlation_id: Uuid::from_u128(n), replay: None }
}

/// One whose signed content has a time.
fn signed(connection: &str, content: u8, expires: i64) -> NewWebhook {
    let replay = Some(ReplayMark { digest: [content; 32], expires: at(expires) });
    NewWebhook { replay, ..webhook(connection, content.into()) }
}

fn closed(connection: &str, through: u64) -> ClosedWebhook {
    ClosedWebhook { connection: bank(connection), through }
}

pub(crate) async fn any_number_of_webhooks_is_one_row_until_it_is_closed(store: &impl OpenLedger) {
    let (ledger, replica) = (store.writer().await, store.writer().await);
    let lease = take_named(&*ledger, "webhooks", "a", at(0)).await;
    let burst: Vec<_> = (1..=300).map(|n| webhook("a", n)).collect();
    let outcomes = ledger.accept_webhooks(&burst, at(1)).await.unwrap();
    assert_eq!(outcomes[0], WebhookOutcome::Accepted);
    assert!(outcomes[1..].iter().all(|outcome| *outcome == WebhookOutcome::Coalesced));
    assert_eq!(replica.accept_webhooks(&[webhook("a", 301)], at(2)).await.unwrap(), [WebhookOutcome::Coalesced]);
    let expected = OpenWebhook {
        connection: bank("a"),
        through: 301,
        unhandled: 301,
        first: at(1),
        last: at(2),
        correlation_id: Uuid::from_u128(1),
    };
    assert_eq!(replica.open_webhooks(10).await.unwrap(), [expected]);
    ledger.close_webhooks(&lease, &[closed("a", 301)]).await.unwrap();
    assert!(replica.open_webhooks(10).await.unwrap().is_empty());
    assert_eq!(ledger.accept_webhooks(&[webhook("a", 302)], at(9)).await.unwrap(), [WebhookOutcome::Accepted]);
    let open = ledger.open_webhooks(10).await.unwrap();
    assert_eq!((open[0].unhandled, open[0].first, open[0].correlation_id), (1, at(9), Uuid::from_u128(302)));
}

pub(crate) async fn a_webhook_that_came_meanwhile_stays_open(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "webhooks", "a", at(0)).await;
    ledger.accept_webhooks(&[webhook("a", 1), webhook("a", 2)], at(1)).await.unwrap();
    let read = ledger.open_webhooks(10).await.unwrap();
    ledger.accept_webhooks(&[webhook("a", 3)], at(2)).await.unwrap();
    ledger.close_webhooks(&lease, &[closed("a", read[0].through)]).await.unwrap();
    let open = ledger.open_webhooks(10).await.unwrap();
    assert_eq!((open.len(), open[0].unhandled, open[0].through), (1, 1, 3));
    // A result that comes late opens nothing, and closes nothing that it has not seen.
    ledger.close_webhooks(&lease, &[closed("a", 1)]).await.unwrap();
    assert_eq!(ledger.open_webhooks(10).await.unwrap()[0].unhandled, 1);
    ledger.close_webhooks(&lease, &[closed("a", 900), closed("none", 1)]).await.unwrap();
    assert!(ledger.open_webhooks(10).await.unwrap().is_empty());
    assert_eq!(ledger.accept_webhooks(&[webhook("a", 4)], at(3)).await.unwrap(), [WebhookOutcome::Accepted]);
}

pub(crate) async fn a_signed_webhook_counts_once_within_its_window(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "webhooks", "a", at(0)).await;
    let twice = [signed("a", 1, 100), signed("a", 1, 100), signed("a", 2, 200)];
    let outcomes = ledger.accept_webhooks(&twice, at(1)).await.unwrap();
    assert_eq!(outcomes, [WebhookOutcome::Accepted, WebhookOutcome::Repeated, WebhookOutcome::Coalesced]);
    ledger.close_webhooks(&lease, &[closed("a", 2)]).await.unwrap();
    assert_eq!(ledger.accept_webhooks(&[signed("a", 1, 100)], at(2)).await.unwrap(), [WebhookOutcome::Repeated]);
    assert!(ledger.open_webhooks(10).await.unwrap().is_empty(), "a retry of the provider causes no run");
    assert_eq!(ledger.prune_webhooks(&lease, 10, at(150)).await.unwrap(), 1, "the mark whose window is over");
    assert_eq!(ledger.accept_webhooks(&[signed("a", 2, 200)], at(151)).await.unwrap(), [WebhookOutcome::Repeated]);
}

pub(crate) async fn webhooks_of_one_connection_do_not_touch_another(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "webhooks", "a", at(0)).await;
    let both = [signed("b", 1, 100), signed("a", 1, 100), webhook("b", 3)];
    let outcomes = ledger.accept_webhooks(&both, at(1)).await.unwrap();
    assert_eq!(outcomes, [WebhookOutcome::Accepted, WebhookOutcome::Accepted, WebhookOutcome::Coalesced]);
    ledger.accept_webhooks(&[webhook("0", 4)], at(2)).await.unwrap();
    let open = ledger.open_webhooks(10).await.unwrap();
    let names: Vec<_> = open.iter().map(|open| open.connection.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "0"], "the longest waiting first");
    assert_eq!(ledger.open_webhooks(2).await.unwrap().len(), 2);
    ledger.close_webhooks(&lease, &[closed("b", 2)]).await.unwrap();
    let open = ledger.open_webhooks(10).await.unwrap();
    assert_eq!(open.iter().map(|open| &*open.connection.name).collect::<Vec<_>>(), ["a", "0"]);
}

pub(crate) async fn a_process_that_lost_its_lease_closes_and_prunes_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let former = take_named(&*ledger, "webhooks", "a", at(0)).await;
    let lease = take_named(&*ledger, "webhooks", "b", at(60)).await;
    ledger.accept_webhooks(&[signed("a", 1, 5)], at(1)).await.unwrap();
    let refused = ledger.close_webhooks(&former, &[closed("a", 1)]).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    let refused = ledger.prune_webhooks(&former, 10, at(100)).await;
    assert!(matches!(refused, Err(LedgerError::Fenced { .. })), "{refused:?}");
    assert_eq!(ledger.open_webhooks(10).await.unwrap().len(), 1);
    assert_eq!(ledger.prune_webhooks(&lease, 10, at(200_000)).await.unwrap(), 1, "never one that is open");
    ledger.close_webhooks(&lease, &[closed("a", 1)]).await.unwrap();
    assert_eq!(ledger.prune_webhooks(&lease, 10, at(80_000)).await.unwrap(), 0, "less than a day old");
    assert_eq!(ledger.prune_webhooks(&lease, 10, at(200_000)).await.unwrap(), 1);
}
