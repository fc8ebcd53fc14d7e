//! How one page of a stream leads to the next.

use schemars::JsonSchema;
use serde::Deserialize;

/// How one page leads to the next.
///
/// Each kind says what its end is; that a page is short never is one, because servers give less than they are asked for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Pagination {
    /// Numbered pages, where the body links to the next one. Only the number is taken out of that link: it is never
    /// followed, because providers are known to print links that lead elsewhere.
    Page {
        /// The query parameter, in requests and in the link.
        parameter: String,
        /// The first page's number.
        first: u64,
        /// Pointers to the next page's link or number; no value or an empty one is the end.
        next: Vec<String>,
        /// Pointers to the count of all records of the window, which shows a list that changes under the walk.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// A list that is read from a place on. The next place is what was read so far, not what was asked for: a server may
    /// give less than it is asked for.
    Offset {
        /// The query parameter of the place.
        parameter: String,
        /// The first place.
        #[serde(default)]
        first: u64,
        /// Pointers to the count of all records. It tells the end, and shows a list that changes under the walk; without
        /// one, an empty page is the end, and a record that vanishes meanwhile may hide its neighbour.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// A token that each answer gives and the next request carries. Without `more`, an answer without one is the end.
    Token {
        /// Where the answer has it.
        from: TokenSource,
        /// Where the next request has it.
        to: TokenTarget,
        /// Pointer to whether there is more; it decides, also where a token is given with the last page.
        #[serde(default)]
        more: Option<String>,
        /// The query parameter of the page's size.
        #[serde(default)]
        size_parameter: Option<String>,
        /// The page size asked for; with `sizeParameter`.
        #[serde(default)]
        size: Option<u64>,
    },
    /// The next page begins behind the id of the last record of the page before.
    LastRecordId {
        /// The query parameter that carries the id.
        parameter: String,
        /// Pointer to whether there is more: `false` is the end, and nothing else is.
        more: String,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The page size asked for.
        size: u64,
    },
    /// The body links to the next page; no link is the end. Whether followed or not, a link never leaves the connection's
    /// own host, and credentials in it are dropped.
    NextUrl {
        /// Pointers to the link; no value or an empty one is the end.
        next: Vec<String>,
        /// What is done with it.
        link: LinkUse,
    },
    /// The header `Link` (RFC 8288) has the next page; no such link is the end. Otherwise like `nextUrl`.
    LinkHeader {
        /// The relation of the link.
        #[serde(default = "next")]
        rel: String,
        /// What is done with it.
        link: LinkUse,
    },
    /// The whole answer is one page.
    None,
}

impl Pagination {
    /// The query parameter of the page's size, and the size; none where the provider decides.
    pub fn page_size(&self) -> Option<(&str, u64)> {
        match self {
            Self::Page { size_parameter, size, .. }
            | Self::Offset { size_parameter, size, .. }
            | Self::LastRecordId { size_parameter, size, .. }
            | Self::Token { size_parameter: Some(size_parameter), size: Some(size), .. } => {
                Some((size_parameter, *size))
            }
            Self::Token { .. } | Self::NextUrl { .. } | Self::LinkHeader { .. } | Self::None => None,
        }
    }

    /// Whether pages have numbers or places, which only ever grow; otherwise they have names, which only differ.
    pub const fn is_numbered(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Offset { .. })
    }
}

fn next() -> String {
    "next".to_owned()
}

/// Where an answer has its token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TokenSource {
    /// In the body.
    Body {
        /// Pointers to it, tried in order.
        pointers: Vec<String>,
    },
    /// In a header.
    Header {
        /// Its name.
        name: String,
    },
}

/// Where the next request has the token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TokenTarget {
    /// In the query.
    Query {
        /// The parameter.
        parameter: String,
    },
    /// In the JSON body.
    Body {
        /// Pointer to the field; the first request goes without.
        pointer: String,
    },
}

/// What is done with a link to the next page.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LinkUse {
    /// It is asked for as it is.
    Follow,
    /// Only these query parameters are taken out of it, for the stream's own path.
    TakeParams {
        /// Their names.
        parameters: Vec<String>,
    },
}
