//! The call path, in one place.
//!
//! The order is the argument: a trace shows the whole of a call; who may not call is told so before anything else happens;
//! a kept answer needs nothing else; time is fixed next; the breaker is asked before anything is spent and records one
//! outcome after the last try; each try waits for its turn in the quota; credentials are put on each try, because a token
//! may change between two; only then does the time of a try begin, because none of that is the provider's; HTTP is last.

use std::sync::Arc;

use tower::ServiceBuilder;

use crate::provider::admission::Admission;
use crate::provider::auth::Authenticate;
use crate::provider::cache::Cached;
use crate::provider::deadline::{Cutoff, Deadline};
use crate::provider::exchange::Exchange;
use crate::provider::live::Running;
use crate::provider::observe::Core;
use crate::provider::quota::Turn;
use crate::provider::retry::Again;
use crate::provider::rights::Rights;
use crate::provider::timeout::PerTry;
use crate::provider::trace::{Traced, TracedTry};

/// The whole path of one connection's settings.
pub(crate) type Stack = Traced<Rights<Cached<Tried>>>;
/// What a call goes through that no kept answer serves.
type Tried = Deadline<Admission<Cutoff<Again<TracedTry<Turn<Authenticate<PerTry<Exchange>>>>>>>>;

/// Builds the path.
pub(crate) fn build(core: &Arc<Core>, running: Running) -> Stack {
    let Running { settings, client, proof, licences } = running;
    let (settings, clock) = (&settings, core.clock());
    ServiceBuilder::new()
        .layer_fn(|inner| Traced::new(inner, Arc::clone(core), Arc::clone(settings)))
        .layer_fn(|inner| Rights::new(inner, core.key().clone(), Arc::clone(settings), Arc::clone(&licences)))
        .layer_fn(|inner| Cached::new(inner, Arc::clone(core), Arc::clone(settings)))
        .layer_fn(|inner| Deadline::new(inner, clock, Arc::clone(settings)))
        .layer_fn(|inner| Admission::new(inner, Arc::clone(core), Arc::clone(settings)))
        .layer_fn(|inner| Cutoff::new(inner, clock))
        .layer_fn(|inner| Again::new(inner, Arc::clone(core), Arc::clone(settings)))
        .layer_fn(TracedTry::new)
        .layer_fn(|inner| Turn::new(inner, Arc::clone(core), Arc::clone(settings)))
        .layer_fn(|inner| Authenticate::new(inner, Arc::clone(core), Arc::clone(settings), proof.clone()))
        .layer_fn(|inner| PerTry::new(inner, clock, settings.timeouts().request))
        .service(Exchange::new(client, clock, Arc::clone(settings)))
}
