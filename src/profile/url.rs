//! Base URLs, as profiles and connections write them.

use reqwest::Url;

/// A text that cannot be a base URL.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(String);

/// Parses an absolute http(s) URL without user, query or fragment.
pub fn parse_base_url(text: &str) -> Result<Url, InvalidUrl> {
    let invalid = |problem: &str| Err(InvalidUrl(problem.to_owned()));
    if text.is_empty() {
        return invalid("the provider has no default URL: set one");
    }
    let url = Url::parse(text).map_err(|error| InvalidUrl(format!("not a valid URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return invalid("must be an http or https URL with a host");
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || url.query().is_some() || url.fragment().is_some() {
        return invalid("must have no user, query or fragment");
    }
    Ok(url)
}
