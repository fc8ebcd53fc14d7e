//! Patch streams: what changed since a token, rather than a list.

use std::collections::BTreeMap;

use super::definition::{CommitScope, Stream, WindowPlace};
use super::pagination::Pagination;

impl Stream {
    /// The values of the placeholders of the path: those of the parameters, and the bounds of the window if they are in
    /// the path. Without bounds, a text that stands for any.
    pub fn path_values(
        &self,
        parameters: &BTreeMap<String, String>,
        bounds: Option<(&str, &str)>,
    ) -> BTreeMap<String, String> {
        let mut values = parameters.clone();
        if let Some(window) = self.window.as_ref().filter(|window| window.place == WindowPlace::Path) {
            let (from, to) = bounds.unwrap_or(("window", "window"));
            values.insert(window.from.clone(), from.to_owned());
            values.extend(window.to.iter().map(|name| (name.clone(), to.to_owned())));
        }
        values
    }

    /// Whether the stream returns what changed since the token of the last complete walk, which is its cursor. Its
    /// pages take effect together, and an interrupted walk starts at that token again: what was added on a page and
    /// withdrawn since is on no page of a second walk.
    pub fn is_patch(&self) -> bool {
        let is_by_token = matches!(self.pagination, Pagination::Token { .. });
        is_by_token && self.window.is_none() && self.commit_scope == CommitScope::Window
    }
}
