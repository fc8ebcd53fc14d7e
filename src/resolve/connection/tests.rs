//! What a connection is resolved to, and why it cannot be.

use std::sync::Arc;

use super::{ConnectionResolution, ConnectionSources, connection, credentials};
use crate::api::v1alpha1::provider_connection::{PolicySource, ProviderConnectionSpec};
use crate::api::v1alpha1::reasons::Reason;
use crate::domain::key::ObjectKey;
use crate::profile::{Environment, Profiles};
use crate::resolve::{JobSupport, OperatorOptions, ReferencedSecret, ReferencedSecrets, SpecError, referenced_secrets};
use crate::settings::addresses::AddressRules;
use crate::settings::secret_data::{SecretData, SecretState};
use crate::settings::{Draft, Settings};

fn spec(provider: &str, environment: &str, rest: &str) -> ProviderConnectionSpec {
    let yaml = format!("{{provider: {provider}, environment: {environment}, {rest}}}");
    serde_yaml::from_str(&yaml).unwrap()
}

/// The resolution of `spec` without policies, with `state` as the Secret of `auth`.
fn resolved_with(spec: &ProviderConnectionSpec, state: &SecretState, has_key: bool) -> ConnectionResolution {
    let profile = Profiles::builtin().unwrap().get(&spec.provider);
    let secret = |(field, name)| ReferencedSecret { field, name, state: state.clone() };
    let (key, addresses) = (ObjectKey::new("ns", "bank"), AddressRules::default());
    connection(&ConnectionSources {
        uid: "uid-1",
        key: &key,
        spec,
        profile: profile.as_ref(),
        policy: None,
        secrets: ReferencedSecrets { auth: referenced_secrets(spec).0.map(secret), tls: None },
        operator: OperatorOptions { has_key, addresses: &addresses, jobs: JobSupport::default() },
    })
}

fn found() -> SecretState {
    SecretState::Found(Arc::new(SecretData::placeholder("s", ["client-id", "client-secret", "refresh-token"])))
}

fn resolved(spec: &ProviderConnectionSpec) -> Result<Arc<Settings>, SpecError> {
    resolved_with(spec, &found(), true).connection.map(|resolved| resolved.settings)
}

const GENERIC: &str = "endpoint: {baseURL: 'https://bank.example'}, healthCheck: {path: /health}";

fn with_auth(member: &str, fields: &str) -> ProviderConnectionSpec {
    spec("generic", "Production", &format!("{GENERIC}, auth: {{{member}: {{secretRef: {{name: s}}, {fields}}}}}"))
}

#[test]
fn a_token_url_must_be_https_like_the_base_url() {
    for member in ["oauth2ClientCredentials", "oauth2RefreshToken"] {
        assert!(resolved(&with_auth(member, "tokenURL: 'https://login.example/t'")).is_ok());
        let refused = resolved(&with_auth(member, "tokenURL: 'http://login.example/t'")).unwrap_err();
        assert!(refused.message.contains(&format!("auth.{member}.tokenURL must be https")), "{}", refused.message);
    }
}

#[test]
fn token_url_precedes_auth_base_url_which_precedes_the_base_url() {
    let token_url = |fields: &str| {
        let endpoint = "endpoint: {baseURL: 'https://api.example/x', parameters: {tenant: t1}}";
        let auth = format!("auth: {{oauth2ClientCredentials: {{secretRef: {{name: s}}, {fields}}}}}");
        let settings = resolved(&spec("finastra", "Production", &format!("{endpoint}, {auth}"))).unwrap();
        settings.auth().token_url().unwrap()
    };
    let (full, host) = ("tokenURL: 'https://full.example/t'", "authBaseURL: 'https://login.example/ignored'");
    assert_eq!(token_url(&format!("{full}, {host}")).as_str(), "https://full.example/t");
    assert_eq!(token_url(host).as_str(), "https://login.example/login/v1/t1/oidc/token");
    assert_eq!(token_url("").as_str(), "https://api.example/login/v1/t1/oidc/token");
}

#[test]
fn settings_that_the_operator_does_not_allow_are_stalled_and_name_the_flag() {
    let refresh = with_auth("oauth2RefreshToken", "tokenURL: 'https://login.example/t'");
    let error = resolved_with(&refresh, &found(), false).connection.unwrap_err();
    assert_eq!((error.reason, error.waiting), (Reason::KeyMissing, false));
    assert!(error.message.contains("--key-secret"));
    assert!(resolved(&refresh).is_ok());
    for url in ["https://10.0.0.1", "https://169.254.169.254/latest", "https://[::ffff:7f00:1]"] {
        let at = format!("endpoint: {{baseURL: '{url}'}}, healthCheck: {{path: /}}");
        let error = resolved(&spec("generic", "Production", &at)).unwrap_err();
        assert_eq!((error.reason, error.waiting), (Reason::AddressNotAllowed, false));
        assert!(error.message.contains("--allow-provider-addresses"), "{}", error.message);
    }
    assert!(resolved(&spec("generic", "Production", GENERIC)).is_ok(), "a host name is checked when it is resolved");
}

#[test]
fn a_secret_that_is_missing_or_forbidden_is_waited_for_and_named_with_the_remedy() {
    let bearer = with_auth("bearer", "");
    let error = |state| resolved_with(&bearer, &state, true).connection.unwrap_err();
    let missing = error(SecretState::NotFound);
    assert_eq!((missing.reason, missing.waiting), (Reason::SecretNotFound, true));
    let forbidden = error(SecretState::Forbidden("kubectl create rolebinding".into()));
    assert_eq!((forbidden.reason, forbidden.waiting), (Reason::SecretForbidden, true));
    for part in [
        "Secret \"s\" (spec.auth.bearer.secretRef)",
        "RoleBinding of config/rbac/secrets.yaml: kubectl create rolebinding",
    ] {
        assert!(forbidden.message.contains(part), "{part} is not in {}", forbidden.message);
    }
}

#[test]
fn the_policy_in_effect_is_known_where_the_secret_is_not() {
    let resolution = resolved_with(&with_auth("bearer", ""), &SecretState::NotFound, true);
    assert!(resolution.connection.is_err());
    assert_eq!(resolution.policy.unwrap().source, PolicySource::Preset);
}

#[test]
fn a_connection_that_expects_no_json_replaces_what_its_profile_expects() {
    let expected = |fields: &str| {
        let check = format!("endpoint: {{baseURL: 'https://bank.example'}}, healthCheck: {{path: /ping{fields}}}");
        let settings = resolved(&spec("mono", "Production", &check)).unwrap();
        let expected = &settings.health_check().expected_content;
        (expected.content_type.clone(), expected.pointer.clone())
    };
    let text = |text: &str| Some(text.to_owned());
    for (fields, wanted) in [
        ("", (None, text(""))),
        (", expectedContentType: application/json", (text("application/json"), text(""))),
        (", expectedContentType: application/hal+JSON", (text("application/hal+JSON"), text(""))),
        (", expectedContentType: text/plain", (text("text/plain"), None)),
        (", expectedContentType: '*/*'", (text("*/*"), None)),
        (", expectedContentType: text/plain, expectedJSONPointer: /up", (text("text/plain"), text("/up"))),
        (", expectedStatuses: ['401']", (None, None)),
        (", expectedStatuses: ['401', '200']", (None, text(""))),
    ] {
        assert_eq!(expected(fields), wanted, "{fields}");
    }
}

#[test]
fn the_secret_of_a_client_certificate_is_part_of_the_way_to_authenticate() {
    let reference = |name: &'static str, keys: &[&'static str]| {
        let spec = spec("generic", "Production", &format!("{GENERIC}, tls: {{certSecretRef: {{name: {name}}}}}"));
        let state = SecretState::Found(Arc::new(SecretData::placeholder(name, keys.iter().copied())));
        let secret = |(field, name)| ReferencedSecret { field, name, state: state.clone() };
        let secrets = ReferencedSecrets { auth: None, tls: referenced_secrets(&spec).1.map(secret) };
        let mut draft = Draft::new(Profiles::builtin().unwrap().get("generic").unwrap(), Environment::Production);
        credentials::tls(&spec, &secrets, &mut draft).unwrap();
        draft.auth_reference
    };
    let pair = ["tls.crt", "tls.key"];
    assert_ne!(reference("one", &pair), reference("other", &pair));
    assert_eq!(reference("one", &pair), reference("one", &["ca.crt", "tls.crt", "tls.key"]));
    assert_eq!(reference("one", &["ca.crt"]), reference("other", &["ca.crt"]), "roots say nothing of the account");
}
