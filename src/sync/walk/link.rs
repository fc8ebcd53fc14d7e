//! Links to a next page, and which of them are followed.
//!
//! A provider chooses its links, so it could choose where credentials are sent. Of a link only the path below the
//! connection's base URL and the query are kept, and only if it leads to the origin of that URL; the request is built
//! anew, with the credentials of the connection. Credentials that a link carries are dropped before it is stored.

use percent_encoding::percent_decode_str;

use crate::profile::LinkUse;
use crate::provider::request_url::request_url;
use crate::settings::sync_plan::PlanEndpoint;

/// Longest link that is followed, in bytes: the length that servers accept.
const MAX_LINK: usize = 8 * 1024;
/// Query parameters that are credentials at every provider.
const SECRET_QUERY: [&str; 6] = ["access_token", "api_key", "apikey", "client_secret", "secret", "token_secret"];

/// Why a link is not used: our own text, with the link's origin at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// It leads to another origin.
    #[error(
        "the link to the next page leads to {origin}, which is not the origin of the connection; it is not followed"
    )]
    Foreign {
        /// Where it leads.
        origin: String,
    },
    /// It leads to a path that is not below the base URL.
    #[error("the link to the next page leads to a path outside of the base URL of the connection; it is not followed")]
    OutsideBase,
    /// It is no URL.
    #[error("the link to the next page is not a URL")]
    Invalid,
    /// It lacks what the profile takes from it.
    #[error("the link to the next page has none of the parameters {names}")]
    NoParameters {
        /// The names of the parameters.
        names: String,
    },
}

/// What is stored of a link: `/path?query` below the base URL, or the query parameters that the stream takes. `page` is
/// the path of the page that links, with its query, below the base URL.
pub(super) fn position(link: &str, used: &LinkUse, page: &str, endpoint: &PlanEndpoint) -> Result<String, LinkError> {
    let link = link.trim();
    if link.len() > MAX_LINK {
        return Err(LinkError::Invalid);
    }
    match used {
        LinkUse::Follow => followed(link, page, endpoint),
        LinkUse::TakeParams { parameters } => taken(link, parameters, endpoint),
    }
}

/// The parameters of a position that [`position`] took from a link.
pub(super) fn taken_parameters(position: &str) -> Vec<(String, String)> {
    pairs(position).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn followed(link: &str, page: &str, endpoint: &PlanEndpoint) -> Result<String, LinkError> {
    let base = &endpoint.base_url;
    let from = request_url(base, page, &[]).map_err(|_| LinkError::Invalid)?;
    let url = from.join(link).map_err(|_| LinkError::Invalid)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(LinkError::Invalid);
    }
    let has_login = !url.username().is_empty() || url.password().is_some();
    if url.origin() != base.origin() || has_login {
        return Err(LinkError::Foreign { origin: url.origin().ascii_serialization() });
    }
    let root = base.path().trim_end_matches('/');
    let path = url.path().strip_prefix(root).filter(|path| path.starts_with('/')).ok_or(LinkError::OutsideBase)?;
    let query: Vec<&str> = url.query().unwrap_or_default().split('&').filter(|pair| is_kept(pair, endpoint)).collect();
    let place = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
    // What could not be requested is refused here, before it is stored.
    let again = request_url(base, &place, &[]).map_err(|_| LinkError::Invalid)?;
    if again.origin() == base.origin() { Ok(place) } else { Err(LinkError::Invalid) }
}

/// The parameters alone: the host does not matter, because the link is not requested.
fn taken(link: &str, parameters: &[String], endpoint: &PlanEndpoint) -> Result<String, LinkError> {
    let query = link.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let wanted = |pair: &&str| {
        let name = decoded(pair.split_once('=').map_or(*pair, |(name, _)| name));
        parameters.contains(&name) && is_kept(pair, endpoint)
    };
    let found: Vec<&str> = query.split('&').filter(wanted).collect();
    if found.is_empty() {
        return Err(LinkError::NoParameters { names: parameters.join(", ") });
    }
    Ok(found.join("&"))
}

/// Whether a pair of a query is kept: it is no credential.
fn is_kept(pair: &str, endpoint: &PlanEndpoint) -> bool {
    let name = decoded(pair.split_once('=').map_or(pair, |(name, _)| name));
    let is_secret = |secret: &str| name.eq_ignore_ascii_case(secret);
    !pair.is_empty() && !SECRET_QUERY.into_iter().chain(endpoint.secret_query.iter().map(String::as_str)).any(is_secret)
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// The target of the first link with the relation `rel` in the values of the header `Link` (RFC 8288).
pub(super) fn header_target<'a>(values: impl Iterator<Item = &'a str>, rel: &str) -> Option<&'a str> {
    let mut links = values.flat_map(links_of);
    links.find_map(|(target, parameters)| has_relation(parameters, rel).then_some(target))
}

/// The targets of a header's value, each with its parameters. A comma within `<…>` or quotes separates nothing.
fn links_of(value: &str) -> Vec<(&str, &str)> {
    let (mut links, mut rest) = (Vec::new(), value);
    while let Some((_, after)) = rest.split_once('<') {
        let Some((target, after)) = after.split_once('>') else { break };
        let mut quoted = false;
        let end = after.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, next) = after.split_at(end.unwrap_or(after.len()));
        links.push((target.trim(), parameters));
        rest = next;
    }
    links
}

/// Whether the parameters of a link name the relation, which may be one of several: `rel="next last"`.
fn has_relation(parameters: &str, rel: &str) -> bool {
    parameters.split(';').any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let is_rel = name.trim().eq_ignore_ascii_case("rel");
        is_rel && value.trim().trim_matches('"').split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(rel))
    })
}

/// The query of a request without the parameters that a link replaces.
pub(super) fn without(query: Vec<(String, String)>, taken: &[(String, String)]) -> Vec<(String, String)> {
    query.into_iter().filter(|(name, _)| !taken.iter().any(|(other, _)| other == name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str) -> PlanEndpoint {
        PlanEndpoint { base_url: base.parse().unwrap(), secret_query: vec!["apiKey".to_owned()] }
    }

    fn follow(link: &str) -> Result<String, LinkError> {
        let bank = endpoint("https://bank.test/v2/");
        let place = position(link, &LinkUse::Follow, "/accounts/1/rows?limit=2", &bank)?;
        Ok(request_url(&bank.base_url, &place, &[]).unwrap().into())
    }

    #[test]
    fn a_link_to_the_own_origin_is_followed_without_credentials() {
        for (link, url) in [
            ("https://bank.test/v2/accounts/1/rows?page=2", "https://bank.test/v2/accounts/1/rows?page=2"),
            ("https://BANK.test:443/v2/rows?cursor=a%2Fb%3D", "https://bank.test/v2/rows?cursor=a%2Fb%3D"),
            ("/v2/rows?page=2#top", "https://bank.test/v2/rows?page=2"),
            ("?page=2", "https://bank.test/v2/accounts/1/rows?page=2"),
            ("rows2", "https://bank.test/v2/accounts/1/rows2"),
            ("../2/rows", "https://bank.test/v2/accounts/2/rows"),
            ("//bank.test/v2/rows", "https://bank.test/v2/rows"),
            ("/v2/rows?apikey=K&page=2&access_token=T", "https://bank.test/v2/rows?page=2"),
            ("/v2/rows?api%4bey=K", "https://bank.test/v2/rows"),
        ] {
            assert_eq!(follow(link).as_deref(), Ok(url), "{link}");
        }
    }

    #[test]
    fn a_link_elsewhere_is_not_followed() {
        for link in [
            "https://evil.test/v2/rows",
            "http://bank.test/v2/rows",
            "https://bank.test:8443/v2/rows",
            "//evil.test/v2/rows",
            "https://bank.test@evil.test/v2/rows",
            "https://user:secret@bank.test/v2/rows",
            "https:\\\\evil.test\\v2\\rows",
            "https://bank.test.evil.test/v2/rows",
        ] {
            assert!(matches!(follow(link), Err(LinkError::Foreign { .. })), "{link}: {:?}", follow(link));
        }
        for link in ["https://bank.test/rows?page=2", "/v1/rows", "/v2x/rows", "/v2/../v1/rows", "/"] {
            assert_eq!(follow(link), Err(LinkError::OutsideBase), "{link}");
        }
        let long = format!("/v2/rows?cursor={}", "x".repeat(MAX_LINK));
        for link in ["javascript:alert(1)", "file:///etc/passwd", "https://", long.as_str()] {
            assert_eq!(follow(link), Err(LinkError::Invalid), "{link}");
        }
    }

    #[test]
    fn only_declared_parameters_are_taken_from_a_link() {
        let used = LinkUse::TakeParams { parameters: vec!["page".into(), "apiKey".into()] };
        let take = |link: &str| position(link, &used, "/rows", &endpoint("https://bank.test"));
        assert_eq!(take("https://elsewhere.test/v2/x?limit=9&page=2&apiKey=K#end").as_deref(), Ok("page=2"));
        assert_eq!(take("?p%61ge=a%26b").as_deref(), Ok("p%61ge=a%26b"));
        assert_eq!(taken_parameters("p%61ge=a%26b+c"), [("page".to_owned(), "a&b c".to_owned())]);
        assert_eq!(take("/rows?limit=9"), Err(LinkError::NoParameters { names: "page, apiKey".into() }));
    }

    #[test]
    fn the_header_link_is_read_by_its_relation() {
        let values = [
            r#"<https://bank.test/rows?page=1>; rel="prev""#,
            r#"</rows?a=1,2&page=3>; title="next, please"; rel="last next"; type="x", </rows?page=9>; rel=last"#,
        ];
        let target = |rel| header_target(values.into_iter(), rel);
        assert_eq!(target("next"), Some("/rows?a=1,2&page=3"));
        assert_eq!(target("PREV"), Some("https://bank.test/rows?page=1"));
        assert_eq!(target("first"), None);
        assert_eq!(header_target(["<broken", "rel=next", ""].into_iter(), "next"), None);
    }
}
