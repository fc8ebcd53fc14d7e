//! What must never be seen of a request: the names of headers and query parameters whose values are secret.
//!
//! Credentials are put into a request last, so nothing that is stored or told of one holds them. What a provider sends
//! back may: that is taken out by value, where the credentials are known (`provider::auth`).

use super::Profile;

/// Headers that only the call path writes, or that hold credentials: a profile's file is no place for a secret.
const OURS: [&str; 12] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// Whether a profile may write the header `name`; if not, why not.
pub(super) fn free_header(name: &str) -> Result<(), String> {
    if !super::wait::is_header(name) {
        return Err(format!("{name:?} is no header name"));
    }
    if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
        return Err(format!(
            "{name} is not a profile's to write: credentials belong under auth, the rest is set for you"
        ));
    }
    Ok(())
}

impl Profile {
    /// Whether the values of the query parameter `name` are secret.
    pub fn is_secret_query(&self, name: &str) -> bool {
        let of_auth = self.auth.iter().flat_map(|auth| &auth.query).map(|query| &query.name);
        self.secrets.query.iter().chain(of_auth).any(|secret| secret.eq_ignore_ascii_case(name))
    }

    /// Whether the values of the header `name` are secret.
    pub fn is_secret_header(&self, name: &str) -> bool {
        let of_auth = self.auth.iter().flat_map(|auth| &auth.headers).map(|header| &header.name);
        let always = ["authorization", "cookie", "set-cookie"].iter().any(|header| name.eq_ignore_ascii_case(header));
        always || self.secrets.headers.iter().chain(of_auth).any(|secret| secret.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use crate::provider::profile::Profiles;

    #[test]
    fn the_key_of_every_profile_is_a_secret_wherever_it_may_be_written() {
        let profiles = Profiles::builtin().unwrap();
        for (id, query, header) in [
            ("fmp", Some("apikey"), None),
            ("fred", Some("api_key"), None),
            ("polygon", Some("apiKey"), Some("Authorization")),
            ("newsapi", Some("apiKey"), Some("X-Api-Key")),
            ("mono", None, Some("mono-sec-key")),
            ("plaid", None, Some("PLAID-SECRET")),
            ("stripe", None, Some("authorization")),
        ] {
            let profile = profiles.get(id).unwrap();
            assert!(query.is_none_or(|name| profile.is_secret_query(name)), "{id}");
            assert!(header.is_none_or(|name| profile.is_secret_header(name)), "{id}");
        }
        assert!(!profiles.get("fmp").unwrap().is_secret_query("symbol"));
    }
}
