use std::sync::Mutex;

use http::header::AUTHORIZATION;
use secrecy::SecretString;

use super::*;
use crate::domain::time::Mono;
use crate::provider::auth::credential_cache::CredentialCache;
use crate::provider::auth::token_endpoint::Grant;
use crate::provider::testkit::{authenticator, inner_fn, monitor, response, settings};
use crate::settings::Placement;

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// The request that the inner service receives.
async fn sent(auth: Auth) -> Request {
    let settings = settings(|draft| draft.auth = auth);
    let seen = Arc::new(Mutex::new(None));
    let inner = inner_fn({
        let seen = Arc::clone(&seen);
        move |ctx: CallContext| {
            assert!(ctx.request.headers.is_empty() && ctx.request.query.is_empty(), "retries hold no credential");
            *seen.lock().unwrap() = ctx.outgoing.map(|outgoing| outgoing.request().clone());
            async { Ok(response(200)) }
        }
    });
    let monitor = monitor(&settings);
    let authenticator = authenticator(&settings, &monitor);
    let path = AuthService::new(inner, monitor, Arc::clone(&settings), authenticator);
    path.oneshot(CallContext::new(Request::get("x", "/"), Mono::MAX)).await.unwrap();
    let request = seen.lock().unwrap().take();
    request.unwrap()
}

#[tokio::test]
async fn each_auth_type_adds_its_credentials_in_the_right_place() {
    assert!(sent(Auth::None).await.headers.is_empty());
    let bearer = sent(Auth::Bearer { token: secret("canary-token") }).await;
    assert_eq!(bearer.headers[AUTHORIZATION], "Bearer canary-token");
    let basic = sent(Auth::Basic { username: secret("Aladdin"), password: secret("open sesame") }).await;
    // The example of RFC 7617.
    assert_eq!(basic.headers[AUTHORIZATION], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    let key = |placement, prefix: &str| Auth::ApiKey {
        placement,
        name: "x-key".to_owned(),
        prefix: prefix.to_owned(),
        key: secret("canary-key"),
    };
    assert_eq!(sent(key(Placement::Header, "Token ")).await.headers["x-key"], "Token canary-key");
    let query = sent(key(Placement::Query, "")).await;
    assert_eq!(query.query, [("x-key".to_owned(), "canary-key".to_owned())]);
    assert!(query.headers.is_empty());
    let profile = Auth::Profile {
        headers: vec![("plaid-client-id".to_owned(), secret("id")), ("plaid-secret".to_owned(), secret("canary"))],
        query: vec![("apikey".to_owned(), secret("canary-q"))],
        body: Vec::new(),
    };
    let profile = sent(profile).await;
    assert_eq!(
        (&profile.headers["plaid-client-id"], &profile.headers["plaid-secret"]),
        (&"id".parse().unwrap(), &"canary".parse().unwrap())
    );
    assert_eq!(profile.query.len(), 1);
}

/// Does not compile if one of these types implements `Debug`.
const _: () = {
    trait Printed<A> {
        const SILENT: () = ();
    }
    impl<T: ?Sized> Printed<()> for T {}
    impl<T: ?Sized + std::fmt::Debug> Printed<u8> for T {}
    let () = <AccessToken as Printed<_>>::SILENT;
    let () = <token_response::TokenResponse as Printed<_>>::SILENT;
    let () = <Grant as Printed<_>>::SILENT;
    let () = <refresh_lock::PendingRotation as Printed<_>>::SILENT;
    let () = <refresh_lock::RefreshLock as Printed<_>>::SILENT;
    let () = <CredentialCache as Printed<_>>::SILENT;
    let () = <EndpointCredential as Printed<_>>::SILENT;
    let () = <crate::settings::TokenClient as Printed<_>>::SILENT;
    let () = <crate::settings::ClientCertificate as Printed<_>>::SILENT;
};

#[tokio::test]
async fn an_echoed_credential_is_redacted_from_the_answer() {
    let settings = settings(|draft| draft.auth = Auth::Bearer { token: secret("canary-token") });
    let inner = inner_fn(|_| async {
        let mut echo = response(200);
        echo.body = bytes::Bytes::from_static(br#"{"you":"Bearer canary-token"}"#);
        Ok(echo)
    });
    let monitor = monitor(&settings);
    let authenticator = authenticator(&settings, &monitor);
    let path = AuthService::new(inner, monitor, Arc::clone(&settings), authenticator);
    let response = path.oneshot(CallContext::new(Request::get("x", "/"), Mono::MAX)).await.unwrap();
    assert_eq!(&response.body[..], br#"{"you":"Bearer ***"}"#);
}

#[tokio::test]
async fn credentials_are_never_printed() {
    for auth in [
        Auth::Bearer { token: secret("canary-1") },
        Auth::Basic { username: secret("canary-1"), password: secret("canary-2") },
        Auth::ApiKey {
            placement: Placement::Query,
            name: "k".to_owned(),
            prefix: String::new(),
            key: secret("canary-1"),
        },
    ] {
        let kind = format!("{auth:?}");
        let request = sent(auth).await;
        let printed = format!("{kind} {request:?} {:?}", request.headers);
        assert!(!printed.contains("canary") && !printed.contains("Y2FuYXJ5"), "{printed}");
    }
}
