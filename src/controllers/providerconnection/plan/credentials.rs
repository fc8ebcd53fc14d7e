//! The credentials and the TLS of a connection, out of its spec, its profile and its Secrets. Pure.

use crate::api::v1alpha1::provider_connection::{
    ApiKeyPlacement, Auth as AuthSpec, OAuth2, ProviderConnectionSpec, TlsVersion,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::controllers::providerconnection::plan::{FoundSecrets, problem, secure};
use crate::controllers::resolve::{Found, Problem, duration};
use crate::provider::settings::{
    Auth, ClientCertificate, DEFAULT_REFRESH_BEFORE, Draft, MinVersion, Placement, TokenClient, with_path,
};

/// The credentials of a spec.
pub(super) fn auth(
    spec: &ProviderConnectionSpec,
    auth: &AuthSpec,
    found: &Found,
    draft: &Draft,
) -> Result<Auth, Problem> {
    let key = |named: Option<&str>, usual: &str| found.text(named.unwrap_or(usual));
    if let Some(bearer) = &auth.bearer {
        return Ok(Auth::Bearer { token: key(bearer.secret_ref.key.as_deref(), "token")? });
    }
    if auth.basic.is_some() {
        return Ok(Auth::Basic { username: found.text("username")?, password: found.text("password")? });
    }
    if let Some(api_key) = &auth.api_key {
        return Ok(Auth::ApiKey {
            placement: match api_key.placement {
                ApiKeyPlacement::Header => Placement::Header,
                ApiKeyPlacement::Query => Placement::Query,
            },
            name: api_key.name.clone(),
            prefix: api_key.prefix.clone().unwrap_or_default(),
            key: key(api_key.secret_ref.key.as_deref(), "api-key")?,
        });
    }
    if let Some(oauth) = &auth.oauth2_client_credentials {
        let client = token_client(spec, "auth.oauth2ClientCredentials", oauth, found, draft)?;
        return Ok(Auth::ClientCredentials(client));
    }
    if let Some(oauth) = &auth.oauth2_refresh_token {
        let client = token_client(spec, "auth.oauth2RefreshToken", oauth, found, draft)?;
        return Ok(Auth::RefreshToken { client, refresh_token: found.text("refresh-token")? });
    }
    if auth.profile.is_some() {
        let mapping = draft.profile.auth.as_ref().ok_or_else(|| {
            Problem::invalid(
                "auth.profile",
                "cannot be used: the provider's profile does not say how to authenticate; use another member of auth",
            )
        })?;
        // Each key is read first, so that a missing one is told with the Secret's name.
        for key in mapping.secret_keys() {
            found.text(key)?;
        }
        return Auth::from_profile(mapping, &draft.base_url, &draft.parameters, |key| found.text(key).ok())
            .map_err(|e| problem(&e));
    }
    Err(Problem::invalid("auth", "must set exactly one way to authenticate"))
}

/// Who asks for tokens, and where. The address: the full one, else the authorisation host's with the profile's path, else
/// the base URL's.
fn token_client(
    spec: &ProviderConnectionSpec,
    field: &str,
    oauth: &OAuth2,
    found: &Found,
    draft: &Draft,
) -> Result<TokenClient, Problem> {
    let profile_call = draft.profile.auth.as_ref().and_then(|auth| auth.token.as_ref());
    let token_url = if let Some(url) = &oauth.token_url {
        secure(spec, &format!("{field}.tokenURL"), url)?;
        url.to_string()
    } else {
        let call = profile_call.ok_or_else(|| {
            Problem::invalid(
                &format!("{field}.tokenURL"),
                "is required: the provider's profile does not know where tokens are given",
            )
        })?;
        if let Some(url) = &oauth.auth_base_url {
            secure(spec, &format!("{field}.authBaseURL"), url)?;
        }
        let host = oauth.auth_base_url.as_deref().unwrap_or(&draft.base_url);
        let path = call.path.path(&draft.parameters).map_err(|e| Problem::invalid("endpoint.parameters", e))?;
        with_path(host, &path).ok_or_else(|| Problem::invalid(&format!("{field}.authBaseURL"), "must be a URL"))?
    };
    let scopes = oauth.scopes.clone().or_else(|| profile_call.map(|c| c.scopes.clone())).unwrap_or_default();
    Ok(TokenClient {
        token_url,
        scopes,
        audience: oauth.audience.clone(),
        refresh_before: duration(
            &format!("{field}.refreshBefore"),
            oauth.refresh_before.as_deref(),
            DEFAULT_REFRESH_BEFORE,
        )?,
        client_id: found.text("client-id")?,
        client_secret: found.text("client-secret")?,
    })
}

/// TLS beyond the system's roots.
pub(super) fn tls(spec: &ProviderConnectionSpec, secrets: &FoundSecrets, draft: &mut Draft) -> Result<(), Problem> {
    let Some(tls) = &spec.tls else { return Ok(()) };
    draft.tls.server_name.clone_from(&tls.server_name);
    draft.tls.min_version = match tls.min_version {
        None | Some(TlsVersion::Tls12) => MinVersion::Tls12,
        Some(TlsVersion::Tls13) => MinVersion::Tls13,
    };
    let Some(found) = &secrets.tls else { return Ok(()) };
    found.data()?;
    draft.tls.revision = found.revision();
    if found.has("ca.crt") {
        draft.tls.ca = Some(found.copy("ca.crt")?);
    }
    if found.has("tls.crt") || found.has("tls.key") {
        let certificate = found.copy("tls.crt")?;
        draft.tls.client = Some(ClientCertificate { certificate, key: found.text("tls.key")? });
    }
    if draft.tls.ca.is_none() && draft.tls.client.is_none() {
        return Err(Problem::waiting(
            Reason::SecretKeyMissing,
            format!(
                "Secret {:?} (spec.tls.certSecretRef) has neither \"ca.crt\" nor \"tls.crt\" with \"tls.key\": add one",
                found.name
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::secrets::SecretData;
    use crate::controllers::providerconnection::plan::{needed_secrets, refuse_unallowed, settings};
    use crate::domain::breaker::Policy;
    use crate::provider::addresses::AddressRules;
    use crate::provider::classify::Classify;
    use crate::provider::profile::Profiles;
    use crate::provider::settings::Settings;

    fn spec(provider: &str, environment: &str, rest: &str) -> ProviderConnectionSpec {
        let yaml = format!("{{provider: {provider}, environment: {environment}, {rest}}}");
        serde_yaml::from_str(&yaml).unwrap()
    }

    fn planned(spec: &ProviderConnectionSpec) -> Result<Settings, Problem> {
        let profile = Profiles::builtin().unwrap().get(&spec.provider).unwrap();
        let auth = needed_secrets(spec).0.map(|(field, name)| {
            let data = SecretData::naming(name, ["client-id", "client-secret", "refresh-token"]);
            Found { field, name: name.to_owned(), data: Some(Arc::new(data)) }
        });
        let rules = (Policy::preset(profile.breaker), Classify::default());
        settings(spec, profile, rules, &FoundSecrets { auth, tls: None })
    }

    const GENERIC: &str = "endpoint: {baseURL: 'https://bank.example'}, healthCheck: {path: /health}";

    fn with_auth(member: &str, fields: &str) -> ProviderConnectionSpec {
        spec("generic", "Production", &format!("{GENERIC}, auth: {{{member}: {{secretRef: {{name: s}}, {fields}}}}}"))
    }

    #[test]
    fn a_token_address_follows_the_rule_of_the_base_url() {
        for member in ["oauth2ClientCredentials", "oauth2RefreshToken"] {
            assert!(planned(&with_auth(member, "tokenURL: 'https://login.example/t'")).is_ok());
            let refused = planned(&with_auth(member, "tokenURL: 'http://login.example/t'")).unwrap_err();
            assert!(refused.message.contains(&format!("auth.{member}.tokenURL must be https")), "{}", refused.message);
        }
    }

    #[test]
    fn the_full_token_address_comes_before_the_authorisation_hosts_and_that_before_the_base_urls() {
        let token_url = |fields: &str| {
            let endpoint = "endpoint: {baseURL: 'https://api.example/x', parameters: {tenant: t1}}";
            let auth = format!("auth: {{oauth2ClientCredentials: {{secretRef: {{name: s}}, {fields}}}}}");
            planned(&spec("finastra", "Production", &format!("{endpoint}, {auth}")))
                .unwrap()
                .auth()
                .token_url()
                .unwrap()
        };
        let (full, host) = ("tokenURL: 'https://full.example/t'", "authBaseURL: 'https://login.example/ignored'");
        assert_eq!(token_url(&format!("{full}, {host}")).as_str(), "https://full.example/t");
        assert_eq!(token_url(host).as_str(), "https://login.example/login/v1/t1/oidc/token");
        assert_eq!(token_url("").as_str(), "https://api.example/login/v1/t1/oidc/token");
    }

    #[test]
    fn what_the_operators_set_up_does_not_allow_is_stalled_with_the_flag_in_its_message() {
        let refused = |spec: &ProviderConnectionSpec, has_key| {
            refuse_unallowed(spec, &planned(spec).unwrap(), has_key, &AddressRules::default())
        };
        let refresh = with_auth("oauth2RefreshToken", "tokenURL: 'https://login.example/t'");
        let problem = refused(&refresh, false).unwrap_err();
        assert_eq!((problem.reason, problem.waiting), (Reason::KeyMissing, false));
        assert!(problem.message.contains("--key-secret"));
        assert_eq!(refused(&refresh, true), Ok(()));
        for url in ["https://10.0.0.1", "https://169.254.169.254/latest", "https://[::ffff:7f00:1]"] {
            let at = format!("endpoint: {{baseURL: '{url}'}}, healthCheck: {{path: /}}");
            let problem = refused(&spec("generic", "Production", &at), true).unwrap_err();
            assert_eq!((problem.reason, problem.waiting), (Reason::AddressNotAllowed, false));
            assert!(problem.message.contains("--allow-provider-addresses"), "{}", problem.message);
        }
        assert_eq!(
            refused(&spec("generic", "Production", GENERIC), true),
            Ok(()),
            "a name is judged when it is resolved"
        );
    }
}
