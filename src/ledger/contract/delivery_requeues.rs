//! What consumers say of deliveries, and what is published again.

use uuid::Uuid;

use super::OpenLedger;
use super::delivery_fixtures::{append, create, deliveries, event, failed, new_consumer, of, pending, query, record};
use super::fixtures::{at, take_named};
use crate::domain::event::{EventType, OutboxEvent};
use crate::ledger::delivery::{
    ConfirmOutcome, ConfirmStatus, DeliverStatus, DeliveryFilter, PublishOutcome, PublishStatus, Requeue, RequeueCount,
    RequeueKind,
};

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn requeue(kind: RequeueKind) -> Requeue {
    Requeue {
        kind,
        consumer_id: None,
        namespaces: None,
        from: None,
        max_tries: None,
        event_types: Vec::new(),
        event_ids: Vec::new(),
        dry_run: false,
    }
}

pub(crate) async fn a_confirmation_counts_once_and_what_is_processed_stays_so(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=1, "a").await;
    let said = [
        (ConfirmStatus::Failed, ConfirmOutcome::Applied(DeliverStatus::Failed), None),
        (ConfirmStatus::Failed, ConfirmOutcome::Repeated(DeliverStatus::Failed), None),
        (ConfirmStatus::Received, ConfirmOutcome::Applied(DeliverStatus::Received), Some(3)),
        (ConfirmStatus::Received, ConfirmOutcome::Repeated(DeliverStatus::Received), Some(3)),
        (ConfirmStatus::Processed, ConfirmOutcome::Applied(DeliverStatus::Processed), Some(5)),
        (ConfirmStatus::Processed, ConfirmOutcome::Repeated(DeliverStatus::Processed), Some(5)),
        (ConfirmStatus::Failed, ConfirmOutcome::Repeated(DeliverStatus::Processed), Some(5)),
    ];
    for (second, (status, expected, delivered)) in (1..).zip(said) {
        let outcome = ledger.confirm_delivery(ops.id, id(1), status, at(second)).await.unwrap();
        assert_eq!(outcome, expected, "{second}");
        assert_eq!(deliveries(&*ledger, ops.id).await[0].delivered, delivered.map(at), "{second}");
    }
    append(&*ledger, 2..=2, "a").await;
    let confirm = async |status| ledger.confirm_delivery(ops.id, id(2), status, at(9)).await.unwrap();
    confirm(ConfirmStatus::Processed).await;
    let contradiction = confirm(ConfirmStatus::Failed).await;
    assert_eq!(contradiction, ConfirmOutcome::Recorded(DeliverStatus::Processed), "recorded, not applied");
    assert_eq!(confirm(ConfirmStatus::Failed).await, ConfirmOutcome::Repeated(DeliverStatus::Processed));
}

pub(crate) async fn a_consumer_confirms_and_reads_its_own_deliveries_alone(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=1, "a").await;
    let other = create(&*ledger, &new_consumer("other")).await;
    append(&*ledger, 2..=2, "a").await;
    for n in [1, 99] {
        let outcome = ledger.confirm_delivery(other.id, id(n), ConfirmStatus::Received, at(5)).await.unwrap();
        assert_eq!(outcome, ConfirmOutcome::NotFound, "another's event is one that does not exist");
        assert_eq!(ledger.delivery(other.id, id(n)).await.unwrap(), None);
    }
    ledger.confirm_delivery(other.id, id(2), ConfirmStatus::Received, at(5)).await.unwrap();
    let both = ledger.event_deliveries(id(2)).await.unwrap();
    let said: Vec<_> = both.iter().map(|delivery| (delivery.consumer_id, delivery.deliver)).collect();
    assert_eq!(said, [(ops.id, DeliverStatus::None), (other.id, DeliverStatus::Received)]);
    assert_eq!(ledger.delivery(other.id, id(2)).await.unwrap(), Some(both[1].clone()));
    let received = DeliveryFilter { deliver: Some(DeliverStatus::Received), ..of(ops.id) };
    assert!(ledger.list_deliveries(&received, 10).await.unwrap().is_empty());
    let mut filter = of(ops.id);
    let first = ledger.list_deliveries(&filter, 1).await.unwrap();
    filter.events.after = first[0].event.position;
    let second = ledger.list_deliveries(&filter, 1).await.unwrap();
    assert_eq!((first[0].event.id, second[0].event.id), (id(1), id(2)));
}

pub(crate) async fn two_replicas_that_confirm_at_once_agree(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let ops = create(&*one, &new_consumer("ops")).await;
    append(&*one, 1..=1, "a").await;
    let (left, right) = futures::future::join(
        one.confirm_delivery(ops.id, id(1), ConfirmStatus::Processed, at(5)),
        two.confirm_delivery(ops.id, id(1), ConfirmStatus::Processed, at(6)),
    )
    .await;
    let mut applied = [left.unwrap(), right.unwrap()].map(|outcome| matches!(outcome, ConfirmOutcome::Applied(_)));
    applied.sort_unstable();
    assert_eq!(applied, [false, true]);
}

pub(crate) async fn resend_and_redeliver_choose_by_state_filter_and_tries(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let (ops, other) = (create(&*ledger, &new_consumer("ops")).await, create(&*ledger, &new_consumer("other")).await);
    append(&*ledger, 1..=4, "a").await;
    let elsewhere = OutboxEvent { namespace: "other".into(), event_type: EventType::FetchFailed, ..event(5, "b") };
    ledger.append_events(&[elsewhere], at(5)).await.unwrap();
    for n in 1..=3 {
        record(&*ledger, &lease, ops.id, n, PublishOutcome::Published).await;
    }
    ledger.confirm_delivery(ops.id, id(1), ConfirmStatus::Received, at(6)).await.unwrap();
    ledger.confirm_delivery(ops.id, id(2), ConfirmStatus::Failed, at(6)).await.unwrap();
    record(&*ledger, &lease, ops.id, 4, failed(500)).await;
    record(&*ledger, &lease, ops.id, 5, failed(500)).await;
    assert!(pending(&*ledger, &query(ops.id)).await.is_empty());

    let mine = |kind| Requeue { consumer_id: Some(ops.id), ..requeue(kind) };
    let count = |counts: &[RequeueCount]| counts.iter().map(|count| count.count).sum::<u64>();
    let none = [
        Requeue { max_tries: Some(0), ..mine(RequeueKind::Resend) },
        Requeue { namespaces: Some(Vec::new()), ..mine(RequeueKind::Resend) },
        Requeue { from: Some(at(50)), ..mine(RequeueKind::Resend) },
        Requeue { event_types: vec!["fetch.completed".into()], ..mine(RequeueKind::Resend) },
        Requeue { event_ids: vec![id(1)], ..mine(RequeueKind::Resend) },
        Requeue { max_tries: Some(0), ..mine(RequeueKind::Redeliver) },
        Requeue { event_ids: vec![id(1)], ..mine(RequeueKind::Redeliver) },
    ];
    for requeue in &none {
        assert!(ledger.requeue_deliveries(requeue).await.unwrap().is_empty(), "{requeue:?}");
    }
    let team = Requeue { namespaces: Some(vec!["team".into()]), max_tries: Some(1), ..mine(RequeueKind::Resend) };
    assert_eq!(count(&ledger.requeue_deliveries(&team).await.unwrap()), 1);
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [4]);
    let failed_ones = Requeue { event_types: vec!["fetch.failed".into()], ..mine(RequeueKind::Resend) };
    let expected = RequeueCount { consumer_id: ops.id, event_type: "fetch.failed".into(), count: 1 };
    assert_eq!(ledger.requeue_deliveries(&failed_ones).await.unwrap(), [expected]);
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [4, 5]);
    assert_eq!(count(&ledger.requeue_deliveries(&mine(RequeueKind::Redeliver)).await.unwrap()), 2);
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [2, 3, 4, 5], "not what was received");
    let again = ledger.requeue_deliveries(&requeue(RequeueKind::Resend)).await.unwrap();
    assert_eq!(count(&again), 4 + 5, "of both consumers");
    let published = DeliveryFilter { publish: Some(PublishStatus::Published), ..of(other.id) };
    assert!(ledger.list_deliveries(&published, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_dry_run_counts_what_a_requeue_changes(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let lease = take_named(&*ledger, "outbox", "a", at(0)).await;
    let ops = create(&*ledger, &new_consumer("ops")).await;
    append(&*ledger, 1..=5, "a").await;
    for n in 1..=4 {
        record(&*ledger, &lease, ops.id, n, PublishOutcome::Published).await;
    }
    let mut redeliver = Requeue { dry_run: true, ..requeue(RequeueKind::Redeliver) };
    let before = deliveries(&*ledger, ops.id).await;
    let mut signal = ledger.events_appended();
    signal.mark_unchanged();
    let counted = ledger.requeue_deliveries(&redeliver).await.unwrap();
    assert_eq!(counted.iter().map(|count| count.count).collect::<Vec<_>>(), [4]);
    assert_eq!(deliveries(&*ledger, ops.id).await, before, "nothing is changed");
    assert!(!signal.has_changed().unwrap());
    redeliver.dry_run = false;
    assert_eq!(ledger.requeue_deliveries(&redeliver).await.unwrap(), counted);
    assert!(signal.has_changed().unwrap(), "there is something to publish");
    assert_eq!(pending(&*ledger, &query(ops.id)).await, [1, 2, 3, 4, 5]);
}
