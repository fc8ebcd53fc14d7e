//! What is left of a token request that panics, or that the end of the process overtakes.

use std::sync::atomic::AtomicBool;

use super::rotation::RotationFixture;
use super::*;
use crate::provider::call::TokenStoreError;

/// A token endpoint whose first request panics.
struct PanicsOnce {
    inner: FakeTokenEndpoint,
    panicked: AtomicBool,
}

impl TokenEndpoint for PanicsOnce {
    fn request<'a>(
        &'a self,
        refresh_token: Option<&'a SecretString>,
    ) -> BoxFuture<'a, Result<TokenResponse, TokenError>> {
        async move {
            assert!(self.panicked.swap(true, Ordering::SeqCst), "a bug");
            self.inner.request(refresh_token).await
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_no_request_in_flight_and_no_lock_behind() {
    let fixture = RotationFixture::new();
    let monitor = monitor(&settings(|_| {}));
    let (Rotation { settings, entry, secrets }, clock) = (fixture.rotation(REFRESH), monitor.clock());
    let credentials = CredentialCache::new(settings, HttpClients::default(), Arc::clone(&monitor), Some(secrets));
    let inner = || FakeTokenEndpoint(Arc::clone(&fixture.server), clock);
    let endpoint = Arc::new(PanicsOnce { inner: inner(), panicked: AtomicBool::new(false) });
    let factory = move |_: &EndpointCredential| Some(Arc::clone(&endpoint) as Arc<dyn TokenEndpoint>);
    let source = AccessTokenSource::new(Box::new(factory), credentials, Arc::clone(&monitor), Some(entry)).unwrap();
    let tokens = AccessTokenCache::new(source, clock, Duration::from_mins(1));

    let panicked = tokens.get().await.err();
    assert_eq!(panicked, Some(CallError::NoToken { status: None, class: ErrorClass::Timeout }));
    // Another process, which would wait for the lock in the ledger, and this one.
    let began = clock.mono();
    fixture.process(REFRESH).get().await.unwrap();
    assert!(clock.mono().since(began) < Duration::from_secs(1), "the lock was free");
    assert!(tokens.get().await.is_ok());
    assert_eq!(monitor.tasks().drain(Duration::from_secs(1)).await, [""; 0]);
}

/// A process whose rotated refresh token the ledger did not take.
async fn unstored(fixture: &RotationFixture, monitor: &Arc<ConnectionMonitor>) {
    let tokens = tokens_of(monitor, &fixture.server, Some(fixture.rotation(REFRESH)));
    let fail = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fixture.store.leases.set_unavailable(true);
    };
    let failed = Some(CallError::TokenStore(TokenStoreError::Ledger));
    assert_eq!(futures::future::join(tokens.get(), fail).await.0.err(), failed);
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_the_ledger_did_not_take_is_stored_without_a_call() {
    let fixture = RotationFixture::new();
    let monitor = monitor(&settings(|_| {}));
    unstored(&fixture, &monitor).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(fixture.version(), 0, "the ledger still fails");
    fixture.store.leases.set_unavailable(false);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_waits_for_a_rotation_that_is_not_stored() {
    let fixture = RotationFixture::new();
    let monitor = monitor(&settings(|_| {}));
    unstored(&fixture, &monitor).await;
    let recover = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        fixture.store.leases.set_unavailable(false);
    };
    let drain = monitor.tasks().drain(Duration::from_secs(20));
    assert_eq!(futures::future::join(drain, recover).await.0, [""; 0]);
    assert_eq!((fixture.server.requests(), fixture.version()), (1, 1));
}
