//! How the next page of a stream is requested.

use schemars::JsonSchema;
use serde::Deserialize;

/// How the next page is requested.
///
/// Each kind defines its own end. A short page is never the end, because servers may return fewer records than
/// requested.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Pagination {
    /// Numbered pages, where the body links to the next one. Only the number is taken from that link; the link is never
    /// followed, because some providers return links to other hosts.
    Page {
        /// The query parameter of the page's number, in requests and in the link.
        parameter: String,
        /// The first page's number.
        first: u64,
        /// JSON pointers to the next page's link or number; none or an empty one is the end. Empty: pages are counted,
        /// up to the total; an empty page is the end.
        #[serde(default)]
        next: Vec<String>,
        /// JSON pointers to the count of all records of the window, which reveals a list that changes during the walk.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The requested page size.
        size: u64,
    },
    /// A list that is read from an offset. The next offset counts the records received, not those requested: a server
    /// may return fewer.
    Offset {
        /// The query parameter of the offset.
        parameter: String,
        /// The first offset.
        #[serde(default)]
        first: u64,
        /// JSON pointers to the count of all records. It marks the end and reveals a list that changes during the walk;
        /// without it, an empty page is the end, and a record deleted meanwhile may hide the one after it.
        #[serde(default)]
        total: Vec<String>,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The requested page size.
        size: u64,
    },
    /// A token that each response returns and the next request carries. Without `more`, a response without one is the
    /// end.
    Token {
        /// Where the response holds it.
        from: TokenSource,
        /// Where the next request carries it.
        to: TokenTarget,
        /// JSON pointer to whether there are more pages; decides even if the last page has a token.
        #[serde(default)]
        more: Option<String>,
        /// The query parameter of the page's size.
        #[serde(default)]
        size_parameter: Option<String>,
        /// The requested page size; only with `sizeParameter`.
        #[serde(default)]
        size: Option<u64>,
    },
    /// The next page starts after the ID of the previous page's last record.
    LastRecordId {
        /// The query parameter of the ID.
        parameter: String,
        /// JSON pointer to whether there are more pages; only `false` is the end.
        more: String,
        /// The query parameter of the page's size.
        size_parameter: String,
        /// The requested page size.
        size: u64,
    },
    /// The body links to the next page; no link is the end. A link to another host is never used, and credentials in a
    /// link are removed.
    NextUrl {
        /// JSON pointers to the link; none or an empty one is the end.
        next: Vec<String>,
        /// How it is used.
        link: LinkUse,
    },
    /// The header `Link` (RFC 8288) links to the next page; no such link is the end. Otherwise like `nextUrl`.
    LinkHeader {
        /// The relation of the link.
        #[serde(default = "next_relation")]
        rel: String,
        /// How it is used.
        link: LinkUse,
    },
    /// The response is the only page.
    None,
}

impl Pagination {
    /// The query parameter of the page's size, and the size; `None` where the provider decides.
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

    /// Whether pages have numbers or offsets, which only increase; otherwise they have tokens, which only differ.
    pub const fn is_numbered(&self) -> bool {
        matches!(self, Self::Page { .. } | Self::Offset { .. })
    }
}

fn next_relation() -> String {
    "next".to_owned()
}

/// Where a response holds its token.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TokenSource {
    /// In the body.
    Body {
        /// JSON pointers to it, tried in order.
        pointers: Vec<String>,
    },
    /// In a header.
    Header {
        /// The name.
        name: String,
    },
}

/// Where the next request carries the token.
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
        /// JSON pointer to the field; absent from the first request.
        pointer: String,
    },
}

/// How a link to the next page is used.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LinkUse {
    /// It is requested unchanged.
    Follow,
    /// Only these of its query parameters are used, with the stream's own path.
    TakeParams {
        /// The names.
        parameters: Vec<String>,
    },
}
