//! Why a token endpoint issued no usable token, and what is at fault: the credentials, the configuration or the endpoint.
//!
//! A closed set with our own texts: of the endpoint's answer only the error code of RFC 6749 §5.2 is read, and only to
//! choose one of them. A message that blames the Secret for a wrong URL costs its reader an afternoon.

/// Why a token endpoint issued no usable token.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum TokenFault {
    /// The client could not be authenticated: `invalid_client`, or 401 without a code.
    Client,
    /// The refresh token is not valid: `invalid_grant`.
    Grant,
    /// The client may not use the grant: `unauthorized_client`.
    ClientNotAllowed,
    /// The endpoint does not know the grant: `unsupported_grant_type`.
    GrantType,
    /// A scope is unknown or not allowed: `invalid_scope`.
    Scope,
    /// The request lacks something or has too much: `invalid_request`.
    Request,
    /// There is no token endpoint at the URL: 404, 405 or 410.
    NotFound,
    /// The URL redirects.
    Redirect,
    /// The endpoint rate limits the client.
    RateLimited,
    /// A success without a token: a login page, an empty body, an object with other fields.
    NoToken,
    /// A token that is empty or has characters that no header may hold.
    TokenCharacters,
    /// A token that is not used as a bearer token.
    TokenType,
}

impl TokenFault {
    /// All values.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::Client,
        Self::Grant,
        Self::ClientNotAllowed,
        Self::GrantType,
        Self::Scope,
        Self::Request,
        Self::NotFound,
        Self::Redirect,
        Self::RateLimited,
        Self::NoToken,
        Self::TokenCharacters,
        Self::TokenType,
    ];

    /// The fault of a response that refuses a token, with the error code in its body, if it has one.
    pub(crate) fn of_refusal(status: u16, code: Option<&str>) -> Option<Self> {
        match (status, code) {
            (_, Some("invalid_grant")) => Some(Self::Grant),
            // With 401 it is the client that was not authenticated, as Keycloak says of a wrong secret.
            (401, Some("unauthorized_client")) => Some(Self::Client),
            (_, Some("unauthorized_client")) => Some(Self::ClientNotAllowed),
            (_, Some("unsupported_grant_type")) => Some(Self::GrantType),
            (_, Some("invalid_scope")) => Some(Self::Scope),
            (400, Some("invalid_request")) => Some(Self::Request),
            (401, _) | (_, Some("invalid_client")) => Some(Self::Client),
            (404 | 405 | 410, _) => Some(Self::NotFound),
            (429, _) => Some(Self::RateLimited),
            (300..=399, _) => Some(Self::Redirect),
            _ => None,
        }
    }

    /// The cause and the remedy, as text for a condition's message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => {
                "the token endpoint rejected the client (invalid_client): correct client-id and client-secret in the \
                 Secret referenced by spec.auth; if they are right, check clientAuthentication"
            }
            Self::Grant => {
                "the token endpoint rejected the grant (invalid_grant): put a new refresh-token into the Secret \
                 referenced by spec.auth"
            }
            Self::ClientNotAllowed => {
                "the token endpoint does not allow this grant to the client (unauthorized_client): have the provider \
                 allow it, or use the other OAuth 2.0 member of spec.auth; the Secret is not at fault"
            }
            Self::GrantType => {
                "the token endpoint does not support the grant (unsupported_grant_type): use the other OAuth 2.0 member \
                 of spec.auth, or correct its tokenURL; the Secret is not at fault"
            }
            Self::Scope => {
                "the token endpoint rejected the scopes (invalid_scope): correct scopes in spec.auth; the Secret is not \
                 at fault"
            }
            Self::Request => {
                "the token endpoint rejected the request (invalid_request): check audience, scopes and \
                 clientAuthentication in spec.auth; the Secret is not at fault"
            }
            Self::NotFound => {
                "no token endpoint at the token URL: correct tokenURL or authBaseURL in spec.auth; the Secret is not at \
                 fault"
            }
            Self::Redirect => {
                "the token endpoint redirects, and credentials do not follow: set tokenURL in spec.auth to the target; \
                 the Secret is not at fault"
            }
            Self::RateLimited => {
                "the token endpoint rate limits the client: token requests are delayed; the Secret is not at fault"
            }
            Self::NoToken => {
                "the token endpoint responded without a token: check tokenURL in spec.auth, or contact the provider; the \
                 Secret is not at fault"
            }
            Self::TokenCharacters => {
                "the token endpoint issued a token that is empty or has characters that no header may hold: contact the \
                 provider; the Secret is not at fault"
            }
            Self::TokenType => {
                "the token endpoint issued a token of another type than Bearer: contact the provider; the Secret is not \
                 at fault"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_blamed_on_what_is_at_fault() {
        for (status, code, fault) in [
            (401, None, Some(TokenFault::Client)),
            (400, Some("invalid_client"), Some(TokenFault::Client)),
            (400, Some("invalid_grant"), Some(TokenFault::Grant)),
            (401, Some("invalid_grant"), Some(TokenFault::Grant)),
            (400, Some("invalid_scope"), Some(TokenFault::Scope)),
            (401, Some("unauthorized_client"), Some(TokenFault::Client)),
            (400, Some("unauthorized_client"), Some(TokenFault::ClientNotAllowed)),
            (404, None, Some(TokenFault::NotFound)),
            (404, Some("invalid_client"), Some(TokenFault::Client)),
            (405, Some("made_up"), Some(TokenFault::NotFound)),
            (302, None, Some(TokenFault::Redirect)),
            (403, None, None),
            (400, None, None),
            (503, None, None),
        ] {
            assert_eq!(TokenFault::of_refusal(status, code), fault, "{status} {code:?}");
        }
    }

    #[test]
    fn only_refused_credentials_are_blamed_on_the_secret() {
        for fault in TokenFault::ALL {
            let of_secret = matches!(fault, TokenFault::Client | TokenFault::Grant);
            assert_eq!(fault.as_str().contains("the Secret is not at fault"), !of_secret, "{fault:?}");
            assert!(fault.as_str().len() < 300, "{fault:?}");
        }
    }
}
