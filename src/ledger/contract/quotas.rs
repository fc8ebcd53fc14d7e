//! Counts of daily limits.

use jiff::civil::{Date, date};

use super::OpenLedger;
use super::dead_requests::worker;
use crate::domain::key::ObjectKey;
use crate::domain::quota::{DayUsage, WindowId};
use crate::ledger::error::LedgerError;
use crate::ledger::quotas::QuotaOwner;

pub(super) fn owner(uid: &str) -> QuotaOwner {
    QuotaOwner { connection: ObjectKey::new("ns", "bank-b"), uid: uid.into() }
}

pub(super) const fn usage(day: Date, part: u64, other: u32) -> DayUsage {
    DayUsage { window: WindowId { limit: u64::MAX - 1, part }, day, money: 1, other }
}

const TODAY: Date = date(2026, 11, 22);

pub(crate) async fn counts_of_two_processes_are_added_and_survive_a_restart(store: &impl OpenLedger) {
    let (one, two) = (store.writer().await, store.writer().await);
    let owner = owner("uid-1");
    let first = one.add_quota(&owner, &[usage(TODAY, 0, 5), usage(TODAY, u64::MAX, 1)]).await.unwrap();
    assert_eq!(first, [usage(TODAY, 0, 5), usage(TODAY, u64::MAX, 1)]);
    let second = two.add_quota(&owner, &[usage(TODAY, 0, 3)]).await.unwrap();
    assert_eq!(second, [DayUsage { money: 2, ..usage(TODAY, 0, 8) }]);
    one.close().await;
    two.close().await;
    let mut stored = store.writer().await.load_quota(&owner, TODAY).await.unwrap();
    stored.sort_by_key(|usage| usage.window.part);
    assert_eq!(stored, [second[0], first[1]]);
}

pub(crate) async fn another_object_of_the_name_has_counted_nothing(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    ledger.add_quota(&owner("uid-1"), &[usage(TODAY, 0, 5)]).await.unwrap();
    assert!(ledger.load_quota(&owner("uid-2"), TODAY).await.unwrap().is_empty());
    assert!(ledger.load_quota(&owner("uid-1"), TODAY.tomorrow().unwrap()).await.unwrap().is_empty(), "an old day");
}

pub(crate) async fn counts_of_other_days_are_pruned_by_the_holder_of_the_lease(store: &impl OpenLedger) {
    let ledger = store.writer().await;
    let (yesterday, ahead) = (TODAY.yesterday().unwrap(), date(2027, 11, 22));
    let all = [yesterday, TODAY, ahead].map(|day| usage(day, 0, 1));
    ledger.add_quota(&owner("uid-1"), &all).await.unwrap();
    let former = worker(&*ledger, 0).await;
    let lease = worker(&*ledger, 1).await;
    let fenced = ledger.prune_quota(&former, TODAY, TODAY, 10).await;
    assert!(matches!(fenced, Err(LedgerError::Fenced { .. })), "{fenced:?}");
    assert_eq!(ledger.prune_quota(&lease, TODAY, TODAY, 1).await.unwrap(), 1, "in pieces");
    assert_eq!(ledger.prune_quota(&lease, TODAY, TODAY, 10).await.unwrap(), 1);
    assert_eq!(ledger.load_quota(&owner("uid-1"), date(2026, 1, 1)).await.unwrap(), [usage(TODAY, 0, 1)]);
}
