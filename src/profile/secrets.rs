//! Which headers and query parameters of a request have secret values.
//!
//! Credentials are added to a request last, so nothing that is stored or logged of a request contains them. A
//! provider's response may: it is redacted by value where the credentials are known (`provider::auth`).

use super::definition::Profile;

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
    use crate::profile::Profiles;

    #[test]
    fn every_place_of_a_profiles_key_is_secret() {
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
