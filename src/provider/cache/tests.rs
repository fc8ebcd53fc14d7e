use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::kept::MAX_BYTES;
use super::*;
use crate::provider::addresses::{AddressKind, AddressProblem, Peer};
use crate::provider::call::{ConnectProblem, KeepProblem};
use crate::provider::settings::Draft;
use crate::provider::testkit::{Plain, answer, core, plainly, settings};

type End = Result<Answer, CallError>;

fn keeping(change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    settings(|draft| {
        draft.cache = Some(CachePolicy { ttl: Duration::from_secs(15), max_stale: Duration::from_hours(1) });
        change(draft);
    })
}

fn quote(symbol: &str) -> Request {
    Request { cache: CacheUse::FreshOrStale, ..Request::get("quote", "/quote").with_query("symbol", symbol) }
}

struct World {
    path: Cached<Plain>,
    sent: Arc<AtomicUsize>,
}

/// This layer alone, over a path that takes `takes` and ends its calls like this.
fn world(settings: &Arc<Settings>, takes: Duration, ends: Vec<End>) -> World {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let inner = plainly(move |_| {
        let at = counted.fetch_add(1, Ordering::Relaxed);
        let end = ends.get(at).or(ends.last()).cloned().unwrap();
        async move {
            tokio::time::sleep(takes).await;
            end
        }
        .boxed()
    });
    World { path: Cached::new(inner, core(settings), Arc::clone(settings)), sent }
}

impl World {
    async fn call(&self, request: Request) -> End {
        self.path.clone().oneshot(request).await
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

fn open() -> End {
    Err(CallError::CircuitOpen { retry_in: None })
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_is_given_instead_of_a_call_and_says_its_age() {
    let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(answer(200))]);
    let first = world.call(quote("A")).await.unwrap();
    assert!(!first.meta.cached);
    tokio::time::advance(SECOND * 14).await;
    let kept = world.call(quote("A")).await.unwrap().meta;
    assert_eq!(kept, Meta { cached: true, stale: false, age: SECOND * 14, tries: 0 });
    assert_eq!(world.sent(), 1);
    tokio::time::advance(SECOND).await;
    assert!(!world.call(quote("A")).await.unwrap().meta.cached, "at the end of its time it is not fresh");
    assert_eq!(world.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_given_when_the_circuit_is_open_or_the_call_failed_and_only_within_its_time() {
    for failure in [
        open(),
        Err(CallError::Timeout),
        Err(CallError::Connect(ConnectProblem::Reset)),
        Err(CallError::QuotaExhausted { retry_in: SECOND }),
        Err(CallError::Throttled { retry_in: SECOND }),
        Err(CallError::TokenCircuitOpen { retry_in: None }),
        Err(CallError::NotKept(KeepProblem::Ledger)),
        Err(CallError::Refused(AddressProblem { peer: Peer::Provider, kind: AddressKind::LinkLocal })),
        Ok(answer(503)),
        Ok(answer(429)),
    ] {
        let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(answer(200)), failure.clone()]);
        world.call(quote("A")).await.unwrap();
        for (wait, age) in [(20, 20), (3580, 3600)].map(|(wait, age)| (SECOND * wait, SECOND * age)) {
            tokio::time::advance(wait).await;
            let told = world.call(quote("A")).await.unwrap();
            assert_eq!(told.meta, Meta { cached: true, stale: true, age, tries: 0 });
            assert_eq!(told.status, 200);
        }
        tokio::time::advance(SECOND).await;
        let after = world.call(quote("A")).await;
        assert_eq!(after.map(|a| a.status).ok(), failure.map(|a| a.status).ok(), "past its time the failure is told");
        assert_eq!(world.sent(), 4, "each time the provider is asked first");
    }
}

#[tokio::test(start_paused = true)]
async fn the_providers_own_no_is_no_failure() {
    for no in [Ok(answer(404)), Ok(answer(401)), Ok(answer(403)), Err(CallError::CredentialsRefused { status: 401 })] {
        let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(answer(200)), no]);
        world.call(quote("A")).await.unwrap();
        tokio::time::advance(SECOND * 20).await;
        assert!(!world.call(quote("A")).await.is_ok_and(|answer| answer.meta.cached));
    }
}

#[tokio::test(start_paused = true)]
async fn only_good_answers_are_kept() {
    let mut hidden = answer(200);
    hidden.reading.class = Class::Quota;
    for bad in [Ok(answer(404)), Ok(answer(500)), Ok(hidden)] {
        let world = world(&keeping(|_| {}), Duration::ZERO, vec![bad, open()]);
        let _ = world.call(quote("A")).await;
        assert!(world.call(quote("A")).await.is_err());
        assert_eq!(world.sent(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_ask_for_it_and_connections_without_a_cache_get_the_providers_word() {
    let asked = || Request { cache: CacheUse::None, ..quote("A") };
    let writes = || Request { class: CallClass::Write, ..quote("A") };
    let none = settings(|_| {});
    let suspended = keeping(|draft| draft.suspended = true);
    for (settings, request) in
        [(keeping(|_| {}), asked()), (keeping(|_| {}), writes()), (none, quote("A")), (suspended, quote("A"))]
    {
        let world = world(&settings, Duration::ZERO, vec![Ok(answer(200))]);
        for _ in 0..2 {
            assert!(!world.call(request.clone()).await.unwrap().meta.cached);
        }
        assert_eq!(world.sent(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn another_question_is_another_answer_and_ids_of_a_call_are_no_part_of_it() {
    let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(answer(200))]);
    let with = |name: &'static str, value: &'static str| {
        let mut request = quote("A");
        request.headers.insert(name, value.parse().unwrap());
        request
    };
    for request in [
        quote("A"),
        quote("B"),
        Request { path: "/other".to_owned(), ..quote("A") },
        Request { body: Some("x".into()), ..quote("A") },
        with("accept", "text/csv"),
        // Where one part ends and the next begins counts.
        Request { query: vec![("sy".to_owned(), "mbolA".to_owned())], ..quote("A") },
    ] {
        assert!(!world.call(request).await.unwrap().meta.cached);
    }
    for request in [quote("A"), with("x-request-id", "1"), with("traceparent", "2")] {
        assert!(world.call(request).await.unwrap().meta.cached);
    }
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_question_share_one_call_and_its_end() {
    for end in [Ok(answer(200)), Err(CallError::Timeout)] {
        let world = world(&keeping(|_| {}), SECOND, vec![end.clone()]);
        let ends = futures::future::join_all((0..100).map(|_| world.call(quote("A")))).await;
        assert_eq!(world.sent(), 1);
        assert!(ends.iter().all(|one| one.is_ok() == end.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_takes_nobodys_answer_along() {
    let world = world(&keeping(|_| {}), SECOND * 5, vec![Ok(answer(200))]);
    let mut first = Box::pin(world.call(quote("A")));
    assert!((&mut first).now_or_never().is_none());
    let mut second = Box::pin(world.call(quote("A")));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(world.sent(), 1);
    // And if all go away, the next one asks anew.
    let mut alone = Box::pin(world.call(quote("B")));
    assert!((&mut alone).now_or_never().is_none());
    drop(alone);
    assert!(world.call(quote("B")).await.is_ok());
    assert_eq!(world.sent(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_has_less_patience_makes_a_call_of_his_own() {
    let world = world(&keeping(|_| {}), SECOND, vec![Ok(answer(200))]);
    let hasty = Request { within: Some(SECOND * 2), no_wait: true, ..quote("A") };
    let _ = tokio::join!(world.call(quote("A")), world.call(hasty));
    assert_eq!(world.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_a_connection_are_bounded_and_given_back() {
    let mut large = answer(200);
    large.body = vec![b'x'; 100_000].into();
    let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(large)]);
    let total = || u64::try_from(world.path.core.series().cache_bytes().get()).unwrap();
    for n in 0..200 {
        world.call(quote(&n.to_string())).await.unwrap();
        assert!(total() <= MAX_BYTES, "{}", total());
    }
    assert!(total() > MAX_BYTES / 2);
    // Past its time nothing is worth its memory.
    tokio::time::advance(Duration::from_hours(2)).await;
    world.call(quote("new")).await.unwrap();
    assert!(total() < 200_000, "{}", total());
    world.path.core.kept().clear();
    assert_eq!(total(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_to_keep_takes_the_place_of_none() {
    let mut large = answer(200);
    large.body = vec![b'x'; usize::try_from(MAX_BYTES).unwrap()].into();
    let world = world(&keeping(|_| {}), Duration::ZERO, vec![Ok(answer(200)), Ok(large), open()]);
    world.call(quote("A")).await.unwrap();
    tokio::time::advance(SECOND * 20).await;
    world.call(quote("A")).await.unwrap();
    assert!(world.call(quote("A")).await.is_err(), "what it was before is older than what was said since");
}

#[tokio::test(start_paused = true)]
async fn other_credentials_are_another_question() {
    let first = keeping(|_| {});
    let world = world(&first, Duration::ZERO, vec![Ok(answer(200))]);
    world.call(quote("A")).await.unwrap();
    let rotated = keeping(|draft| draft.credential_revision = "secret/2".to_owned());
    world.path.core.reconfigure(&first, &rotated);
    assert_eq!(world.path.core.series().cache_bytes().get(), 0);
    let after = Cached { settings: rotated, ..world.path.clone() };
    assert!(!after.oneshot(quote("A")).await.unwrap().meta.cached);
}
