//! The URL of a request: the base URL's path, then the request's; never another origin, never above the base path.

use reqwest::Url;

use crate::provider::call::CallError;

/// The URL of a request for `path` and `query` below `base`.
pub(crate) fn request_url(base: &Url, path: &str, query: &[(String, String)]) -> Result<Url, CallError> {
    let (path, own_query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if !path.starts_with('/') || path.contains('#') || own_query.is_some_and(|query| query.contains('#')) {
        return Err(CallError::InvalidRequest("the path must start with / and have no fragment"));
    }
    // The URL standard treats an encoded dot as a dot, and a backslash as a slash.
    let has_dot_segments = path.split(['/', '\\']).any(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    });
    if has_dot_segments || path.contains('\\') {
        return Err(CallError::InvalidRequest("the path must not contain . or .. segments or a backslash"));
    }
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(own_query.filter(|query| !query.is_empty()));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, path: &str, query: &[(&str, &str)]) -> Result<String, CallError> {
        let query: Vec<_> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        request_url(&Url::parse(base).unwrap(), path, &query).map(String::from)
    }

    #[test]
    fn path_is_appended_to_the_base_url() {
        assert_eq!(joined("https://bank.test/v2/", "/accounts", &[]).unwrap(), "https://bank.test/v2/accounts");
        assert_eq!(
            joined("https://bank.test:8443", "/a?limit=1", &[("page", "2"), ("q", "a b&c")]).unwrap(),
            "https://bank.test:8443/a?limit=1&page=2&q=a+b%26c"
        );
    }

    #[test]
    fn path_cannot_leave_the_base_url() {
        for bad in ["accounts", "/../x", "/a/%2e%2E/x", "/a/./b", "/a#b", "/a\\..\\b", "", "/a?b#c"] {
            assert!(matches!(joined("https://bank.test/v2", bad, &[]), Err(CallError::InvalidRequest(_))), "{bad}");
        }
        assert_eq!(joined("https://bank.test", "//evil.test/x", &[]).unwrap(), "https://bank.test//evil.test/x");
        assert_eq!(joined("https://bank.test", "/@evil.test", &[]).unwrap(), "https://bank.test/@evil.test");
    }
}
