//! Which status is the newest while the watch is behind.

use http::{Request, Response};
use kube::client::Body;
use kube::runtime::reflector;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::api::v1alpha1::BreakerPolicy;
use crate::cluster::resource::WatchedResource as _;

fn policy(version: &str, total: i32) -> BreakerPolicy {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": version},
        "spec": {},
        "status": {"connections": {"total": total}},
    }))
    .unwrap()
}

fn total(status: Option<&<BreakerPolicy as HasStatus>::Status>) -> Option<i32> {
    Some(status?.connections.as_ref()?.total)
}

#[tokio::test]
async fn an_object_older_than_our_last_write_does_not_count_as_current() {
    let (service, _) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let (reader, mut store) = reflector::store::<BreakerPolicy>();
    let metrics = StatusMetrics::new(&Metrics::new()).unwrap();
    let client = Client::new(service, "default");
    let deps = StatusDeps { client, clock: Clock::system(), leadership: Leadership::default(), metrics };
    let writer = StatusWriter::new(deps, KindStore::from_store(reader));
    let ownership = Arc::clone(writer.store.ownership());
    let (before, after) = (policy("5", 1), policy("7", 2));
    let key = before.key();
    let current = |object: &BreakerPolicy| total(writer.current(object).get());
    store.apply_watcher_event(&Event::Apply(before.clone()));
    assert_eq!(current(&before), Some(1));
    writer.record_write(&key, "u".to_owned(), false);
    ownership.expect_echo(&key, 7, Arc::new(after.status.clone().unwrap()));
    assert_eq!(current(&before), Some(2), "the watch is behind");
    assert_eq!(writer.newest_version(&before).as_deref(), Some("7"));
    // The watch catches up while a reconcile that was given the older object is about to begin.
    store.apply_watcher_event(&Event::Apply(after.clone()));
    ownership.observe(&key, 7);
    assert_eq!(current(&before), Some(2), "the reconcile holds the older object");
    assert_eq!(writer.newest_version(&before).as_deref(), Some("7"));
    assert_eq!(current(&after), Some(2));
    // Another object of the same name starts over.
    let mut other = policy("9", 3);
    other.metadata.uid = Some("other".to_owned());
    assert_eq!(current(&other), Some(3));
}
