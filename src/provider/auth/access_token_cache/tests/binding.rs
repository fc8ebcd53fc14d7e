//! What tokens are bound to: an access token to the credential that it was obtained by, a stored refresh token to one
//! object, one token URL and one client.

use super::rotation::RotationFixture;
use super::*;
use crate::provider::call::TokenStoreError;

/// The connections for which a token of [`REFRESH`] is of no use.
const OTHERS: [RefreshSpec<'static>; 3] = [
    RefreshSpec { owner: "uid-2", ..REFRESH },
    RefreshSpec { token_url: "https://evil.test/token", ..REFRESH },
    RefreshSpec { client_id: "canary-other", ..REFRESH },
];

#[tokio::test(start_paused = true)]
async fn a_stored_token_is_never_sent_for_another_object_token_url_or_client() {
    for other in OTHERS {
        let fixture = RotationFixture::new();
        fixture.process(REFRESH).get().await.unwrap();
        fixture.sent();
        *fixture.server.valid_token.lock().unwrap() = "canary-first".to_owned();
        fixture.process(other).get().await.unwrap();
        assert_eq!(fixture.sent(), ["canary-first"], "what its own Secret holds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_was_not_stored_is_never_stored_for_another() {
    for other in OTHERS {
        let fixture = RotationFixture::new();
        // One connection, whose settings change after the provider has rotated the token.
        let monitor = monitor(&settings(|_| {}));
        let process = |spec| tokens_of(&monitor, &fixture.server, Some(fixture.rotation(spec)));
        let (old, new) = (process(REFRESH), process(other));
        let fail = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            fixture.store.leases.set_unavailable(true);
        };
        let failed = Some(CallError::TokenStore(TokenStoreError::Ledger));
        assert_eq!(futures::future::join(old.get(), fail).await.0.err(), failed);
        fixture.store.leases.set_unavailable(false);
        *fixture.server.valid_token.lock().unwrap() = "canary-first".to_owned();
        assert_eq!(new.get().await.unwrap().header(), "Bearer canary-2", "not the access token of the old settings");
        assert_eq!(fixture.sent(), ["canary-first", "canary-first"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_recreated_during_a_refresh_waits_and_starts_from_its_own_secret() {
    let fixture = RotationFixture::new();
    let (deleted, recreated) = (fixture.process(REFRESH), fixture.process(OTHERS[0]));
    let (one, two) = futures::future::join(deleted.get(), recreated.get()).await;
    assert!(one.is_ok());
    assert_eq!(two.err(), Some(CallError::CredentialsRefused { status: 400 }), "the token in its Secret is spent");
    assert!(!fixture.sent().contains(&"canary-rotated-1".to_owned()), "the former owner's token");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_begun_under_old_settings_is_used_by_nothing_new() {
    let fixture = RotationFixture::new();
    let old = fixture.process(REFRESH);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        authenticator(&old).end(None);
    };
    let (end, ()) = futures::future::join(old.get(), ending).await;
    assert_eq!(end.err(), Some(CallError::Superseded), "no caller waits any longer");
    sleep_secs(1).await;
    assert_eq!(
        (old.expires_at(), fixture.version()),
        (None, 1),
        "the rotated token is stored, for what it was sent to"
    );
    assert_eq!(old.get().await.err(), Some(CallError::Superseded));
    assert_eq!(fixture.server.requests(), 1, "no further token is requested");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_wiped_when_its_credential_ends() {
    let server = Arc::new(FakeTokenServer::default());
    let tokens = tokens(&server);
    tokens.get().await.unwrap();
    authenticator(&tokens).end(None);
    assert!(tokens.expires_at().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_credential_that_was_replaced_is_not_used_any_more() {
    let fixture = RotationFixture::new();
    let tokens = fixture.process(REFRESH);
    let first = tokens.get().await.unwrap();
    assert!(Arc::ptr_eq(&tokens.get().await.unwrap(), &first));
    // A call was refused, and the Secret holds another refresh token by then.
    *fixture.secret_now.0.lock().unwrap() = Some("canary-second".to_owned());
    *fixture.server.valid_token.lock().unwrap() = "canary-second".to_owned();
    let credentials = tokens.source.credentials();
    assert!(credentials.replacement_for(&credentials.current()).await.is_some());
    assert!(!Arc::ptr_eq(&tokens.get().await.unwrap(), &first), "it is valid for an hour");
    assert_eq!(fixture.sent(), ["canary-first", "canary-second"]);
}
