//! The resolver over a scripted source, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};

use super::super::lookup::Addresses;
use super::*;

type Script = Box<dyn Fn(&str) -> (Duration, Result<Addresses, LookupError>) + Send + Sync>;

/// A source that answers after a delay, as its script says, and counts.
struct ScriptedSource {
    clock: Clock,
    script: Script,
    asked: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
}

impl NameLookup for ScriptedSource {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Addresses, LookupError>> {
        let (delay, result) = (self.script)(name);
        self.asked.fetch_add(1, Ordering::SeqCst);
        let running = RunningLookup(Arc::clone(&self.running));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        async move {
            let _running = running;
            self.clock.sleep_until(self.clock.mono() + delay).await;
            result
        }
        .boxed()
    }
}

struct RunningLookup(Arc<AtomicUsize>);

impl Drop for RunningLookup {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct DnsEnv {
    resolver: DnsResolver,
    clock: Clock,
    asked: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

fn env(script: impl Fn(&str) -> (Duration, Result<Addresses, LookupError>) + Send + Sync + 'static) -> DnsEnv {
    let clock = Clock::system();
    let (asked, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (script, running) = (Box::new(script), Arc::default());
    let source = ScriptedSource { clock, script, asked: asked.clone(), most: most.clone(), running };
    DnsEnv { resolver: DnsResolver::with(Box::new(source), clock, TaskGroup::default(), None), clock, asked, most }
}

impl DnsEnv {
    async fn sleep(&self, time: Duration) {
        self.clock.sleep_until(self.clock.mono() + time).await;
    }

    /// Resolves `name`; how long that took, and whether there are addresses.
    async fn timed(&self, name: &str) -> (Duration, bool) {
        let started = self.clock.mono();
        let found = self.resolver.resolve(name).await.is_some();
        (self.clock.mono().since(started), found)
    }
}

const MS: Duration = Duration::from_millis(1);
const HUNG: Duration = Duration::from_hours(24);

#[expect(clippy::unnecessary_wraps, reason = "what a look-up returns")]
fn found(ttl: Duration) -> Result<Addresses, LookupError> {
    Ok(Addresses { addresses: vec![IpAddr::from([192, 0, 2, 1])], ttl })
}

fn good(_: &str) -> (Duration, Result<Addresses, LookupError>) {
    (MS, found(Duration::from_mins(1)))
}

#[tokio::test(start_paused = true)]
async fn calls_that_begin_together_share_one_look_up_even_with_ttl_zero() {
    let env = env(|_| (MS, found(Duration::ZERO)));
    let calls = join_all((0..1_000).map(|_| env.resolver.resolve("Bank.test"))).await;
    assert!(calls.iter().all(Option::is_some));
    assert_eq!(env.asked.load(Ordering::SeqCst), 1);
    env.sleep(Duration::from_secs(1)).await;
    env.resolver.resolve("bank.test").await.unwrap();
    assert_eq!(env.asked.load(Ordering::SeqCst), 2, "and no answer outlives its TTL by more than a second");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_names_without_an_answer_delay_no_other() {
    let env = env(|name| if name.contains("hung") { (HUNG, found(HUNG)) } else { good(name) });
    for n in 0..1_000 {
        // Of one domain, and of a thousand.
        assert_eq!(env.timed(&format!("bank-{n}.hung.test")).now_or_never(), None);
    }
    env.sleep(MS).await;
    let (took, found) = env.timed("api.good.test").await;
    assert!(found && took <= 5 * MS, "{took:?}");
    for n in 0..1_000 {
        assert_eq!(env.timed(&format!("api.hung-{n}.test")).now_or_never(), None);
    }
    for _ in 0..30 {
        env.sleep(Duration::from_mins(1)).await;
        let (took, found) = env.timed("api.good.test").await;
        assert!(found && took <= 5 * MS, "known names never wait for unknown ones: {took:?}");
    }
    assert!(env.most.load(Ordering::SeqCst) <= 2 * MAX_LOOKUPS);
}

#[tokio::test(start_paused = true)]
async fn a_domain_whose_servers_are_slow_delays_its_own_names_only() {
    let env = env(|name| if name.contains("slow") { (200 * MS, found(HUNG)) } else { good(name) });
    let slow: Vec<_> = (0..2_000).map(|n| format!("bank-{n}.slow.test")).collect();
    let slow = join_all(slow.iter().map(|name| env.timed(name)));
    let other = async {
        env.sleep(MS).await;
        env.timed("api.good.test").await
    };
    let (slow, (took, found)) = futures::join!(slow, other);
    assert!(found && took <= 5 * MS, "{took:?}");
    assert!(slow.iter().all(|(_, found)| *found));
    assert!(env.most.load(Ordering::SeqCst) <= MAX_PER_DOMAIN + 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_hangs_ends_and_is_repeated_with_delays() {
    let env = env(|_| (HUNG, found(HUNG)));
    assert_eq!(env.timed("bank.test").await, (LOOKUP_TIMEOUT, false));
    assert_eq!(env.timed("bank.test").await, (Duration::ZERO, false), "known for a second");
    for _ in 0..600 {
        env.timed("bank.test").await;
        env.sleep(Duration::from_secs(1)).await;
    }
    let asked = env.asked.load(Ordering::SeqCst);
    assert!((20..60).contains(&asked), "{asked} times in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_the_answer_to_the_next() {
    let env = env(|_| (3_000 * MS, found(HUNG)));
    let first = tokio::time::timeout(1_000 * MS, env.resolver.resolve("bank.test")).await;
    assert!(first.is_err());
    env.sleep(2_000 * MS).await;
    assert_eq!(env.timed("bank.test").await, (Duration::ZERO, true));
    assert_eq!(env.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_servers_are_silent_expired_addresses_serve_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let env = env(move |name| match count.fetch_add(1, Ordering::SeqCst) {
        0 => good(name),
        _ => (HUNG, found(HUNG)),
    });
    env.resolver.resolve("bank.test").await.unwrap();
    env.sleep(Duration::from_mins(1)).await;
    assert_eq!(env.timed("bank.test").await, (STALE_AFTER, true), "the first one waits a little");
    for _ in 0..100 {
        let (took, found) = env.timed("bank.test").await;
        assert!(found && took <= STALE_AFTER, "{took:?}");
        env.sleep(100 * MS).await;
    }
    assert!(asked.load(Ordering::SeqCst) <= 4);
    env.sleep(Duration::from_hours(2)).await;
    assert!(!env.timed("bank.test").await.1, "not forever");
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_refreshes_an_expired_answer_for_the_calls_after_it() {
    let env = env(|_| (800 * MS, found(Duration::from_mins(1))));
    assert_eq!(env.timed("bank.test").await, (800 * MS, true));
    env.sleep(Duration::from_mins(1)).await;
    assert_eq!(env.timed("bank.test").await, (STALE_AFTER, true));
    env.sleep(300 * MS).await;
    env.sleep(Duration::from_secs(30)).await;
    assert_eq!(env.timed("bank.test").await, (Duration::ZERO, true));
    assert_eq!(env.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_is_known_for_at_most_thirty_seconds() {
    let env = env(|_| (MS, Err(LookupError::NotFound { ttl: Some(HUNG) })));
    assert_eq!(env.timed("bank.test").await, (MS, false));
    assert_eq!(env.timed("bank.test").await, (Duration::ZERO, false));
    env.sleep(Duration::from_secs(30)).await;
    assert_eq!(env.timed("bank.test").await, (MS, false));
}

#[tokio::test(start_paused = true)]
async fn look_ups_that_the_shutdown_ends_leave_no_caller_waiting() {
    let env = env(|_| (HUNG, found(HUNG)));
    let tasks = env.resolver.inner.tasks.clone();
    let (found, late) = futures::join!(env.timed("bank.test"), tasks.drain(Duration::from_secs(1)));
    assert!(!found.1 && late.is_empty());
    assert!(env.resolver.inner.lock().in_flight.is_empty());
}

#[test]
fn the_turn_of_a_name_is_that_of_its_domain() {
    for (name, domain) in [("api.bank.test", "bank.test"), ("bank.test", "bank.test"), ("a.b.bank.test.", "bank.test")]
    {
        assert_eq!(&*owner(name).namespace, domain, "{name}");
    }
    assert_eq!(&*owner("localhost").namespace, "localhost");
}
