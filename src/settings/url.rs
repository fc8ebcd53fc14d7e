//! URLs that are derived from the base URL.

use crate::profile::parse_base_url;

/// The URL of `path` on the host of `base`; `None` if `base` is not a valid base URL.
pub fn url_with_path(base: &str, path: &str) -> Option<String> {
    let mut url = parse_base_url(base).ok()?;
    url.set_path(path);
    Some(url.into())
}
