//! Who a caller is and what he may do: `TokenReview` and `SubjectAccessReview`.
//!
//! Busbar keeps no users of its own: the API server says whom a bearer token belongs to and whether RBAC allows an act.
//! Its word is kept for ten seconds at most, under a hash of the token, never under the token; a revoked right is gone
//! that soon. Where the API server gives no answer there is no permission.
//!
//! Reviews are dear to the API server, and anybody can send a token. So a token is told from a guess by whether it was
//! valid within the hour: one that was is asked about at once, any other only if the asker's address may ([`Authorizer::authenticate`]),
//! and the two do not wait in the same queue.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use prometheus::IntCounterVec;
use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::cluster::ApiError;
use crate::domain::time::Mono;
use crate::metrics::{Metrics, MetricsError};

/// How long the API server's word counts.
pub const TTL: Duration = Duration::from_secs(10);

/// Longest wait for one review, its turn included: somebody waits for an answer of ours, and there are two reviews in it.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a silence counts: those who waited for the same word share it, instead of waiting one after the other.
const SILENCE_TTL: Duration = Duration::from_secs(1);

/// Words kept: a token or an act each. Some hundred bytes each, so a flood of forged tokens costs a megabyte.
const KEPT: usize = 10_000;

/// How long a token that was valid is none that somebody guessed. It is asked about as often as any other.
const PROVEN: Duration = Duration::from_hours(1);

/// Reviews at once of tokens that nobody has proven yet.
const STRANGERS: usize = 32;

/// Reviews at once of everything else: proven tokens, and the acts of those who are known.
const ACQUAINTED: usize = 64;

/// Whom a token belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// His name.
    pub user: String,
    /// His UID, if the API server knows one.
    pub uid: Option<String>,
    /// His groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
    /// Tells subjects apart: a hash of all of the above.
    pub id: [u8; 32],
}

impl Subject {
    /// A subject of these parts.
    pub fn new(
        user: impl Into<String>,
        uid: Option<String>,
        groups: Vec<String>,
        extra: std::collections::BTreeMap<String, Vec<String>>,
    ) -> Self {
        let user = user.into();
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_le_bytes());
            hash.update(text.as_bytes());
        };
        part(&user);
        part(uid.as_deref().unwrap_or_default());
        for group in &groups {
            part(group);
        }
        for (key, values) in &extra {
            part(key);
            for value in values {
                part(value);
            }
        }
        Self { id: hash.finalize().into(), user, uid, groups, extra }
    }
}

/// Something that RBAC can allow, in group `busbar.dev`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Act {
    /// The verb.
    pub verb: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// The subresource, or nothing.
    pub subresource: &'static str,
    /// The namespace; empty: in all of them.
    pub namespace: String,
    /// The object's name; empty: any.
    pub name: String,
}

/// Why nobody was let in.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuthError {
    /// The API server does not know the token.
    #[error("the token is not valid")]
    InvalidToken,
    /// The API server did not say, so nobody is let in.
    #[error("the API server did not say who the caller is or what he may do")]
    Unavailable,
    /// Nobody was asked, for it is too early to ask about another token from there.
    #[error("the token is not known, and it is too early to ask about it")]
    NotAsked {
        /// When it may be asked.
        retry_in: Duration,
    },
}

/// Asks. The seam between the caching and the API server.
pub trait Reviewer: Send + Sync + 'static {
    /// Whom `token` belongs to; `None` if it is not valid.
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Subject>, ApiError>>;
    /// Whether `subject` may do `act`.
    fn access<'a>(&'a self, subject: &'a Subject, act: &'a Act) -> BoxFuture<'a, Result<bool, ApiError>>;
}

/// The API server.
pub struct ApiServer {
    client: Client,
    audiences: Vec<String>,
}

impl ApiServer {
    /// Asks through `client`. Tokens must be for one of `audiences`; empty: for the API server itself.
    pub fn new(client: Client, audiences: Vec<String>) -> Self {
        Self { client, audiences }
    }
}

impl Reviewer for ApiServer {
    fn token<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Subject>, ApiError>> {
        Box::pin(async move {
            let audiences = (!self.audiences.is_empty()).then(|| self.audiences.clone());
            let review = TokenReview {
                spec: TokenReviewSpec { token: Some(token.to_owned()), audiences },
                ..TokenReview::default()
            };
            let api: Api<TokenReview> = Api::all(self.client.clone());
            let status = super::call(api.create(&PostParams::default(), &review)).await?.status.unwrap_or_default();
            // An authenticator that knows no audiences answers without any: then the token is the API server's.
            let for_us = self.audiences.is_empty()
                || status.audiences.unwrap_or_default().iter().any(|audience| self.audiences.contains(audience));
            let user = status.user.filter(|_| status.authenticated == Some(true) && for_us);
            Ok(user.and_then(|user| {
                let name = user.username.filter(|name| !name.is_empty())?;
                Some(Subject::new(name, user.uid, user.groups.unwrap_or_default(), user.extra.unwrap_or_default()))
            }))
        })
    }

    fn access<'a>(&'a self, subject: &'a Subject, act: &'a Act) -> BoxFuture<'a, Result<bool, ApiError>> {
        Box::pin(async move {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(subject.user.clone()),
                    uid: subject.uid.clone(),
                    groups: Some(subject.groups.clone()),
                    extra: Some(subject.extra.clone()),
                    resource_attributes: Some(ResourceAttributes {
                        group: Some("busbar.dev".to_owned()),
                        verb: Some(act.verb.to_owned()),
                        resource: Some(act.resource.to_owned()),
                        subresource: some(act.subresource),
                        namespace: some(&act.namespace),
                        name: some(&act.name),
                        ..ResourceAttributes::default()
                    }),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
            let status = super::call(api.create(&PostParams::default(), &review)).await?.status;
            Ok(status.is_some_and(|status| status.allowed && status.denied != Some(true)))
        })
    }
}

/// What was said.
#[derive(Clone)]
struct Said<T> {
    until: Mono,
    /// `None`: the API server did not say.
    word: Option<T>,
}

/// Authenticates and authorizes, with a short memory.
pub struct Authorizer {
    reviewer: Arc<dyn Reviewer>,
    clock: Clock,
    tokens: Cache<[u8; 32], Said<Option<Arc<Subject>>>>,
    acts: Cache<([u8; 32], Act), Said<bool>>,
    /// Until when a token that was valid is proven.
    proven: Cache<[u8; 32], Mono>,
    strangers: Semaphore,
    acquainted: Semaphore,
    reviews: IntCounterVec,
}

impl Authorizer {
    /// One that asks `reviewer`.
    pub fn new(reviewer: Arc<dyn Reviewer>, clock: Clock, metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            reviewer,
            clock,
            tokens: Cache::new(KEPT),
            acts: Cache::new(KEPT),
            proven: Cache::new(KEPT),
            strangers: Semaphore::new(STRANGERS),
            acquainted: Semaphore::new(ACQUAINTED),
            reviews: metrics.counter(
                "busbar_gateway_reviews_total",
                "Reviews of tokens and of access that the API server was asked for, by result.",
                &["review", "result"],
            )?,
        })
    }

    /// Whom the token is known to belong to without asking anybody: `Some(None)` for one known to be invalid.
    pub fn known(&self, token: &str) -> Option<Option<Arc<Subject>>> {
        let said = self.tokens.get(&digest(token))?;
        if self.fresh(&said) { said.word } else { None }
    }

    /// Whom the token belongs to. `admit` is called before anybody is asked about a token that is not proven; what it
    /// refuses is not asked.
    pub async fn authenticate(
        &self,
        token: &str,
        admit: impl FnOnce() -> Result<(), Duration>,
    ) -> Result<Arc<Subject>, AuthError> {
        let key = digest(token);
        let proven = self.proven.get(&key).is_some_and(|until| self.clock.mono() < until);
        let (slots, admit) = if proven { (&self.acquainted, None) } else { (&self.strangers, Some(admit)) };
        let manner = Manner { review: "token", slots, admit };
        let ask = async { Ok(self.reviewer.token(token).await?.map(Arc::new)) };
        let word = self.remembered(&self.tokens, &key, manner, ask).await?;
        match &word {
            Some(_) => self.proven.insert(key, self.clock.mono() + PROVEN),
            None => drop(self.proven.remove(&key)),
        }
        word.ok_or(AuthError::InvalidToken)
    }

    /// Whether he may do it.
    pub async fn may(&self, subject: &Subject, act: &Act) -> Result<bool, AuthError> {
        let key = (subject.id, act.clone());
        let free: Option<fn() -> Result<(), Duration>> = None;
        let manner = Manner { review: "access", slots: &self.acquainted, admit: free };
        self.remembered(&self.acts, &key, manner, self.reviewer.access(subject, act)).await
    }

    fn fresh<T>(&self, said: &Said<T>) -> bool {
        self.clock.mono() < said.until
    }

    /// What `ask` says, or said within [`TTL`]. Callers who want the same wait for one question.
    async fn remembered<K, T>(
        &self,
        cache: &Cache<K, Said<T>>,
        key: &K,
        manner: Manner<'_, impl FnOnce() -> Result<(), Duration>>,
        ask: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, AuthError>
    where
        K: std::hash::Hash + Eq + Clone,
        T: Clone,
    {
        let Manner { review, slots, admit } = manner;
        cache.remove_if(key, |said| !self.fresh(said));
        let guard = match cache.get_value_or_guard_async(key).await {
            Ok(said) => return said.word.ok_or(AuthError::Unavailable),
            Err(guard) => guard,
        };
        // Whoever waits for the same word asks in his place, if he may.
        admit.map_or(Ok(()), |admit| admit()).map_err(|retry_in| AuthError::NotAsked { retry_in })?;
        // As of before the question: what changes while it is under way is not older than the answer.
        let asked = self.clock.mono();
        let in_turn = async {
            // Never closed.
            let _slot = slots.acquire().await;
            ask.await
        };
        let end = tokio::time::timeout(REVIEW_TIMEOUT, in_turn).await.unwrap_or(Err(ApiError::Timeout));
        match end {
            Ok(word) => {
                self.reviews.with_label_values(&[review, "answered"]).inc();
                // A guard whose place was taken meanwhile has nothing to fill; the word is as good.
                let _ = guard.insert(Said { until: asked + TTL, word: Some(word.clone()) });
                Ok(word)
            }
            Err(error) => {
                self.reviews.with_label_values(&[review, "failed"]).inc();
                if error.is_forbidden() {
                    tracing::warn!(
                        review,
                        "the API server does not let the operator ask about callers: bind the ClusterRole \
                         busbar-operator-reviews (config/rbac/)"
                    );
                } else {
                    tracing::debug!(review, %error, "a review failed");
                }
                let _ = guard.insert(Said { until: self.clock.mono() + SILENCE_TTL, word: None });
                Err(AuthError::Unavailable)
            }
        }
    }
}

/// How something is asked.
struct Manner<'a, F> {
    review: &'a str,
    slots: &'a Semaphore,
    /// Whether it may be asked at all; unset: it may.
    admit: Option<F>,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests;
