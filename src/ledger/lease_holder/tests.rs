//! Lease holder tests with a paused clock.

use jiff::{SignedDuration, Timestamp};
use tokio::time::advance;

use super::memory::MemoryLeases;
use super::*;

const TTL: Duration = Duration::from_secs(15);
const RENEWAL: Duration = Duration::from_secs(3);
/// What remains at least of a lease that is being renewed.
const FRESH: Duration = Duration::from_secs(12);

struct Fixture {
    store: Arc<MemoryLeases>,
    clock: Clock,
}

impl Fixture {
    fn new() -> Self {
        Self { store: Arc::default(), clock: Clock::starting_at("2026-09-01T00:00:00Z".parse().unwrap()) }
    }

    fn holder(&self, name: &str) -> LeaseHolder {
        self.holder_with(name, self.clock)
    }

    fn holder_with(&self, holder: &str, clock: Clock) -> LeaseHolder {
        let store = Arc::clone(&self.store) as Arc<dyn LeaseStore>;
        let tasks = TaskGroup::default();
        LeaseHolder::new(store, clock, LeaseOptions { name: "job".into(), holder: holder.into(), ttl: TTL, tasks })
    }

    async fn take(&self, holder: &str) -> HeldLease {
        taken(&mut self.holder(holder)).await.expect("the lease is free")
    }

    fn expires_in(&self) -> SignedDuration {
        self.store.stored("job").expires.duration_since(self.now())
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }
}

async fn taken(holder: &mut LeaseHolder) -> Option<HeldLease> {
    match holder.take().await.unwrap() {
        TakeOutcome::Taken(held) => Some(held),
        TakeOutcome::HeldByOther { .. } => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_as_long_as_its_loss_is_awaited() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    assert_eq!(held.remaining(), TTL);
    assert!(tokio::time::timeout(TTL * 4, held.lost()).await.is_err(), "it is not lost");
    assert!(held.remaining() >= FRESH);
    assert!(fixture.expires_in() >= SignedDuration::try_from(FRESH).unwrap());
    assert!(taken(&mut fixture.holder("two")).await.is_none());
    assert_eq!(fixture.store.stored("job").fence, held.lease().fence, "a renewal keeps the fence");
}

#[tokio::test(start_paused = true)]
async fn a_process_frozen_past_its_lease_has_lost_it_when_it_resumes() {
    let fixture = Fixture::new();
    let frozen = fixture.take("one").await;
    // Nothing polls the first holder meanwhile.
    advance(TTL).await;
    assert_eq!(frozen.remaining(), Duration::ZERO, "it must start nothing");
    let newer = fixture.take("two").await;
    assert!(newer.lease().fence > frozen.lease().fence);
    tokio::time::timeout(Duration::from_millis(1), frozen.lost()).await.expect("noticed at the first renewal");
    frozen.release().await;
    assert_eq!(fixture.store.stored("job").holder, "two", "a late release changes nothing");
}

#[tokio::test(start_paused = true)]
async fn a_process_frozen_past_its_lease_keeps_it_if_no_other_took_it() {
    let fixture = Fixture::new();
    let frozen = fixture.take("one").await;
    advance(TTL * 2).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), frozen.lost()).await.is_err());
    assert!(frozen.remaining() > FRESH, "renewed at once");
    assert!(taken(&mut fixture.holder("two")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_ledger_is_no_loss_and_shortens_the_remaining_time() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    fixture.store.set_unavailable(true);
    assert!(tokio::time::timeout(Duration::from_secs(10), held.lost()).await.is_err(), "it is not lost");
    assert_eq!(held.remaining(), Duration::from_secs(5));
    fixture.store.set_unavailable(false);
    assert!(tokio::time::timeout(RENEWAL * 2, held.lost()).await.is_err());
    assert!(held.remaining() > Duration::from_secs(9), "renewed after the outage");
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_by_another_during_an_outage_is_lost_after_it() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    fixture.store.set_unavailable(true);
    assert!(tokio::time::timeout(TTL * 2, held.lost()).await.is_err());
    fixture.store.set_unavailable(false);
    let newer = fixture.take("two").await;
    tokio::time::timeout(RENEWAL * 2, held.lost()).await.expect("lost");
    assert_eq!(fixture.store.stored("job").fence, newer.lease().fence);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_can_be_taken_at_once() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    held.release().await;
    assert_eq!(fixture.take("two").await.lease().fence, 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_released_in_the_background() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    let work = tokio::spawn(async move {
        let _held = held;
        panic!("a fault, on purpose");
    });
    assert!(work.await.is_err());
    tokio::task::yield_now().await;
    assert_eq!(fixture.take("two").await.lease().fence, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_dropped_late_does_not_release_its_successor() {
    let fixture = Fixture::new();
    let first = fixture.take("one").await;
    let second = fixture.take("one").await;
    drop(first);
    tokio::task::yield_now().await;
    assert!(taken(&mut fixture.holder("two")).await.is_none());
    assert_eq!(second.lease().fence, 2, "the same process took it again");
}

#[test]
fn a_lease_dropped_after_the_runtime_ended_expires() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let fixture = runtime.block_on(async { Fixture::new() });
    let held = runtime.block_on(fixture.take("one"));
    drop(runtime);
    drop(held);
    assert_eq!(fixture.store.stored("job").holder, "one");
}

#[tokio::test(start_paused = true)]
async fn a_detached_lease_is_held_until_it_expires() {
    let fixture = Fixture::new();
    let lease = fixture.take("one").await.into_lease();
    tokio::task::yield_now().await;
    assert!(taken(&mut fixture.holder("two")).await.is_none());
    advance(TTL).await;
    assert!(fixture.take("two").await.lease().fence > lease.fence);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_is_never_taken_and_its_renewals_are_seen() {
    let fixture = Fixture::new();
    let held = fixture.take("one").await;
    let mut other = fixture.holder("two");
    let mut renewals = 0;
    let watch = async {
        for _ in 0..60 {
            match other.take().await.unwrap() {
                TakeOutcome::Taken(_) => panic!("taken from a live holder"),
                TakeOutcome::HeldByOther { renewed } => renewals += u32::from(renewed),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! { () = held.lost() => panic!("lost"), () = watch => {} }
    assert!((18..=20).contains(&renewals), "one every three seconds: {renewals}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_holders_lease_is_taken_a_ttl_later_although_the_wall_clock_went_back() {
    let fixture = Fixture::new();
    let (ahead, step) = Clock::steppable(fixture.now());
    step(SignedDuration::from_hours(1));
    let dead = taken(&mut fixture.holder_with("one", ahead)).await.unwrap().into_lease();
    let mut other = fixture.holder("two");
    for _ in 0..TTL.as_secs() {
        assert!(taken(&mut other).await.is_none());
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(taken(&mut other).await.unwrap().lease().fence, dead.fence + 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_again_takes_its_own_lease_back() {
    let fixture = Fixture::new();
    let before = fixture.take("one").await.into_lease();
    assert_eq!(fixture.take("one").await.lease().fence, before.fence + 1);
}
