//! How an inline stream requests its pages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::records::HttpTimeEncoding;
use crate::api::v1alpha1::maps::Parameters;
use crate::api::v1alpha1::text::{DurationText, PointerText, ShortText};

string_enum!(
    /// How the next page is requested.
    HttpPagingKind = None {
        /// The response is the only page.
        None = "none",
        /// By number.
        Page = "page",
        /// By offset.
        Offset = "offset",
        /// By a token of the response.
        Token = "token",
        /// After the ID of the last record.
        LastRecordId = "lastRecordId",
        /// By a link in the body.
        NextUrl = "nextUrl",
        /// By a link in the header `Link`.
        LinkHeader = "linkHeader",
    }
);

string_enum!(
    /// Part of a request or response.
    HttpPlace = Body {
        /// The body.
        Body = "body",
        /// A header.
        Header = "header",
        /// The query.
        Query = "query",
    }
);

string_enum!(
    /// How a link is used.
    HttpLinkKind = Follow {
        /// Requested unchanged.
        Follow = "follow",
        /// Only these query parameters are used.
        TakeParams = "takeParams",
    }
);

string_enum!(
    /// Form of a body.
    HttpBodyKind = Json {
        /// JSON.
        Json = "json",
        /// A form.
        Form = "form",
    }
);

/// Where a response holds its token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTokenSource {
    /// `body` or `header`; required. Example: `kind: body`.
    pub kind: HttpPlace,
    /// JSON pointers; with `body`; at most 8. Unset: none. Example: `pointers: [/next]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub pointers: Option<Vec<PointerText>>,
    /// Name of the header; with `header`. Unset: none. Example: `name: x-next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ShortText>,
}

/// Where the next request carries the token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTokenTarget {
    /// `query` or `body`; required. Example: `kind: query`.
    pub kind: HttpPlace,
    /// Query parameter; with `query`. Unset: none. Example: `parameter: cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<ShortText>,
    /// JSON pointer; with `body`. Unset: none. Example: `pointer: /cursor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<PointerText>,
}

/// How a link to the next page is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpLink {
    /// `follow` or `takeParams`; required. Example: `kind: follow`.
    pub kind: HttpLinkKind,
    /// Query parameters; with `takeParams`; at most 8. Unset: none. Example: `parameters: [page]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub parameters: Option<Vec<ShortText>>,
}

/// How the next page is requested.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpPagination {
    /// Kind; required. Example: `kind: offset`.
    pub kind: HttpPagingKind,
    /// Query parameter of number, offset or ID. Unset: none. Example: `parameter: page`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<ShortText>,
    /// First number or offset. Unset: 0. Example: `first: 1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub first: Option<i64>,
    /// JSON pointers to the next page; at most 8. Unset: none. Example: `next: [/next]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub next: Option<Vec<PointerText>>,
    /// JSON pointers to the count of all records; at most 8. Unset: none. Example: `total: [/total]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub total: Option<Vec<PointerText>>,
    /// Query parameter of the page size. Unset: none. Example: `sizeParameter: limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_parameter: Option<ShortText>,
    /// Page size; from 1 to 100000. Unset: the provider's. Example: `size: 100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub size: Option<i64>,
    /// Where a response holds its token. Unset: none. Example: `from: {kind: body, pointers: [/next]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<HttpTokenSource>,
    /// Where a request carries it. Unset: none. Example: `to: {kind: query, parameter: cursor}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<HttpTokenTarget>,
    /// JSON pointer to whether there are more pages. Unset: none. Example: `more: /has_more`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<PointerText>,
    /// Relation of the link. Unset: `next`. Example: `rel: next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rel: Option<ShortText>,
    /// How a link is used. Unset: none. Example: `link: {kind: follow}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<HttpLink>,
}

/// Query parameters of the time window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpWindow {
    /// Parameter of the start; required. Example: `from: since`.
    pub from: ShortText,
    /// Parameter of the end. Unset: none. Example: `to: until`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<ShortText>,
    /// `strftime` format of both. Unset: `as` is set. Example: `format: "%Y-%m-%d"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<ShortText>,
    /// Encoding of both. Unset: `text`. Example: `as: epochSeconds`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub encoding: Option<HttpTimeEncoding>,
    /// Whether the provider excludes the end. Default: false. Example: `endExclusive: true`.
    #[serde(default)]
    pub end_exclusive: bool,
    /// How far back the first window starts; required. Example: `initial: 720h`.
    pub initial: DurationText,
    /// Overlap of windows; required. Example: `lookback: 24h`.
    pub lookback: DurationText,
    /// How long before now a window ends. Unset: it ends now. Example: `safetyLag: 15m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_lag: Option<DurationText>,
    /// Where a response states the range that the provider can show. Unset: nowhere. Example: `available: {from:
    /// /meta/first}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<HttpAvailable>,
}

/// Where a response states the range that the provider can show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpAvailable {
    /// JSON pointer to its start. Unset: none. Example: `from: /meta/first`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PointerText>,
    /// JSON pointer to its end. Unset: none. Example: `to: /meta/last`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<PointerText>,
}

/// Body of a POST.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpBody {
    /// `json` or `form`; required. Example: `kind: json`.
    pub kind: HttpBodyKind,
    /// Fields, with placeholders; at most 16; required. Example: `fields: {count: "{count}"}`.
    pub fields: Parameters,
}
