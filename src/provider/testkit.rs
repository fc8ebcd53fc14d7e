//! Settings and connections for the unit tests of this layer.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tower::Service;

use crate::clock::Clock;
use crate::domain::key::ObjectKey;
use crate::metrics::Metrics;
use crate::provider::call::{Answer, CallError, Meta};
use crate::provider::classify::Reading;
use crate::provider::deadline::Timed;
use crate::provider::observe::Core;
use crate::provider::profile::{Environment, Profiles};
use crate::provider::registry::Listeners;
use crate::provider::series::Durations;
use crate::provider::settings::{Draft, Settings};

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
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    let durations = Durations::new(&Metrics::new()).unwrap();
    Core::new(ObjectKey::new("ns", "bank"), clock, listeners, durations, settings, None)
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
