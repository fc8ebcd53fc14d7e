//! Resolves credentials and TLS from a connection's spec, profile and Secrets. Pure.

use crate::api::v1alpha1::provider_connection::{
    ApiKeyPlacement, Auth as AuthSpec, ClientAuthentication as ClientAuthenticationSpec, OAuth2,
    ProviderConnectionSpec, TlsVersion,
};
use crate::api::v1alpha1::reasons::Reason;
use crate::resolve::connection::checks::{require_https, spec_error};
use crate::resolve::fields::duration;
use crate::resolve::secrets::{ReferencedSecret, ReferencedSecrets};
use crate::resolve::spec_error::SpecError;
use crate::settings::{
    Auth, ClientAuthentication, ClientCertificate, DEFAULT_REFRESH_BEFORE, Draft, MinVersion, Placement, TokenClient,
    url_with_path,
};

/// The credentials of `auth`, read from its Secret.
pub(super) fn auth(
    spec: &ProviderConnectionSpec,
    auth: &AuthSpec,
    secret: &ReferencedSecret<'_>,
    draft: &Draft,
) -> Result<Auth, SpecError> {
    let key = |name: Option<&str>, default: &str| secret.text(name.unwrap_or(default));
    if let Some(bearer) = &auth.bearer {
        return Ok(Auth::Bearer { token: key(bearer.secret_ref.key.as_deref(), "token")? });
    }
    if auth.basic.is_some() {
        return Ok(Auth::Basic { username: secret.text("username")?, password: secret.text("password")? });
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
        let client = token_client(spec, "auth.oauth2ClientCredentials", oauth, secret, draft)?;
        return Ok(Auth::ClientCredentials(client));
    }
    if let Some(oauth) = &auth.oauth2_refresh_token {
        let client = token_client(spec, "auth.oauth2RefreshToken", oauth, secret, draft)?;
        return Ok(Auth::RefreshToken { client, refresh_token: secret.text("refresh-token")? });
    }
    if auth.profile.is_some() {
        let mapping = draft.profile.auth.as_ref().ok_or_else(|| {
            SpecError::invalid(
                "auth.profile",
                "cannot be used: the profile declares no authentication; use another member of spec.auth",
            )
        })?;
        // Each key is read first, so that the error for a missing one names the Secret.
        for key in mapping.secret_keys() {
            secret.text(key)?;
        }
        return Auth::from_profile(mapping, &draft.base_url, &draft.parameters, |key| secret.text(key).ok())
            .map_err(|e| spec_error(&e));
    }
    Err(SpecError::invalid("auth", "must set exactly one authentication method"))
}

/// The token endpoint and its client credentials. The URL is `tokenURL`, else `authBaseURL` with the profile's path,
/// else the base URL with the profile's path.
fn token_client(
    spec: &ProviderConnectionSpec,
    field: &str,
    oauth: &OAuth2,
    secret: &ReferencedSecret<'_>,
    draft: &Draft,
) -> Result<TokenClient, SpecError> {
    let profile_call = draft.profile.auth.as_ref().and_then(|auth| auth.token.as_ref());
    let token_url = if let Some(url) = &oauth.token_url {
        require_https(spec, &format!("{field}.tokenURL"), url)?;
        url.to_string()
    } else {
        let call = profile_call.ok_or_else(|| {
            SpecError::invalid(&format!("{field}.tokenURL"), "is required: the profile declares no token endpoint")
        })?;
        if let Some(url) = &oauth.auth_base_url {
            require_https(spec, &format!("{field}.authBaseURL"), url)?;
        }
        let host = oauth.auth_base_url.as_deref().unwrap_or(&draft.base_url);
        let path = call.path.path(&draft.parameters).map_err(|e| SpecError::invalid("endpoint.parameters", e))?;
        url_with_path(host, &path)
            .ok_or_else(|| SpecError::invalid(&format!("{field}.authBaseURL"), "must be a URL"))?
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
        client_authentication: match oauth.client_authentication {
            None | Some(ClientAuthenticationSpec::Auto) => ClientAuthentication::Auto,
            Some(ClientAuthenticationSpec::Basic) => ClientAuthentication::Basic,
            Some(ClientAuthenticationSpec::Body) => ClientAuthentication::Body,
        },
        client_id: secret.text("client-id")?,
        client_secret: secret.text("client-secret")?,
    })
}

/// TLS settings beyond the system's root certificates.
pub(super) fn tls(
    spec: &ProviderConnectionSpec,
    secrets: &ReferencedSecrets<'_>,
    draft: &mut Draft,
) -> Result<(), SpecError> {
    let Some(tls) = &spec.tls else { return Ok(()) };
    draft.tls.server_name.clone_from(&tls.server_name);
    draft.tls.min_version = match tls.min_version {
        None | Some(TlsVersion::Tls12) => MinVersion::Tls12,
        Some(TlsVersion::Tls13) => MinVersion::Tls13,
    };
    let Some(secret) = &secrets.tls else { return Ok(()) };
    secret.data()?;
    draft.tls.revision = secret.revision();
    if secret.has("ca.crt") {
        draft.tls.ca = Some(secret.copy("ca.crt")?);
    }
    if secret.has("tls.crt") || secret.has("tls.key") {
        let certificate = secret.copy("tls.crt")?;
        draft.tls.client = Some(ClientCertificate { certificate, key: secret.text("tls.key")? });
        // A way to authenticate, too.
        draft.auth_reference = format!("{} {} {}", draft.auth_reference, secret.field, secret.name);
    }
    if draft.tls.ca.is_none() && draft.tls.client.is_none() {
        return Err(SpecError::waiting(
            Reason::SecretKeyMissing,
            format!(
                "Secret {:?} (spec.tls.certSecretRef) has neither \"ca.crt\" nor \"tls.crt\" with \"tls.key\": add one",
                secret.name
            ),
        ));
    }
    Ok(())
}
