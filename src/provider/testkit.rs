//! Settings and connections for the unit tests of this layer.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tower::Service;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::domain::time::Mono;
use crate::metrics::Metrics;
use crate::provider::call::{Answer, CallError, Meta, Request};
use crate::provider::classify::{Reading, Wait};
use crate::provider::compat::Compat;
use crate::provider::deadline::{Inner, Timed};
use crate::provider::observe::Core;
use crate::provider::profile::{Environment, Profiles};
use crate::provider::registry::Listeners;
use crate::provider::series::Shared;
use crate::provider::settings::{Draft, Settings};
use crate::telemetry::traces::Traces;

/// A connection of the generic provider.
pub(crate) fn draft() -> Draft {
    let profile = Profiles::builtin().unwrap().get("generic").unwrap();
    let mut draft = Draft::new(profile, Environment::Sandbox);
    draft.base_url = "http://bank.test/v1".to_owned();
    draft
}

pub(crate) fn settings(change: impl FnOnce(&mut Draft)) -> Arc<Settings> {
    let mut draft = draft();
    change(&mut draft);
    Arc::new(Settings::resolve(draft).unwrap())
}

/// What is observed about a connection with these settings. Needs a tokio runtime.
pub(crate) fn core(settings: &Settings) -> Arc<Core> {
    core_with(settings, Arc::default())
}

/// The same, with somebody who listens.
pub(crate) fn core_with(settings: &Settings, listeners: Arc<Listeners>) -> Arc<Core> {
    core_on(settings, Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()), listeners)
}

/// The same, by another clock.
pub(crate) fn core_on(settings: &Settings, clock: Clock, listeners: Arc<Listeners>) -> Arc<Core> {
    let series = Arc::new(Shared::new(&Metrics::new(), Traces::off(), Compat::default()).unwrap());
    Core::new(ObjectKey::new("ns", "bank"), clock, listeners, series, settings, None)
}

pub(crate) fn answer(status: u16) -> Answer {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        elapsed: std::time::Duration::ZERO,
        reading: Reading::of_status(status),
        meta: Meta::default(),
    }
}

/// A service made of a function, to stand for everything below the layer under test.
pub(crate) fn below<F, Fut>(act: F) -> Below<F>
where
    F: Fn(Timed) -> Fut,
    Fut: Future<Output = Result<Answer, CallError>> + Send + 'static,
{
    Below(act)
}

#[derive(Clone)]
pub(crate) struct Below<F>(F);

impl<F, Fut> Service<Timed> for Below<F>
where
    F: Fn(Timed) -> Fut,
    Fut: Future<Output = Result<Answer, CallError>> + Send + 'static,
{
    type Response = Answer;
    type Error = CallError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), CallError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, timed: Timed) -> Fut {
        (self.0)(timed)
    }
}

/// What a [`scripted`] service was asked: when, counted from its making.
pub(crate) type Asked = Arc<std::sync::Mutex<Vec<std::time::Duration>>>;

/// A service that ends its calls as told, the last way for ever, and notes when it was asked.
pub(crate) fn scripted(
    ends: impl IntoIterator<Item = Result<Answer, CallError>>,
) -> (impl Inner + Clone + Send + 'static, Asked) {
    let (ends, asked): (Vec<_>, Asked) = (ends.into_iter().collect(), Arc::default());
    let (seen, clock) = (Arc::clone(&asked), Clock::system());
    let inner = below(move |_| {
        let mut seen = seen.lock().unwrap();
        seen.push(clock.mono().since(Mono::ZERO));
        let end = ends.get(seen.len() - 1).or(ends.last()).cloned().expect("an end");
        async move { end }
    });
    (inner, asked)
}

/// The same answer, with the provider's wish for a pause.
pub(crate) fn asking(status: u16, seconds: u64) -> Answer {
    let mut answer = answer(status);
    answer.reading.wait = Some(Wait::For(std::time::Duration::from_secs(seconds)));
    answer
}

type Act = Arc<dyn Fn(Request) -> futures::future::BoxFuture<'static, Result<Answer, CallError>> + Send + Sync>;

/// A service over plain requests, to stand for everything below the deadline and itself.
#[derive(Clone)]
pub(crate) struct Plain(Act);

/// Makes one.
pub(crate) fn plainly(
    act: impl Fn(Request) -> futures::future::BoxFuture<'static, Result<Answer, CallError>> + Send + Sync + 'static,
) -> Plain {
    Plain(Arc::new(act))
}

impl Service<Request> for Plain {
    type Response = Answer;
    type Error = CallError;
    type Future = futures::future::BoxFuture<'static, Result<Answer, CallError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), CallError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        (self.0)(request)
    }
}
