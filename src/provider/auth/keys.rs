//! What a connection's Secrets hold now. A refusal is how a rotation shows: whoever is refused has the Secret read again,
//! once for all who are refused with the same credential, and is told if another one stands there by now.
//!
//! What is found serves calls, a client certificate by a client of its own, until the connection's settings are renewed by
//! those who keep them, who are told to look. It is taken only if it is for the same place: a connection that is about to be
//! led elsewhere does not send the credential of tomorrow's provider to today's. A credential that stays refused is looked
//! for ever more seldom.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};

use crate::domain::time::Mono;
use crate::provider::auth::vault::SecretSource;
use crate::provider::clients::{Client, Clients};
use crate::provider::observe::Core;
use crate::provider::settings::{Auth, Settings};

/// After a look that found nothing new, the next comes after this, and each further one after twice as long.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// No longer than this: the refresh time of Secrets is a minute unless set otherwise.
const LONGEST: Duration = Duration::from_mins(1);

type Flight = Shared<BoxFuture<'static, ()>>;

#[derive(Default)]
struct State {
    /// What the Secrets were found to hold in place of what the settings in force say.
    renewed: Option<Arc<Settings>>,
    /// The client that shows the certificate found there, where it is another one.
    certified: Option<(Arc<Settings>, Client)>,
    /// The look under way.
    flight: Option<Flight>,
    /// No look before this.
    look_again: Mono,
}

/// The credentials of one connection.
pub(crate) struct Keys {
    first: Arc<Settings>,
    core: Arc<Core>,
    lookup: Option<Lookup>,
    state: Mutex<State>,
}

/// Where a refused credential is looked for, and what makes clients that show another certificate.
pub(crate) struct Lookup {
    pub(crate) secrets: Arc<dyn SecretSource>,
    pub(crate) clients: Clients,
}

impl Keys {
    /// Those of `first`, until its Secrets are found to hold others.
    pub(crate) fn new(first: Arc<Settings>, core: Arc<Core>, lookup: Option<Lookup>) -> Arc<Self> {
        Arc::new(Self { first, core, lookup, state: Mutex::default() })
    }

    /// Whether there is a Secret to look into when a credential is refused.
    pub(crate) fn can_change(&self) -> bool {
        self.lookup.is_some() && !matches!(self.first.auth(), Auth::None)
    }

    /// The client that shows the certificate of the Secret, where it is known to be another one than that of the settings.
    pub(crate) fn client(&self) -> Option<Client> {
        self.lock().certified.as_ref().map(|(_, client)| client.clone())
    }

    /// The certificate that `sent` showed (none: that of the settings) was refused: a client that shows another one, if the
    /// Secret holds one by now.
    pub(crate) async fn client_instead_of(self: &Arc<Self>, sent: Option<&Client>) -> Option<Client> {
        let other = |client: &Client| sent.is_none_or(|sent| !client.is(sent));
        let look = {
            let mut state = self.lock();
            if let Some((_, client)) = state.certified.as_ref().filter(|(_, client)| other(client)) {
                return Some(client.clone());
            }
            self.look(&mut state)?
        };
        look.await;
        self.client().filter(other)
    }

    /// The credentials as far as they are known.
    pub(crate) fn current(&self) -> Arc<Settings> {
        Arc::clone(self.lock().renewed.as_ref().unwrap_or(&self.first))
    }

    /// `sent` was refused: what there is to send in its place, if the Secret holds something else by now.
    pub(crate) async fn instead_of(self: &Arc<Self>, sent: &Arc<Settings>) -> Option<Arc<Settings>> {
        let look = {
            let mut state = self.lock();
            let current = state.renewed.as_ref().unwrap_or(&self.first);
            if !Arc::ptr_eq(current, sent) {
                return Some(Arc::clone(current));
            }
            self.look(&mut state)?
        };
        look.await;
        let current = self.current();
        (!Arc::ptr_eq(&current, sent)).then_some(current)
    }

    /// The look under way, begun if there is none and it is time for one.
    fn look(self: &Arc<Self>, state: &mut State) -> Option<Flight> {
        if let Some(flight) = &state.flight {
            return Some(flight.clone());
        }
        let secrets = Arc::clone(&self.lookup.as_ref()?.secrets);
        if self.core.clock().mono() < state.look_again {
            return None;
        }
        let (keys, refused) = (Arc::clone(self), self.core.refused_since(&self.first));
        // In a task of its own, so that a caller who gives up takes nothing from the others.
        let task = tokio::spawn(async move {
            let found = secrets.settings(keys.core.key(), refused).await;
            keys.looked(found, refused);
        });
        let flight = task.map(drop).boxed().shared();
        state.flight = Some(flight.clone());
        Some(flight)
    }

    fn looked(&self, found: Option<Settings>, refused: Mono) {
        let now = self.core.clock().mono();
        let mut state = self.lock();
        state.flight = None;
        let found = found.filter(|found| found.same_place(&self.first)).map(Arc::new);
        let auth = found.as_ref().filter(|found| !found.same_auth(state.renewed.as_ref().unwrap_or(&self.first)));
        let certified = state.certified.as_ref().map_or(&self.first, |(settings, _)| settings);
        let certificate = found.as_ref().filter(|found| !found.same_certificate(certified)).zip(self.lookup.as_ref());
        let news = auth.is_some() || certificate.is_some();
        if let Some(found) = auth {
            state.renewed = Some(Arc::clone(found));
        }
        if let Some((found, lookup)) = certificate {
            state.certified = Some((Arc::clone(found), lookup.clients.for_provider(found)));
        }
        state.look_again = if news { Mono::ZERO } else { now + now.since(refused).clamp(LOOK_AGAIN, LONGEST) };
        drop(state);
        if news {
            self.core.renewed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
