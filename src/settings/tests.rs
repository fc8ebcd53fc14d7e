use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use super::testkit::draft;
use super::*;

fn resolve(change: impl FnOnce(&mut Draft)) -> Result<Settings, SettingsError> {
    let mut draft = draft();
    change(&mut draft);
    Settings::resolve(draft)
}

fn field(change: impl FnOnce(&mut Draft)) -> &'static str {
    resolve(change).unwrap_err().field
}

fn bearer(token: &str) -> Auth {
    Auth::Bearer { token: SecretString::from(token) }
}

#[test]
fn errors_name_the_field() {
    assert_eq!(field(|d| d.base_url = "ftp://bank.test".to_owned()), "endpoint.baseURL");
    assert_eq!(field(|d| d.base_url = "https://user:pw@bank.test".to_owned()), "endpoint.baseURL");
    assert_eq!(field(|d| d.base_url = "https://bank.test/?key=1".to_owned()), "endpoint.baseURL");
    assert_eq!(field(|d| d.health_check.path = None), "healthCheck.path");
    assert_eq!(field(|d| d.health_check.timeout = Duration::from_mins(5)), "healthCheck.timeout");
    assert_eq!(field(|d| d.auth = bearer("canary\n")), "auth.bearer.secretRef");
    assert_eq!(field(|d| d.auth = bearer("")), "auth.bearer.secretRef");
    assert_eq!(field(|d| d.tls.server_name = Some("10.0.0.1".to_owned())), "tls.serverName");
    assert_eq!(field(|d| d.tls.ca = Some(b"not PEM".to_vec())), "tls.certSecretRef");
    assert_eq!(
        field(|d| {
            let (certificate, key) = (b"x".to_vec(), SecretString::from("y"));
            d.tls.client = Some(ClientCertificate { certificate, key });
        }),
        "tls.certSecretRef"
    );
}

#[test]
fn errors_do_not_show_secrets() {
    let error = resolve(|d| d.auth = bearer("canary\n")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn the_verification_revision_depends_on_endpoint_auth_and_tls_only() {
    let base = resolve(|_| {}).unwrap();
    let same = resolve(|_| {}).unwrap();
    assert_eq!((base.revision(), base.verification_revision()), (same.revision(), same.verification_revision()));
    let edits: [fn(&mut Draft); 4] = [
        |d| d.breaker.consecutive_failures = 9,
        |d| d.health_check.interval = Duration::from_mins(1),
        |d| d.timeouts.total = Duration::from_secs(9),
        |d| d.suspended = true,
    ];
    for edit in edits {
        let edited = resolve(edit).unwrap();
        assert_ne!(edited.revision(), base.revision());
        assert_eq!(edited.verification_revision(), base.verification_revision());
    }
    let edits: [fn(&mut Draft); 5] = [
        |d| d.base_url = "http://other.test".to_owned(),
        |d| d.auth = bearer("x"),
        |d| d.credential_revision = "secret/uid/2".to_owned(),
        |d| d.tls.server_name = Some("bank.internal".to_owned()),
        |d| d.tls.revision = "tls/uid/2".to_owned(),
    ];
    for edit in edits {
        let edited = resolve(edit).unwrap();
        assert_ne!(edited.revision(), base.revision());
        assert_ne!(edited.verification_revision(), base.verification_revision());
    }
}

#[test]
fn the_target_is_the_object_its_endpoint_and_its_way_to_authenticate() {
    let base = resolve(|_| {}).unwrap();
    let other: [fn(&mut Draft); 5] = [
        |d| d.owner = "uid-2".into(),
        |d| d.base_url = "http://other.test".to_owned(),
        |d| d.parameters.insert("tenant".to_owned(), "x".to_owned()).map_or((), drop),
        |d| d.auth = bearer("x"),
        |d| d.auth_reference = r#"{"bearer":{"secretRef":{"name":"other"}}}"#.to_owned(),
    ];
    for edit in other {
        let edited = resolve(edit).unwrap();
        assert_ne!(edited.target(), base.target());
        assert_ne!(edited.verification_revision(), base.verification_revision(), "it is checked at once");
    }
    let same: [fn(&mut Draft); 3] = [
        |d| d.credential_revision = "secret/uid/2".to_owned(),
        |d| d.tls.revision = "tls/uid/2".to_owned(),
        |d| d.health_check.path = Some("/other".to_owned()),
    ];
    for edit in same {
        assert_eq!(resolve(edit).unwrap().target(), base.target(), "a rotation keeps it");
    }
}

#[test]
fn a_revision_never_depends_on_a_secret_value() {
    let one = resolve(|d| d.auth = bearer("canary-1")).unwrap();
    let other = resolve(|d| d.auth = bearer("canary-2")).unwrap();
    assert_eq!(one.revision(), other.revision());
}

#[test]
fn a_credential_carries_over_whatever_else_was_rotated() {
    let with = |auth: Auth, secret: &'static str, tls: &'static str| {
        resolve(move |d| {
            d.auth = auth;
            d.credential_revision = secret.to_owned();
            d.tls.revision = tls.to_owned();
        })
        .unwrap()
    };
    let before = with(bearer("x"), "key@uid@1", "tls@uid@1");
    assert!(with(bearer("x"), "key@uid@1", "tls@uid@1").carries_over(&before));
    assert!(with(bearer("x"), "key@uid@1", "tls@uid@2").carries_over(&before), "only the CA is another one");
    assert!(!with(bearer("x"), "key@uid@2", "tls@uid@1").carries_over(&before), "it was rotated");
    assert!(!with(Auth::None, "", "tls@uid@1").carries_over(&before), "nothing would be sent");
}

#[test]
fn the_host_includes_only_a_non_default_port() {
    assert_eq!(resolve(|d| d.base_url = "https://bank.test:443/v2".to_owned()).unwrap().host(), "bank.test");
    assert_eq!(resolve(|d| d.base_url = "https://bank.test:8443".to_owned()).unwrap().host(), "bank.test:8443");
}

#[test]
fn a_profile_maps_a_secret_to_credentials() {
    let profiles = crate::profile::Profiles::builtin().unwrap();
    let mapping = |id: &str| profiles.get(id).unwrap().auth.clone().unwrap();
    let parameters = BTreeMap::from([("tenant".to_owned(), "sandbox".to_owned())]);
    let all = |key: &str| Some(SecretString::from(format!("canary-{key}")));
    let auth = Auth::from_profile(&mapping("finastra"), "https://api.bank.test/x", &parameters, all).unwrap();
    let Auth::ClientCredentials(TokenClient { token_url, scopes, .. }) = &auth else { panic!("{auth:?}") };
    assert_eq!(token_url, "https://api.bank.test/login/v1/sandbox/oidc/token");
    assert_eq!(scopes, &["openid"]);
    let error = Auth::from_profile(&mapping("finastra"), "https://api.bank.test", &BTreeMap::new(), all).unwrap_err();
    assert_eq!(error.field, "endpoint.parameters");
    let error = Auth::from_profile(&mapping("mono"), "https://api.bank.test", &parameters, |_| None).unwrap_err();
    assert_eq!(error.to_string(), "auth.profile.secretRef: the Secret has no key api-key: add it");
}

#[test]
fn the_lease_of_a_trial_is_never_shorter_than_one_try() {
    for (lease, request, wanted) in [(60, 30, 60), (1, 30, 30), (60, 180, 180)] {
        let settings = resolve(|d| {
            d.breaker.half_open.lease = Duration::from_secs(lease);
            d.timeouts.request = Duration::from_secs(request);
        });
        assert_eq!(settings.unwrap().breaker().half_open.lease.as_secs(), wanted, "lease {lease} s, try {request} s");
    }
}
