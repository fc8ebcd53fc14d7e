//! The budget: shares, waits, releases, and the threads that parse.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;

use super::*;

const MIB: usize = 1024 * 1024;

fn budget() -> (MemoryBudget, Metrics) {
    let metrics = Metrics::new();
    (MemoryBudget::new(MemoryLimits::default(), TaskGroup::default(), &metrics).unwrap(), metrics)
}

/// The share of a connection in a namespace of its own.
fn alone(budget: &MemoryBudget, name: impl std::fmt::Display) -> ConnectionMemory {
    budget.connection(&Arc::from(name.to_string()), 4 * MIB)
}

fn used(metrics: &Metrics, pool: &str) -> String {
    let text = metrics.render().unwrap();
    let line = format!("busbar_response_memory_bytes{{pool=\"{pool}\"}} ");
    text.lines().find_map(|other| other.strip_prefix(&line)).unwrap_or("none").to_owned()
}

#[tokio::test(start_paused = true)]
async fn one_connection_cannot_take_the_budget_of_the_others() {
    let (budget, metrics) = budget();
    let (hostile, other) = (alone(&budget, "a"), alone(&budget, "b"));
    let held = [hostile.reservation(), hostile.reservation()];
    assert!(held.iter().all(|one| one.try_grow_to(4 * MIB)));
    let third = hostile.reservation();
    assert!(!third.try_grow_to(MIB));
    assert_eq!(third.grow_to(MIB).await, Err(Exhausted), "a wait is bounded");
    assert_eq!(other.reservation().grow_to(4 * MIB).now_or_never(), Some(Ok(())));
    assert_eq!(used(&metrics, "responses"), (8 * MIB).to_string());
    let clone = held[0].clone();
    drop(held);
    assert_eq!(clone.bytes(), 4 * MIB, "the last clone releases it");
    drop(clone);
    assert!(third.try_grow_to(8 * MIB));
    third.shrink_to(100);
    assert_eq!((third.bytes(), used(&metrics, "responses").as_str()), (100, "100"));
    assert_eq!(third.grow_to(9 * MIB).now_or_never(), Some(Err(Exhausted)), "more than a share is never free");
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_all_connections_together() {
    let (budget, _) = budget();
    let connections: Vec<_> = (0..5).map(|n| alone(&budget, n).reservation()).collect();
    let granted: Vec<_> = connections.iter().map(|one| one.try_grow_to(8 * MIB)).collect();
    assert_eq!(granted, [true, true, true, true, false]);
    let last = connections[4].clone();
    let waiting = tokio::spawn(async move { last.grow_to(8 * MIB).await });
    tokio::task::yield_now().await;
    drop(connections);
    assert_eq!(waiting.await.unwrap(), Ok(()), "a wait ends when memory is released");
}

#[tokio::test(start_paused = true)]
async fn one_namespace_cannot_take_the_budget_of_the_others() {
    let (budget, _) = budget();
    let tenant: Arc<str> = "tenant".into();
    let held: Vec<_> = (0..5).map(|_| budget.connection(&tenant, 4 * MIB).reservation()).collect();
    let granted: Vec<_> = held.iter().map(|one| one.try_grow_to(8 * MIB)).collect();
    assert_eq!(granted, [true, true, true, false, false], "three quarters");
    assert_eq!(held[4].grow_to(8 * MIB).await, Err(Exhausted));
    assert!(alone(&budget, "other").reservation().try_grow_to(8 * MIB));
    drop(held);
    let anew = budget.connection(&tenant, 4 * MIB).reservation();
    assert!(anew.try_grow_to(8 * MIB));
}

#[tokio::test(start_paused = true)]
async fn pages_are_reserved_until_they_are_committed() {
    let (budget, metrics) = budget();
    let response = alone(&budget, "a").reservation();
    let page = response.reserve_page(20 * MIB).await.unwrap();
    assert_eq!(response.reserve_page(5 * MIB).await.unwrap_err(), Exhausted);
    assert_eq!(used(&metrics, "pages"), (20 * MIB).to_string());
    drop(page);
    assert!(response.reserve_page(MAX_PAGE_BYTES).await.is_ok());
    assert_eq!(used(&metrics, "pages"), "0");
    assert_eq!(response.reserve_page(MAX_PAGE_BYTES + 1).now_or_never().unwrap().unwrap_err(), Exhausted);
    assert!(Reservation::default().reserve_page(usize::MAX).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_parsed_on_few_threads_that_are_not_the_runtimes() {
    let (budget, _) = budget();
    let response = alone(&budget, "a").reservation();
    let here = std::thread::current().id();
    assert_eq!(response.run(FREE_BYTES, || std::thread::current().id()).await, Ok(here));
    let running = Arc::new(AtomicUsize::new(0));
    let all = (0..20).map(|_| {
        let (response, running) = (response.clone(), Arc::clone(&running));
        async move {
            let work = move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                (now, std::thread::current().id())
            };
            response.run(FREE_BYTES + 1, work).await.unwrap()
        }
    });
    for (at_once, thread) in futures::future::join_all(all).await {
        assert!(at_once <= PARSERS && thread != here, "{at_once}");
    }
    assert_eq!(response.run(MIB, || panic!("a defect")).await, Err::<(), _>(ParserPanicked));
    assert_eq!(response.run(MIB, || 1).await, Ok(1), "a panic takes no thread away");
}
