//! The memory, its limits, and who is asked about at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

#[derive(Default)]
struct Scripted {
    asked: AtomicUsize,
    down: AtomicBool,
    revoked: AtomicBool,
    /// Reviews under way, and the most there were.
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Scripted {
    async fn work(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whoever asks may.
#[expect(clippy::unnecessary_wraps, reason = "one that a limit holds back is told how long")]
fn free() -> Result<(), Duration> {
    Ok(())
}

impl Reviewer for Scripted {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Subject>, ApiError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            self.work().await;
            if self.down.load(Ordering::Relaxed) {
                return Err(ApiError::Timeout);
            }
            let name = token.strip_prefix("good-").filter(|_| !self.revoked.load(Ordering::Relaxed));
            Ok(name.map(|name| Subject::new(name, None, vec![], std::collections::BTreeMap::default())))
        })
    }

    fn access<'a>(&'a self, subject: &'a Subject, act: &'a Act) -> BoxFuture<'a, Result<bool, ApiError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            self.work().await;
            if self.down.load(Ordering::Relaxed) {
                return Err(ApiError::Timeout);
            }
            Ok(subject.user == "ann" && act.namespace == "team")
        })
    }
}

fn authorizer() -> (Authorizer, Arc<Scripted>) {
    let reviewer = Arc::new(Scripted::default());
    (Authorizer::new(reviewer.clone(), Clock::system(), &Metrics::new()).unwrap(), reviewer)
}

fn call(namespace: &str) -> Act {
    Act {
        verb: "create",
        resource: "providerconnections",
        subresource: "call",
        namespace: namespace.into(),
        name: "fmp".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_counts_for_ten_seconds_good_or_bad_and_no_longer() {
    let (authorizer, reviewer) = authorizer();
    assert_eq!(authorizer.known("good-ann"), None);
    for token in ["good-ann", "good-ann", "forged", "forged"] {
        let _ = authorizer.authenticate(token, free).await;
    }
    assert_eq!(reviewer.asked.load(Ordering::Relaxed), 2);
    assert_eq!(authorizer.known("good-ann").unwrap().unwrap().user, "ann");
    assert_eq!(authorizer.known("forged"), Some(None));
    assert_eq!(authorizer.authenticate("forged", free).await.unwrap_err(), AuthError::InvalidToken);
    tokio::time::advance(TTL).await;
    assert_eq!(authorizer.known("good-ann"), None);
    assert_eq!(authorizer.authenticate("good-ann", free).await.unwrap().user, "ann");
    assert_eq!(reviewer.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn many_callers_with_one_new_token_are_one_question() {
    let (authorizer, reviewer) = authorizer();
    let all = futures::future::join_all((0..100).map(|_| authorizer.authenticate("good-ann", free))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(reviewer.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn who_may_what_is_asked_for_each_act_and_each_subject() {
    let (authorizer, _) = authorizer();
    let ann = authorizer.authenticate("good-ann", free).await.unwrap();
    let bob = authorizer.authenticate("good-bob", free).await.unwrap();
    assert!(authorizer.may(&ann, &call("team")).await.unwrap());
    assert!(!authorizer.may(&ann, &call("other")).await.unwrap());
    assert!(!authorizer.may(&bob, &call("team")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_is_let_in_and_a_second_later_it_is_asked_again() {
    let (authorizer, reviewer) = authorizer();
    let ann = authorizer.authenticate("good-ann", free).await.unwrap();
    reviewer.down.store(true, Ordering::Relaxed);
    assert_eq!(authorizer.may(&ann, &call("team")).await.unwrap_err(), AuthError::Unavailable);
    assert_eq!(authorizer.authenticate("good-bob", free).await.unwrap_err(), AuthError::Unavailable);
    assert_eq!(authorizer.known("good-bob"), None);
    reviewer.down.store(false, Ordering::Relaxed);
    tokio::time::advance(SILENCE_TTL).await;
    assert!(authorizer.may(&ann, &call("team")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn reviews_at_once_are_few_and_guesses_do_not_stand_in_the_way_of_those_who_are_known() {
    let (authorizer, reviewer) = authorizer();
    let ann = authorizer.authenticate("good-ann", free).await.unwrap();
    tokio::time::advance(TTL).await;
    let guesses: Vec<String> = (0..1_000).map(|n| format!("forged-{n}")).collect();
    let guessing = futures::future::join_all(guesses.iter().map(|token| authorizer.authenticate(token, free)));
    let clock = Clock::system();
    let known = async {
        let began = clock.mono();
        assert_eq!(authorizer.authenticate("good-ann", free).await.unwrap().id, ann.id);
        assert!(authorizer.may(&ann, &call("team")).await.unwrap());
        clock.mono().since(began)
    };
    let (_, took) = tokio::join!(guessing, known);
    assert_eq!(took, Duration::from_millis(20), "two reviews, without a queue");
    assert!(reviewer.most.load(Ordering::Relaxed) <= STRANGERS + 1);

    reviewer.most.store(0, Ordering::Relaxed);
    let acts: Vec<Act> = (0..1_000).map(|n| call(&format!("team-{n}"))).collect();
    let all = futures::future::join_all(acts.iter().map(|act| authorizer.may(&ann, act))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(reviewer.most.load(Ordering::Relaxed), ACQUAINTED);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_proven_for_an_hour_and_no_longer_once_it_is_revoked() {
    let (authorizer, reviewer) = authorizer();
    let never = || Err(Duration::from_secs(7));
    let refused = AuthError::NotAsked { retry_in: Duration::from_secs(7) };
    assert_eq!(authorizer.authenticate("good-ann", never).await.unwrap_err(), refused);
    assert_eq!(reviewer.asked.load(Ordering::Relaxed), 0);
    authorizer.authenticate("good-ann", free).await.unwrap();
    tokio::time::advance(PROVEN.saturating_sub(TTL)).await;
    authorizer.authenticate("good-ann", never).await.unwrap();
    tokio::time::advance(PROVEN + TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", never).await.unwrap_err(), refused);

    authorizer.authenticate("good-ann", free).await.unwrap();
    reviewer.revoked.store(true, Ordering::Relaxed);
    tokio::time::advance(TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", never).await.unwrap_err(), AuthError::InvalidToken);
    tokio::time::advance(TTL).await;
    assert_eq!(authorizer.authenticate("good-ann", never).await.unwrap_err(), refused, "it is as good as a guess now");
}
