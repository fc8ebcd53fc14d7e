use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use super::*;

const LONG: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_every_task_and_names_those_that_outlast_it() {
    let group = TaskGroup::default();
    let (release, held) = oneshot::channel::<()>();
    group.spawn("refresh", held);
    group.spawn("call", async {});
    assert_eq!(group.drain(LONG).await, ["refresh"]);
    release.send(()).unwrap();
    assert_eq!(group.drain(LONG).await, [""; 0]);
    assert!(group.is_empty());
}

#[tokio::test]
async fn a_panic_is_counted_under_the_name_of_its_task_and_reaches_its_handle() {
    let metrics = Metrics::new();
    let groups = TaskGroups::new(&metrics).unwrap();
    let panicked = groups.effects.child().spawn("refresh", async { panic!("a bug") });
    assert!(panicked.await.unwrap_err().is_panic());
    let blocking = groups.telemetry.spawn_blocking("scrape", || panic!("a bug"));
    assert!(blocking.await.unwrap_err().is_panic());
    let text = metrics.render().unwrap();
    for line in ["busbar_task_panics_total{task=\"refresh\"} 1", "busbar_task_panics_total{task=\"scrape\"} 1"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(groups.effects.drain(LONG).await.is_empty() && groups.telemetry.drain(LONG).await.is_empty());
}

#[tokio::test]
async fn panics_of_a_task_are_exported_as_zero_from_its_start() {
    let metrics = Metrics::new();
    let groups = TaskGroups::new(&metrics).unwrap();
    drop(groups.effects.child().spawn("refresh", std::future::pending::<()>()));
    let text = metrics.render().unwrap();
    assert!(text.contains("busbar_task_panics_total{task=\"refresh\"} 0\n"), "{text}");
}

#[tokio::test]
async fn a_timer_ends_when_its_group_is_drained() {
    let group = TaskGroup::default();
    let timer = group.child().spawn_until_drain("timer", std::future::pending::<()>());
    tokio::task::yield_now().await;
    assert_eq!(group.len(), 1);
    assert_eq!(group.drain(LONG).await, [""; 0]);
    timer.await.unwrap();
}

#[tokio::test]
async fn a_child_is_waited_for_alone_and_by_its_parent() {
    let parent = TaskGroup::default();
    let child = parent.child();
    let (release, held) = oneshot::channel::<()>();
    let (end, other) = oneshot::channel::<()>();
    child.spawn("run", held);
    parent.spawn("server", other);
    assert_eq!((parent.len(), child.len()), (2, 1));
    release.send(()).unwrap();
    child.wait().await;
    assert_eq!(parent.len(), 1);
    end.send(()).unwrap();
    parent.wait().await;
}

#[tokio::test]
async fn what_a_task_spawns_as_it_is_dropped_is_waited_for() {
    struct ReleaseOnDrop(TaskGroup, Arc<AtomicBool>);
    impl Drop for ReleaseOnDrop {
        fn drop(&mut self) {
            let released = Arc::clone(&self.1);
            self.0.spawn("release", async move {
                tokio::task::yield_now().await;
                released.store(true, Ordering::SeqCst);
            });
        }
    }
    let (group, released) = (TaskGroup::default(), Arc::<AtomicBool>::default());
    let held = ReleaseOnDrop(group.clone(), Arc::clone(&released));
    let task = group.spawn("run", async move {
        let _held = held;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    task.abort();
    group.wait().await;
    assert!(released.load(Ordering::SeqCst));
}

#[tokio::test]
async fn dropping_a_set_aborts_its_tasks() {
    let group = TaskGroup::default();
    let mut set = group.set();
    set.spawn("probe", async { 1 });
    assert_eq!(set.join_next().await.unwrap().unwrap(), 1);
    set.spawn("probe", std::future::pending());
    assert_eq!((set.len(), group.len()), (1, 1));
    drop(set);
    group.wait().await;
}
