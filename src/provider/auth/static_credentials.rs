//! Adds credentials to a request: those that are sent as they are in the Secret, and the header of an access token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::provider::call::{CallError, Request, TokenStoreError};
use crate::settings::{Auth, Placement};

/// Adds the credentials of `auth`.
pub(super) fn apply(auth: &Auth, request: &mut Request) -> Result<(), CallError> {
    match auth {
        Auth::None => {}
        // No token cache could be built: nothing may be sent without a credential.
        Auth::ClientCredentials(_) | Auth::RefreshToken { .. } | Auth::ProfileToken { .. } => {
            return Err(CallError::TokenStore(TokenStoreError::NoKey));
        }
        Auth::Bearer { token } => {
            apply_bearer(&Zeroizing::new(format!("Bearer {}", token.expose_secret())), request)?;
        }
        Auth::Basic { username, password } => {
            let pair = Zeroizing::new(format!("{}:{}", username.expose_secret(), password.expose_secret()));
            let encoded = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
            let value = Zeroizing::new(format!("Basic {}", encoded.as_str()));
            request.headers.insert(AUTHORIZATION, sensitive(&value)?);
        }
        Auth::ApiKey { placement: Placement::Header, name, prefix, key } => {
            let value = Zeroizing::new(format!("{prefix}{}", key.expose_secret()));
            request.headers.insert(header_name(name)?, sensitive(&value)?);
        }
        Auth::ApiKey { placement: Placement::Query, name, prefix, key } => {
            request.query.push((name.clone(), format!("{prefix}{}", key.expose_secret())));
        }
        Auth::Profile { headers, query, body } => {
            fill_body(body, request)?;
            for (name, value) in headers {
                request.headers.insert(header_name(name)?, sensitive(value.expose_secret())?);
            }
            request.query.extend(
                query
                    .iter()
                    .map(|(name, value): &(String, SecretString)| (name.clone(), value.expose_secret().to_owned())),
            );
        }
    }
    Ok(())
}

/// Puts secrets in the place of the `null`s that a JSON body has for them. Bodies come from the profile's templates,
/// never from a caller.
fn fill_body(fields: &[(String, Option<SecretString>)], request: &mut Request) -> Result<(), CallError> {
    let Some(sent) = request.body.as_ref().filter(|_| !fields.is_empty()) else { return Ok(()) };
    let Ok(mut body) = serde_json::from_slice::<Value>(sent) else { return Ok(()) };
    let mut is_filled = false;
    for (pointer, secret) in fields {
        let Some(field) = body.pointer_mut(pointer).filter(|field| field.is_null()) else { continue };
        let Some(secret) = secret else {
            return Err(CallError::InvalidRequest("a credential of the body is missing in the Secret"));
        };
        *field = Value::String(secret.expose_secret().to_owned());
        is_filled = true;
    }
    if is_filled {
        let filled = serde_json::to_vec(&body).map_err(|_| CallError::InvalidRequest("the body cannot be written"))?;
        request.body = Some(filled.into());
    }
    Ok(())
}

/// Sets the `Authorization` header to `value`, scheme included.
pub(super) fn apply_bearer(value: &str, request: &mut Request) -> Result<(), CallError> {
    request.headers.insert(AUTHORIZATION, sensitive(value)?);
    Ok(())
}

fn header_name(name: &str) -> Result<HeaderName, CallError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| CallError::InvalidRequest("a credential's header name is not valid"))
}

fn sensitive(value: &str) -> Result<HeaderValue, CallError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| CallError::InvalidRequest("a credential cannot be sent in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}
