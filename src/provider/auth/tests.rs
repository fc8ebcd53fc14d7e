use super::*;
use crate::domain::time::Mono;
use crate::provider::testkit::{answer, below, core, settings};
use std::sync::Mutex;

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

/// What a request looks like below the layer.
async fn sent(auth: Auth) -> Request {
    let settings = settings(|draft| draft.auth = auth);
    let seen = Arc::new(Mutex::new(None));
    let inner = below({
        let seen = Arc::clone(&seen);
        move |timed: Timed| {
            *seen.lock().unwrap() = Some(timed.request);
            async { Ok(answer(200)) }
        }
    });
    let proof = Proof { keys: Keys::new(Arc::clone(&settings), core(&settings), None), tokens: None };
    let path = Authenticate::new(inner, core(&settings), Arc::clone(&settings), proof);
    path.oneshot(Timed::new(Request::get("x", "/"), Mono::MAX)).await.unwrap();
    let request = seen.lock().unwrap().take();
    request.unwrap()
}

#[tokio::test]
async fn each_kind_puts_its_credentials_where_they_belong() {
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
    };
    let profile = sent(profile).await;
    assert_eq!(
        (&profile.headers["plaid-client-id"], &profile.headers["plaid-secret"]),
        (&"id".parse().unwrap(), &"canary".parse().unwrap())
    );
    assert_eq!(profile.query.len(), 1);
}

/// Does not compile once one of these learns to print itself.
const _: () = {
    trait Printed<A> {
        const SILENT: () = ();
    }
    impl<T: ?Sized> Printed<()> for T {}
    impl<T: ?Sized + std::fmt::Debug> Printed<u8> for T {}
    let () = <Token as Printed<_>>::SILENT;
    let () = <fetch::Fetched as Printed<_>>::SILENT;
    let () = <Grant as Printed<_>>::SILENT;
    let () = <source::Pending as Printed<_>>::SILENT;
    let () = <source::Refreshing as Printed<_>>::SILENT;
    let () = <Keys as Printed<_>>::SILENT;
    let () = <crate::provider::settings::TokenClient as Printed<_>>::SILENT;
    let () = <crate::provider::settings::ClientCertificate as Printed<_>>::SILENT;
};

#[tokio::test]
async fn what_a_provider_echoes_of_a_credential_reaches_nobody() {
    let settings = settings(|draft| draft.auth = Auth::Bearer { token: secret("canary-token") });
    let inner = below(|_| async {
        let mut said = answer(200);
        said.body = bytes::Bytes::from_static(br#"{"you":"Bearer canary-token"}"#);
        Ok(said)
    });
    let proof = Proof { keys: Keys::new(Arc::clone(&settings), core(&settings), None), tokens: None };
    let path = Authenticate::new(inner, core(&settings), Arc::clone(&settings), proof);
    let answer = path.oneshot(Timed::new(Request::get("x", "/"), Mono::MAX)).await.unwrap();
    assert_eq!(&answer.body[..], br#"{"you":"Bearer ***"}"#);
}

#[tokio::test]
async fn no_credential_is_ever_printed() {
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
