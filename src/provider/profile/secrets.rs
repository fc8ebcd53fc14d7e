//! What must never be seen of a request: the names of headers and query parameters whose values are secret.
//!
//! Credentials are put into a request last, so nothing that is stored or told of one holds them. What a provider sends
//! back may: a link to the next page with the key in it.

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

    /// A link as it may be kept or shown: without user, fragment, and the query parameters whose values are secret.
    pub fn without_secrets(&self, link: &str) -> String {
        let link = link.split('#').next().unwrap_or(link);
        let (path, query) = link.split_once('?').map_or((link, None), |(path, query)| (path, Some(query)));
        let path = match path.split_once("://") {
            Some((scheme, rest)) => {
                let (host, below) = rest.split_once('/').map_or((rest, None), |(host, below)| (host, Some(below)));
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                below.map_or_else(|| format!("{scheme}://{host}"), |below| format!("{scheme}://{host}/{below}"))
            }
            None => path.to_owned(),
        };
        let kept: Vec<&str> = query
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or(pair);
                let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
                !pair.is_empty() && !self.is_secret_query(&name)
            })
            .collect();
        if kept.is_empty() { path } else { format!("{path}?{}", kept.join("&")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::provider::profile::Profiles;

    #[test]
    fn a_link_loses_its_secrets_and_nothing_else() {
        let profiles = Profiles::builtin().unwrap();
        let fmp = profiles.get("fmp").unwrap();
        for (link, kept) in [
            ("https://x.test/quote?symbol=A&apikey=canary&limit=2", "https://x.test/quote?symbol=A&limit=2"),
            ("https://user:canary@x.test/?%61pikey=canary#canary", "https://x.test/"),
            ("/quote?ApiKey=canary", "/quote"),
            ("/quote?symbol=A", "/quote?symbol=A"),
        ] {
            assert_eq!(fmp.without_secrets(link), kept);
        }
    }

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
