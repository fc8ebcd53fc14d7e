//! Sources: where the rows of a job are stored.

use super::*;
use crate::sync::cursor::cursor_key;

#[tokio::test]
async fn a_source_is_stored_as_a_keyed_hash() {
    let (one, other) = (SyncHarness::new(ScriptedBank::with(5)).await, SyncHarness::new(ScriptedBank::with(5)).await);
    let plan = plan(10);
    let stored = one.cursor_key(&plan).await.stream.stream;
    assert!(stored.starts_with("transactions#") && !stored.contains("acc-"), "{stored}");
    assert_ne!(stored, other.cursor_key(&plan).await.stream.stream, "another ledger, another key");
    let second = SyncPlan { partitions: vec![partition("", "acc-000000002")], ..plan.clone() };
    assert_ne!(stored, one.cursor_key(&second).await.stream.stream);
    one.run(&plan).await;
    assert_eq!(one.ledger.load_cursor(&cursor_key(&plan, &plan.partitions[0])).await.unwrap(), None);
    assert!(one.stored_cursor(&plan).await.is_some());
}

#[tokio::test]
async fn a_dry_run_adopts_nothing() {
    let harness = SyncHarness::new(ScriptedBank::with(5)).await;
    let (plan, lease) = (plan(10), harness.lease().await);
    let former = cursor_key(&plan, &plan.partitions[0]);
    let state = CursorState { spec_hash: plan.cursor_hash(&plan.partitions[0]).unwrap().text(), ..Default::default() };
    let page = crate::ledger::contract::fixtures::page(&former, &lease, &state, &[]);
    harness.ledger.commit_page(page).await.unwrap();
    harness.run(&SyncPlan { dry_run: true, ..plan.clone() }).await;
    assert!(harness.ledger.load_cursor(&former).await.unwrap().is_some());
    harness.run(&plan).await;
    assert!(harness.ledger.load_cursor(&former).await.unwrap().is_none());
}
